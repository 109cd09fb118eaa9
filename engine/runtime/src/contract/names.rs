//! Promises about directories and names.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::{Setup, frozen, pattern};
use crate::buffer::ALIGNMENT;
use crate::file::{File, OpenMode};
use crate::io::Io;
use crate::small_file::{self, SMALL_FILE_BYTES_MAX};

async fn create<I: Io>(io: &I, path: PathBuf, tag: u64) {
    let file = io.open(&path, OpenMode::Write).await.unwrap();
    let bytes = frozen(io, &pattern(tag, ALIGNMENT));
    file.write_at(bytes, 0).await.unwrap();
    file.close().await.unwrap();
}

async fn holds<I: Io>(io: &I, path: PathBuf, tag: u64) -> bool {
    let file = io.open(&path, OpenMode::Read).await.unwrap();
    file.read_at(0, ALIGNMENT).await.unwrap() == pattern(tag, ALIGNMENT)
}

pub(super) async fn directories_are_created_with_those_above_and_listed_in_order<I: Io>(
    setup: Setup<I>,
) {
    let Setup { io, directory } = setup;
    let deep = directory.join("a/b/c");
    io.create_dir_all(&deep).await.unwrap();
    io.create_dir_all(&deep).await.unwrap();
    assert!(io.read_dir(&deep).await.unwrap().is_empty());
    for name in ["zebra", "apple", "mango"] {
        create(&io, directory.join("a").join(name), 1).await;
    }
    let names = io.read_dir(&directory.join("a")).await.unwrap();
    let expected = ["apple", "b", "mango", "zebra"].map(PathBuf::from);
    assert_eq!(names, expected, "names alone, sorted");
    io.sync_dir(&directory.join("a")).await.unwrap();
}

pub(super) async fn a_directory_is_created_in_one_that_is_there<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let made = directory.join("made");
    io.create_dir(&made).await.unwrap();
    create(&io, made.join("file"), 7).await;
    io.create_dir(&made).await.unwrap();
    assert!(holds(&io, made.join("file"), 7).await, "it is the same one");
    let error = io.create_dir(&directory.join("x/y")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = io.create_dir(&made.join("file")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

pub(super) async fn rename_replaces_its_target<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    create(&io, directory.join("from"), 2).await;
    create(&io, directory.join("to"), 3).await;
    io.rename(&directory.join("from"), &directory.join("to"))
        .await
        .unwrap();
    let names = io.read_dir(&directory).await.unwrap();
    assert_eq!(names, [PathBuf::from("to")]);
    assert!(holds(&io, directory.join("to"), 2).await);
    io.create_dir_all(&directory.join("other")).await.unwrap();
    io.rename(&directory.join("to"), &directory.join("other/moved"))
        .await
        .unwrap();
    assert!(holds(&io, directory.join("other/moved"), 2).await);
    io.rename(&directory.join("other"), &directory.join("whole"))
        .await
        .unwrap();
    assert!(holds(&io, directory.join("whole/moved"), 2).await);
    io.sync_dir(&directory).await.unwrap();
}

pub(super) async fn removals_are_idempotent<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let file = directory.join("file");
    create(&io, file.clone(), 4).await;
    io.remove_file(&file).await.unwrap();
    io.remove_file(&file).await.unwrap();
    let tree = directory.join("tree");
    io.create_dir_all(&tree.join("inner")).await.unwrap();
    create(&io, tree.join("inner/file"), 5).await;
    io.remove_dir_all(&tree).await.unwrap();
    io.remove_dir_all(&tree).await.unwrap();
    assert!(io.read_dir(&directory).await.unwrap().is_empty());
    let file = io.open(&file, OpenMode::Write).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 0, "a new file is empty");
}

pub(super) async fn open_files_survive_rename_and_removal<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let path = directory.join("file");
    let file = io.open(&path, OpenMode::Write).await.unwrap();
    let bytes = pattern(6, ALIGNMENT);
    file.write_at(frozen(&io, &bytes), 0).await.unwrap();
    let renamed = directory.join("renamed");
    io.rename(&path, &renamed).await.unwrap();
    assert_eq!(file.len().await.unwrap(), ALIGNMENT as u64, "by descriptor");
    io.remove_file(&renamed).await.unwrap();
    assert_eq!(file.read_at(0, ALIGNMENT).await.unwrap(), bytes);
    file.write_at(frozen(&io, &bytes), ALIGNMENT as u64)
        .await
        .unwrap();
    assert_eq!(file.len().await.unwrap(), 2 * ALIGNMENT as u64);
    let next = io.open(&path, OpenMode::Write).await.unwrap();
    assert_eq!(next.len().await.unwrap(), 0, "another file of that name");
}

pub(super) async fn missing_names_are_errors<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let missing = directory.join("missing");
    for mode in [OpenMode::Read, OpenMode::Write, OpenMode::WriteDurable] {
        let opened = io.open(&missing.join("file"), mode).await;
        let error = opened.err().expect("its directory is not there");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{mode:?}");
    }
    let error = io.rename(&missing, &directory.join("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = io.read_dir(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(io.sync_dir(&missing).await.is_err());
}

pub(super) async fn a_lock_has_one_holder_and_ends_with_it<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let path = directory.join("lock");
    let first = io.try_lock(&path).await.unwrap();
    for _ in 0..2 {
        let error = io.try_lock(&path).await.err().expect("it is held");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    drop(first);
    let second = io.try_lock(&path).await.unwrap();
    assert!(io.try_lock(&path).await.is_err());
    drop(second);
    io.try_lock(&path).await.map(drop).unwrap();
    let missing = io.try_lock(&directory.join("missing/lock")).await;
    let error = missing.err().expect("its directory is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

pub(super) async fn locks_of_two_files_are_apart<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let (one, other) = (directory.join("one"), directory.join("other"));
    let held = io.try_lock(&one).await.unwrap();
    let apart = io.try_lock(&other).await.unwrap();
    io.rename(&one, &other).await.unwrap();
    let error = io.try_lock(&other).await.err().expect("it came along");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    io.try_lock(&one).await.map(drop).unwrap();
    drop(apart);
    assert!(io.try_lock(&other).await.is_err(), "that was another file");
    drop(held);
    io.try_lock(&other).await.map(drop).unwrap();
}

pub(super) async fn small_files_are_replaced_whole<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let path = directory.join("small");
    let missing = small_file::read(&io, &path).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    for len in [10_000, 5, 0, ALIGNMENT, SMALL_FILE_BYTES_MAX] {
        let bytes = pattern(8, len);
        small_file::replace(&io, &path, &bytes).await.unwrap();
        assert_eq!(small_file::read(&io, &path).await.unwrap(), bytes);
        small_file::make_durable(&io, &path).await.unwrap();
        let names = io.read_dir(&directory).await.unwrap();
        assert_eq!(names, [PathBuf::from("small")]);
    }
    // What a call that did not end has left is not part of the next one's file.
    create(&io, directory.join("small.tmp"), 9).await;
    small_file::replace(&io, &path, b"new").await.unwrap();
    assert_eq!(small_file::read(&io, &path).await.unwrap(), &b"new"[..]);
}

pub(super) async fn small_files_have_a_bound<I: Io>(setup: Setup<I>) {
    let Setup { io, directory } = setup;
    let path = directory.join("large");
    let bytes = pattern(8, SMALL_FILE_BYTES_MAX + 1);
    let refused = small_file::replace(&io, &path, &bytes).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(io.read_dir(&directory).await.unwrap().is_empty());
    let file = io.open(&path, OpenMode::Write).await.unwrap();
    file.truncate(SMALL_FILE_BYTES_MAX as u64 + 1)
        .await
        .unwrap();
    let refused = small_file::read(&io, &path).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidData);
}
