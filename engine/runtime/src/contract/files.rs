//! Promises about the bytes of files.

use std::rc::Rc;

use super::{Setup, frozen, pattern, start};
use crate::buffer::{ALIGNMENT, Buffer, Frozen};
use crate::file::{File, OpenMode};
use crate::io::Io;

const PAGE: usize = ALIGNMENT;

pub(super) async fn writes_are_read_back_at_their_offsets<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let path = directory.join("file");
    let file = io.open(&path, OpenMode::Write).await.unwrap();
    let (first, second) = (pattern(1, 2 * PAGE), pattern(2, PAGE));
    file.write_at(frozen(&io, &first), 0).await.unwrap();
    file.write_at(frozen(&io, &second), 5 * PAGE as u64)
        .await
        .unwrap();
    assert_eq!(file.read_at(0, 2 * PAGE).await.unwrap(), first);
    assert_eq!(file.read_at(5 * PAGE as u64, PAGE).await.unwrap(), second);
    let third = pattern(3, PAGE);
    file.write_at(frozen(&io, &third), PAGE as u64)
        .await
        .unwrap();
    let whole = file.read_at(0, 2 * PAGE).await.unwrap();
    assert_eq!(whole[..PAGE], first[..PAGE], "neighbours stay");
    assert_eq!(whole[PAGE..], third, "the last write wins");
    assert_eq!(file.len().await.unwrap(), 6 * PAGE as u64);
    file.close().await.unwrap();
    let file = io.open(&path, OpenMode::Read).await.unwrap();
    assert_eq!(file.read_at(0, 2 * PAGE).await.unwrap(), whole);
}

pub(super) async fn unaligned_reads_give_exactly_the_bytes_asked_for<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let file = io.open(&directory.join("file"), OpenMode::Write).await;
    let file = file.unwrap();
    let bytes = pattern(4, 3 * PAGE);
    file.write_at(frozen(&io, &bytes), 0).await.unwrap();
    for (position, len) in [
        (0, 1),
        (1, 1),
        (511, 2),
        (PAGE - 1, 1),
        (PAGE - 1, 2),
        (PAGE, PAGE),
        (7, 2 * PAGE),
        (PAGE + 1, PAGE - 1),
        (2 * PAGE + 100, PAGE - 100),
        (3 * PAGE - 1, 1),
        (100, 0),
    ] {
        let read = file.read_at(position as u64, len).await.unwrap();
        assert_eq!(read, bytes[position..position + len], "{len} at {position}");
    }
}

pub(super) async fn reads_at_the_end_are_short_and_beyond_it_empty<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let path = directory.join("file");
    let file = io.open(&path, OpenMode::Write).await.unwrap();
    assert!(file.read_at(0, PAGE).await.unwrap().is_empty());
    let bytes = pattern(5, 2 * PAGE);
    file.write_at(frozen(&io, &bytes), 0).await.unwrap();
    // Memory that was just used elsewhere must not show up behind the end.
    let other = io.open(&directory.join("other"), OpenMode::Write).await;
    let other = other.unwrap();
    other
        .write_at(frozen(&io, &pattern(6, 8 * PAGE)), 0)
        .await
        .unwrap();
    drop(other.read_at(0, 8 * PAGE).await.unwrap());
    for (position, len, expected) in [
        (0, 8 * PAGE, 2 * PAGE),
        (PAGE, 2 * PAGE, PAGE),
        (PAGE + 5, 2 * PAGE, PAGE - 5),
        (2 * PAGE - 1, 100, 1),
        (2 * PAGE, 1, 0),
        (2 * PAGE + 17, PAGE, 0),
        (100 * PAGE, PAGE, 0),
    ] {
        let read = file.read_at(position as u64, len).await.unwrap();
        assert_eq!(read.len(), expected, "{len} at {position}");
        assert_eq!(read[..], bytes[position.min(2 * PAGE)..][..expected]);
    }
    // An end that is not aligned.
    file.truncate(PAGE as u64 + 100).await.unwrap();
    let read = file.read_at(PAGE as u64 - 10, PAGE).await.unwrap();
    assert_eq!(read, bytes[PAGE - 10..PAGE + 100]);
    assert!(
        file.read_at(PAGE as u64 + 100, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        file.read_at(PAGE as u64 + 200, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(super) async fn holes_and_allocated_space_read_as_zeros<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let file = io.open(&directory.join("file"), OpenMode::Write).await;
    let file = file.unwrap();
    file.allocate(4 * PAGE as u64).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 4 * PAGE as u64);
    let bytes = pattern(7, PAGE);
    file.write_at(frozen(&io, &bytes), 2 * PAGE as u64)
        .await
        .unwrap();
    file.write_at(frozen(&io, &bytes), 9 * PAGE as u64)
        .await
        .unwrap();
    let whole = file.read_at(0, 20 * PAGE).await.unwrap();
    assert_eq!(whole.len(), 10 * PAGE);
    for (page, chunk) in whole.chunks(PAGE).enumerate() {
        let expected = if page == 2 || page == 9 {
            bytes.clone()
        } else {
            vec![0; PAGE]
        };
        assert_eq!(chunk, expected, "page {page}");
    }
}

pub(super) async fn allocate_never_shrinks_a_file<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let file = io.open(&directory.join("file"), OpenMode::Write).await;
    let file = file.unwrap();
    let bytes = pattern(8, 2 * PAGE);
    file.write_at(frozen(&io, &bytes), 0).await.unwrap();
    file.allocate(PAGE as u64).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 2 * PAGE as u64);
    file.allocate(8 * PAGE as u64).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 8 * PAGE as u64);
    assert_eq!(file.read_at(0, 2 * PAGE).await.unwrap(), bytes);
}

pub(super) async fn truncate_cuts_and_extends_with_zeros<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let file = io.open(&directory.join("file"), OpenMode::Write).await;
    let file = file.unwrap();
    let bytes = pattern(9, 2 * PAGE);
    file.write_at(frozen(&io, &bytes), 0).await.unwrap();
    file.truncate(PAGE as u64 + 7).await.unwrap();
    assert_eq!(file.len().await.unwrap(), PAGE as u64 + 7);
    file.truncate(3 * PAGE as u64).await.unwrap();
    let whole = file.read_at(0, 4 * PAGE).await.unwrap();
    assert_eq!(whole.len(), 3 * PAGE);
    assert_eq!(whole[..PAGE + 7], bytes[..PAGE + 7]);
    assert!(
        whole[PAGE + 7..].iter().all(|byte| *byte == 0),
        "what was cut does not come back"
    );
    file.truncate(0).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 0);
    assert!(file.read_at(0, PAGE).await.unwrap().is_empty());
}

pub(super) async fn many_writes_in_flight_land_where_they_belong<I: Io>(setup: Setup<I>) {
    const WRITES: u64 = 32;
    let Setup { io, directory } = setup;
    for mode in [OpenMode::Write, OpenMode::WriteDurable] {
        let path = directory.join(format!("{mode:?}"));
        let file = Rc::new(io.open(&path, mode).await.unwrap());
        file.allocate(WRITES * 2 * PAGE as u64).await.unwrap();
        let results: Vec<_> = (0..WRITES)
            .map(|number| {
                let (file, memory) = (Rc::clone(&file), frozen(&io, &pattern(number, 2 * PAGE)));
                start(&io, async move {
                    file.write_at(memory, number * 2 * PAGE as u64).await
                })
            })
            .collect();
        for result in results {
            result.take().await.unwrap();
        }
        file.sync_data().await.unwrap();
        let reads: Vec<_> = (0..WRITES)
            .map(|number| {
                let file = Rc::clone(&file);
                start(&io, async move {
                    file.read_at(number * 2 * PAGE as u64, 2 * PAGE).await
                })
            })
            .collect();
        for (number, read) in reads.into_iter().enumerate() {
            let expected = pattern(number as u64, 2 * PAGE);
            assert_eq!(read.take().await.unwrap(), expected, "write {number}");
        }
    }
}

pub(super) async fn frozen_memory_outlives_buffers_and_files<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let file = io.open(&directory.join("file"), OpenMode::Write).await;
    let file = file.unwrap();
    let expected = pattern(10, 3 * PAGE);
    let memory = frozen(&io, &expected);
    let bytes = memory.bytes();
    let part = bytes.slice(100..PAGE + 100);
    file.write_at(memory.clone(), 0).await.unwrap();
    let read = file.read_at(0, 3 * PAGE).await.unwrap();
    assert_eq!(memory.as_ref(), expected);
    drop(memory);
    drop(bytes);
    // New memory must not be the memory that `part` and `read` still hold.
    for tag in 11..40 {
        file.write_at(frozen(&io, &pattern(tag, 3 * PAGE)), 0)
            .await
            .unwrap();
        drop(file.read_at(0, 3 * PAGE).await.unwrap());
    }
    file.close().await.unwrap();
    assert_eq!(part, expected[100..PAGE + 100]);
    assert_eq!(read, expected);
    drop(part);
    drop(read);
}

pub(super) async fn buffers_are_aligned_in_length_and_writable<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    for (asked, least) in [(1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)] {
        let mut buffer = io.buffer(asked);
        let len = buffer.as_ref().len();
        assert!(len >= least && len.is_multiple_of(PAGE), "{len} of {asked}");
        assert!(buffer.capacity() >= len);
        buffer.as_mut().fill(0x5A);
        assert!(buffer.as_ref().iter().all(|byte| *byte == 0x5A));
    }
    let mut buffer = io.buffer(4 * PAGE);
    buffer.as_mut().fill(1);
    let capacity = buffer.capacity();
    buffer.truncate(PAGE);
    assert_eq!(buffer.as_ref().len(), PAGE);
    assert_eq!(buffer.capacity(), capacity);
    let memory = buffer.freeze();
    assert_eq!(memory.as_ref(), vec![1; PAGE]);
    assert_eq!(memory.bytes(), vec![1; PAGE]);
}

pub(super) async fn open_modes_permit_what_they_say<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let path = directory.join("file");
    let missing = io.open(&path, OpenMode::Read).await;
    let error = missing.err().expect("reading does not create");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    let bytes = pattern(12, PAGE);
    for (mode, position) in [(OpenMode::Write, 0), (OpenMode::WriteDurable, PAGE)] {
        let file = io.open(&path, mode).await.unwrap();
        file.write_at(frozen(&io, &bytes), position as u64)
            .await
            .unwrap();
        let read = file.read_at(position as u64, PAGE).await.unwrap();
        assert_eq!(read, bytes, "{mode:?} reads too");
    }
    let file = io.open(&path, OpenMode::Read).await.unwrap();
    assert_eq!(
        file.len().await.unwrap(),
        2 * PAGE as u64,
        "opening does not cut"
    );
    assert_eq!(file.read_at(0, PAGE).await.unwrap(), bytes);
    let refused = file.write_at(frozen(&io, &bytes), 0).await;
    assert!(refused.is_err(), "a file for reading was written");
}

pub(super) async fn syncs_succeed_on_what_was_written<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    for mode in [OpenMode::Write, OpenMode::WriteDurable] {
        let path = directory.join(format!("{mode:?}"));
        let file = io.open(&path, mode).await.unwrap();
        file.sync_data().await.unwrap();
        file.write_at(frozen(&io, &pattern(13, PAGE)), 0)
            .await
            .unwrap();
        file.sync_data().await.unwrap();
        file.sync_data().await.unwrap();
        io.sync_dir(&directory).await.unwrap();
        file.close().await.unwrap();
    }
    io.sync_file_system(&directory).await.unwrap();
}

pub(super) async fn what_is_left_of_a_file_system_is_no_more_than_there_is<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let space = io.file_system_space(&directory).await.unwrap();
    assert!(space.total_bytes > 0);
    assert!(space.available_bytes <= space.total_bytes, "{space:?}");
}

pub(super) async fn a_file_may_be_read_while_it_is_written<I: Io>(setup: Setup<I>) {
    const PAGES: u64 = 24;
    let Setup { io, directory } = setup;
    let path = directory.join("file");
    let file = Rc::new(io.open(&path, OpenMode::Write).await.unwrap());
    file.allocate(PAGES * PAGE as u64).await.unwrap();
    file.write_at(frozen(&io, &pattern(0, PAGE)), 0)
        .await
        .unwrap();
    let writer = {
        let (io, file) = (io.clone(), Rc::clone(&file));
        start(&io.clone(), async move {
            for page in 1..PAGES {
                let memory = frozen(&io, &pattern(page, PAGE));
                file.write_at(memory, page * PAGE as u64).await.unwrap();
            }
        })
    };
    let reader = io.open(&path, OpenMode::Read).await.unwrap();
    for _ in 0..PAGES {
        let read = reader.read_at(0, PAGE).await.unwrap();
        assert_eq!(read, pattern(0, PAGE), "writes elsewhere disturb a page");
    }
    writer.take().await;
    for page in 0..PAGES {
        let read = reader.read_at(page * PAGE as u64, PAGE).await.unwrap();
        assert_eq!(read, pattern(page, PAGE), "page {page}");
    }
}
