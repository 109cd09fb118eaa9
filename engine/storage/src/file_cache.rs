//! Open segment and index files of a shard: a bounded cache, least recently used out first.
//!
//! A descriptor in use is kept alive by its `Rc` even after it left the cache, so the bound may be exceeded by the
//! number of operations in flight.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use runtime::{Io, OpenMode};

use crate::descriptors::with_descriptor;
use crate::index::SegmentId;

/// Which file of a segment, opened how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    LogRead,
    LogWrite,
    Index,
    AbortedRead,
    AbortedWrite,
}

impl FileKind {
    const ALL: [FileKind; 5] = [
        FileKind::LogRead,
        FileKind::LogWrite,
        FileKind::Index,
        FileKind::AbortedRead,
        FileKind::AbortedWrite,
    ];
}

type Key = (SegmentId, FileKind);

struct Entries<F> {
    files: BTreeMap<Key, (Rc<F>, u64)>,
    by_age: BTreeMap<u64, Key>,
}

/// The cache.
pub(crate) struct FileCache<I: Io> {
    entries: RefCell<Entries<I::File>>,
    clock: Cell<u64>,
    files_max: usize,
}

impl<I: Io> FileCache<I> {
    pub(crate) fn new(files_max: usize) -> FileCache<I> {
        let entries = RefCell::new(Entries {
            files: BTreeMap::new(),
            by_age: BTreeMap::new(),
        });
        FileCache {
            entries,
            clock: Cell::new(0),
            files_max,
        }
    }

    /// Files open.
    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().files.len()
    }

    /// The open file, opening it if need be.
    pub(crate) async fn open(
        &self,
        io: &I,
        id: SegmentId,
        kind: FileKind,
        path: &Path,
    ) -> io::Result<Rc<I::File>> {
        if let Some(file) = self.touch((id, kind)) {
            return Ok(file);
        }
        let mode = match kind {
            FileKind::LogRead | FileKind::AbortedRead => OpenMode::Read,
            FileKind::LogWrite | FileKind::Index | FileKind::AbortedWrite => OpenMode::Write,
        };
        let opened = with_descriptor(io, async || io.open(path, mode).await, || self.shrink());
        let file = Rc::new(opened.await?);
        // Another task may have opened it meanwhile; the older one stays.
        if let Some(present) = self.touch((id, kind)) {
            return Ok(present);
        }
        self.insert((id, kind), file.clone());
        Ok(file)
    }

    /// Lets go of half of the files, those used longest ago: others need descriptors.
    fn shrink(&self) {
        let mut entries = self.entries.borrow_mut();
        for _ in 0..entries.files.len().div_ceil(2) {
            let (_, oldest) = entries.by_age.pop_first().expect("each file has an age");
            entries.files.remove(&oldest);
        }
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    fn touch(&self, key: Key) -> Option<Rc<I::File>> {
        let now = self.tick();
        let mut entries = self.entries.borrow_mut();
        let entries = &mut *entries;
        let (file, used) = entries.files.get_mut(&key)?;
        entries.by_age.remove(used);
        *used = now;
        entries.by_age.insert(now, key);
        Some(file.clone())
    }

    fn insert(&self, key: Key, file: Rc<I::File>) {
        let now = self.tick();
        let mut entries = self.entries.borrow_mut();
        while entries.files.len() >= self.files_max {
            let Some((_, oldest)) = entries.by_age.pop_first() else {
                break;
            };
            entries.files.remove(&oldest);
        }
        entries.files.insert(key, (file, now));
        entries.by_age.insert(now, key);
    }

    /// Lets go of a segment's files. Returns whether somebody still uses one.
    pub(crate) fn forget(&self, id: SegmentId) -> bool {
        self.forget_kinds(id, &FileKind::ALL)
    }

    /// Lets go of a segment's index of aborted transactions: another file has its name.
    pub(crate) fn forget_aborted(&self, id: SegmentId) {
        self.forget_kinds(id, &[FileKind::AbortedRead, FileKind::AbortedWrite]);
    }

    fn forget_kinds(&self, id: SegmentId, kinds: &[FileKind]) -> bool {
        let mut entries = self.entries.borrow_mut();
        let mut is_used = false;
        for kind in kinds.iter().copied() {
            if let Some((file, used)) = entries.files.remove(&(id, kind)) {
                entries.by_age.remove(&used);
                is_used |= Rc::strong_count(&file) > 1;
            }
        }
        is_used
    }

    /// Lets go of all files of a partition.
    pub(crate) fn forget_partition(&self, partition: model::TopicPartition) {
        let (from, to) = SegmentId::all_of(partition).into_inner();
        let ids: Vec<SegmentId> = {
            let entries = self.entries.borrow();
            entries
                .files
                .range((from, FileKind::LogRead)..=(to, FileKind::AbortedWrite))
                .map(|((id, _), _)| *id)
                .collect()
        };
        for id in ids {
            self.forget(id);
        }
    }
}
