//! Descriptors: none is left behind.

use std::fs;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::{File, Io, OpenMode, Stream};

use crate::sockets::pair;
use crate::{TestDirectory, on_executor};

/// Open descriptors that are sockets or lie in `directory`: other tests of this process open and close their own.
fn descriptors(kind: &str) -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().contains(kind))
        .count()
}

#[test]
fn files_close() {
    let directory = TestDirectory::new("leaks-files");
    let root = directory.path();
    on_executor(|io| async move {
        let kind = root.to_string_lossy().into_owned();
        for round in 0..100 {
            let file = io.open(&root.join("file"), OpenMode::Write).await.unwrap();
            file.truncate(100).await.unwrap();
            // Half are closed, half dropped.
            if round % 2 == 0 {
                file.close().await.unwrap();
            }
        }
        io.sleep(Duration::from_millis(20)).await;
        assert_eq!(descriptors(&kind), 0);
    });
}

#[test]
fn sockets_close() {
    on_executor(|io| async move {
        let mut inodes = Vec::new();
        for round in 0..100 {
            let (client, server) = pair(&io).await;
            client
                .write_all(&mut vec![Bytes::from_static(b"request")])
                .await
                .unwrap();
            let mut buffer = BytesMut::with_capacity(100);
            server.read(&mut buffer).await.unwrap();
            if round % 2 == 0 {
                client.shutdown();
            }
            inodes.push((client.local_addr().unwrap(), server.local_addr().unwrap()));
        }
        io.sleep(Duration::from_millis(20)).await;
        let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
        // A socket that a process holds has an inode; one in TIME_WAIT has none.
        let held = |port: u16| {
            table
                .lines()
                .skip(1)
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .any(|columns| columns[1].ends_with(&format!(":{port:04X}")) && columns[9] != "0")
        };
        for (client, server) in inodes {
            assert!(!held(client.port()) && !held(server.port()));
        }
    });
}
