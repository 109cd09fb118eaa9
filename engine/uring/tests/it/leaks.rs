//! Descriptors: none is left behind.

use std::fs;
use std::net::SocketAddr;
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
        let mut connections = Vec::new();
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
            connections.push((client.local_addr().unwrap(), server.local_addr().unwrap()));
        }
        let mut waits = 0;
        while connections.iter().any(|&pair| held(pair)) {
            waits += 1;
            assert!(waits < 100, "a connection is still there");
            io.sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Whether a process holds one of the two ends of a connection: such a socket has an inode, one in TIME_WAIT has none.
pub(crate) fn held((client, server): (SocketAddr, SocketAddr)) -> bool {
    let ends = [client, server].map(|address| format!(":{:04X}", address.port()));
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns[9] != "0")
        .any(|columns| {
            ends.iter().any(|end| columns[1].ends_with(end))
                && ends.iter().any(|end| columns[2].ends_with(end))
        })
}
