//! Files and directories.

use std::io;
use std::path::Path;
use std::rc::Rc;

use runtime::{Buffer, File, Frozen, Io, Oneshot, OpenMode, TaskClass};
use uring::{UringFrozen, UringIo};

use crate::{TestDirectory, on_executor, say};

fn pattern(io: &UringIo, len: usize, seed: u8) -> UringFrozen {
    let mut buffer = io.buffer(len);
    for (index, byte) in buffer.as_mut().iter_mut().enumerate() {
        *byte = (index / 4096) as u8 ^ index as u8 ^ seed;
    }
    buffer.freeze()
}

#[test]
fn reads_return_what_was_written_at_any_alignment() {
    let directory = TestDirectory::new("reads");
    let path = directory.path().join("file");
    on_executor(|io| async move {
        for mode in [OpenMode::Write, OpenMode::WriteDurable] {
            let file = io.open(&path, mode).await.unwrap();
            let data = pattern(&io, 5 << 20, 3);
            file.write_at(data.clone(), 4096).await.unwrap();
            file.truncate(4096 + (5 << 20) - 10).await.unwrap();
            let end = file.len().await.unwrap() as usize;
            assert_eq!(end, 4096 + (5 << 20) - 10);
            let mut content = vec![0; 4096];
            content.extend_from_slice(data.as_ref());
            content.truncate(end);
            for (position, len) in [
                (0, 1),
                (0, 4096),
                (4095, 2),
                (5000, 100_000),
                (1, end),
                (end - 1, 1),
                (end - 1, 100),
                (end, 10),
                (end + 10_000, 10),
                (4096, 5 << 20),
            ] {
                let read = file.read_at(position as u64, len).await.unwrap();
                let expected = &content[position.min(end)..(position + len).min(end)];
                assert!(read == expected, "{len} bytes at {position}");
            }
            assert!(file.read_at(u64::MAX - 5, 10).await.unwrap().is_empty());
            file.sync_data().await.unwrap();
            file.close().await.unwrap();
            io.remove_file(&path).await.unwrap();
        }
    });
}

#[test]
fn shortened_and_shared_buffers_write_their_visible_bytes() {
    let directory = TestDirectory::new("shortened");
    let path = directory.path().join("file");
    on_executor(|io| async move {
        let file = io.open(&path, OpenMode::Write).await.unwrap();
        let mut buffer = io.buffer(64 << 10);
        buffer.as_mut().fill(9);
        buffer.truncate(8192);
        let frozen = buffer.freeze();
        let bytes = frozen.bytes();
        file.write_at(frozen.clone(), 0).await.unwrap();
        file.write_at(frozen, 8192).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 16384);
        assert_eq!(file.read_at(8190, 10).await.unwrap(), [9; 10][..]);
        assert_eq!(bytes, [9; 8192][..]);
        assert_eq!(io.pool_idle_bytes(), 0);
        drop(bytes);
        assert_eq!(io.pool_idle_bytes(), 64 << 10);
    });
}

#[test]
fn many_writes_may_be_in_flight() {
    let directory = TestDirectory::new("in-flight");
    let path = directory.path().join("file");
    on_executor(|io| async move {
        let file = Rc::new(io.open(&path, OpenMode::Write).await.unwrap());
        file.allocate(64 * 8192).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 64 * 8192);
        let ends: Vec<_> = (0..64_u64)
            .map(|index| {
                let (io, file, end) = (io.clone(), Rc::clone(&file), Oneshot::new());
                let done = end.clone();
                io.clone().spawn(TaskClass::Foreground, async move {
                    let data = pattern(&io, 8192, index as u8);
                    done.set(file.write_at(data, index * 8192).await);
                });
                end
            })
            .collect();
        for end in ends {
            end.take().await.unwrap();
        }
        file.sync_data().await.unwrap();
        for index in 0..64_u64 {
            let read = file.read_at(index * 8192, 8192).await.unwrap();
            assert!(read == pattern(&io, 8192, index as u8).as_ref(), "{index}");
        }
    });
}

#[test]
fn errors_keep_their_kind() {
    let directory = TestDirectory::new("errors");
    let root = directory.path();
    on_executor(|io| async move {
        let absent = io.open(&root.join("absent"), OpenMode::Read).await;
        assert_eq!(absent.err().unwrap().kind(), io::ErrorKind::NotFound);
        let absent = io.open(&root.join("no/such/file"), OpenMode::Write).await;
        assert_eq!(absent.err().unwrap().kind(), io::ErrorKind::NotFound);
        let file = io.open(&root.join("file"), OpenMode::Write).await.unwrap();
        let misplaced = file.write_at(pattern(&io, 4096, 0), 100).await;
        assert_eq!(misplaced.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        drop(file);
        let file = io.open(&root.join("file"), OpenMode::Read).await.unwrap();
        let refused = file.write_at(pattern(&io, 4096, 0), 0).await;
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(9), "EBADF");
        // More than any file system grants: the error arrives, and nothing unwinds.
        let file = io.open(&root.join("large"), OpenMode::Write).await.unwrap();
        assert!(file.allocate(1 << 60).await.is_err());
        assert!(file.truncate(u64::MAX).await.is_err());
    });
}

#[test]
fn directories() {
    let directory = TestDirectory::new("directories");
    let root = directory.path();
    on_executor(|io| async move {
        let deep = root.join("a/b/c");
        io.create_dir_all(&deep).await.unwrap();
        io.create_dir_all(&deep).await.unwrap();
        for name in ["z", "y", "x"] {
            let file = io.open(&deep.join(name), OpenMode::Write).await.unwrap();
            file.close().await.unwrap();
        }
        io.rename(&deep.join("z"), &deep.join("w")).await.unwrap();
        io.sync_dir(&deep).await.unwrap();
        io.sync_file_system(&deep).await.unwrap();
        let names = io.read_dir(&deep).await.unwrap();
        assert_eq!(names, ["w", "x", "y"].map(Path::new));
        io.remove_file(&deep.join("w")).await.unwrap();
        io.remove_file(&deep.join("w")).await.unwrap();
        io.remove_dir_all(&root.join("a")).await.unwrap();
        io.remove_dir_all(&root.join("a")).await.unwrap();
        assert!(io.read_dir(&root.join("a")).await.is_err());
    });
}

#[test]
fn memory_file_systems_work_without_direct_io() {
    let root = Path::new("/dev/shm").join(format!("ringlog-uring-{}", std::process::id()));
    if std::fs::create_dir(&root).is_err() {
        say("SKIPPED: /dev/shm cannot be written to");
        return;
    }
    let directory = root.clone();
    on_executor(|io| async move {
        let file = io
            .open(&directory.join("file"), OpenMode::WriteDurable)
            .await;
        let file = file.unwrap();
        let data = pattern(&io, 8192, 1);
        file.write_at(data.clone(), 0).await.unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(file.read_at(1, 9000).await.unwrap(), data.as_ref()[1..]);
    });
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_fresh_directory_reads_after_its_first_write() {
    // A new thread has asked no device yet, so glommio's trial read would meet an empty file.
    let directory = TestDirectory::new("fresh");
    let path = directory.path().join("file");
    std::thread::spawn(move || {
        on_executor(|io| async move {
            let file = io.open(&path, OpenMode::Write).await.unwrap();
            file.allocate(1 << 20).await.unwrap();
            file.write_at(pattern(&io, 4096, 5), 0).await.unwrap();
            assert_eq!(
                file.read_at(0, 4096).await.unwrap(),
                pattern(&io, 4096, 5).as_ref()
            );
        });
    })
    .join()
    .unwrap();
}
