//! The aborted transactions of a log, for those who read committed records: written to `.txnindex` files, found again, and
//! read from the log anew when a file is damaged or missing.
//!
//! Who asks gets them from one moment: what is in memory is chosen at once, and pages of files do not change. An answer
//! that met a cut is made again.
//!
//! Invariants: a file that cannot be read is never taken for one without entries; an answer holds what overlaps the records
//! that were read, so the open transactions of a moment and those begun behind it bound it.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use model::Offset;
use runtime::{File, Io, OpenMode};

use crate::cache::extent::ExtentKey;
use crate::descriptors::with_descriptor;
use crate::error::ReadError;
use crate::file_cache::FileKind;
use crate::index::{PAGE_BYTES, SegmentId, read_page};
use crate::inner::Inner;
use crate::log::Log;
use crate::page_writer::empty;
use crate::storage::Storage;
use crate::transaction_index::{AbortedTransaction, PAGE_ABORTED, ReadRange};
use crate::unsynced::Unsynced;

/// Pages that are read and cached together.
const RUN_PAGES: u32 = 16;

/// The entries of a segment's file, at one moment.
#[derive(Clone, Copy, Debug)]
struct Stored {
    id: SegmentId,
    pages: u32,
    /// Entries from here on are not in the file, or of markers that were cut off.
    end: Offset,
}

/// Where entries are.
enum Source {
    File(Stored),
    /// Chosen already.
    Memory(Vec<AbortedTransaction>),
}

impl<I: Io> Storage<I> {
    /// Aborted transactions that have records, or their marker, from `from` on, and began below `end`: whoever has read
    /// these records leaves out those of these producers, from their first offsets to their markers. In the order of their
    /// markers. Completes without suspending when none of them is in a file.
    pub async fn aborted_transactions(
        &self,
        log: &Rc<Log>,
        from: Offset,
        end: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let range = ReadRange { from, end };
        self.inner.aborted_transactions(log, range).await
    }
}

impl<I: Io> Inner<I> {
    async fn aborted_transactions(
        &self,
        log: &Rc<Log>,
        range: ReadRange,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let rebuilt = &self.counters.transaction_indexes_rebuilt;
        loop {
            self.check_range(log, range.from)?;
            let before = (log.cuts(), rebuilt.get());
            let found = self.search(log, range).await;
            // Each round more is one more cut, or one more file that was written anew: pages read before and after do not
            // belong together.
            if (log.cuts(), rebuilt.get()) == before {
                if found.is_err() {
                    // Retention may have taken the file meanwhile.
                    self.check_range(log, range.from)?;
                }
                return found;
            }
        }
    }

    async fn search(
        &self,
        log: &Rc<Log>,
        range: ReadRange,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let mut found = Vec::new();
        for source in sources(log, range) {
            match source {
                Source::Memory(chosen) => found.extend(chosen),
                Source::File(stored) => {
                    if self.search_file(log, stored, range, &mut found).await? {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// Adds what concerns the reader of one file. True if nothing behind it can.
    async fn search_file(
        &self,
        log: &Rc<Log>,
        stored: Stored,
        range: ReadRange,
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<bool, ReadError> {
        let present = found.len();
        let key = ExtentKey::Aborted(stored.id, u32::MAX);
        loop {
            if let Some(is_complete) = self.search_pages(stored, range, found).await {
                return Ok(is_complete);
            }
            found.truncate(present);
            if self.extents.claim(key) {
                let rebuilt = self.rebuild_aborted(log, stored, range, found).await;
                self.extents.release(key);
                return rebuilt.map(|()| false);
            }
            self.extents.landed.changed().await;
        }
    }

    /// Searches the pages of a file; `None` if one cannot be read.
    async fn search_pages(
        &self,
        stored: Stored,
        range: ReadRange,
        found: &mut Vec<AbortedTransaction>,
    ) -> Option<bool> {
        let first = self.first_run(stored, range.from).await?;
        for run in first..stored.runs() {
            let mut entries = self.aborted_run(stored, run).await?;
            let kept = entries.partition_point(|entry| entry.last_offset < stored.end);
            entries.truncate(kept);
            if range.choose(&entries, found) {
                return Some(true);
            }
            self.io.yield_if_needed().await;
        }
        Some(false)
    }

    /// The first run with a marker at or behind `from`, or one before it. Halves what is left at each step.
    async fn first_run(&self, stored: Stored, from: Offset) -> Option<u32> {
        // Runs before `low` end before `from`; the run `high` does not, or is the last.
        let (mut low, mut high) = (0, stored.runs() - 1);
        while low < high {
            let middle = low.midpoint(high);
            let entries = self.aborted_run(stored, middle).await?;
            match entries.last() {
                Some(last) if last.last_offset < from => low = middle + 1,
                // A run without entries is behind all others.
                _ => high = middle,
            }
        }
        Some(low)
    }

    /// The entries of a run of pages, verified.
    async fn aborted_run(&self, stored: Stored, run: u32) -> Option<Vec<AbortedTransaction>> {
        let first = run * RUN_PAGES;
        let pages = (stored.pages - first).min(RUN_PAGES);
        let len = pages as usize * PAGE_BYTES;
        let key = ExtentKey::Aborted(stored.id, run);
        if let Some(bytes) = self.extents.extent(key, len) {
            return parse(stored.id, first, &bytes[..len]);
        }
        let rebuilt = self.counters.transaction_indexes_rebuilt.get();
        let bytes = self.read_pages(stored.id, first, len).await.ok()?;
        let entries = parse(stored.id, first, bytes.get(..len)?)?;
        if self.counters.transaction_indexes_rebuilt.get() == rebuilt {
            self.extents.insert_extent(key, bytes);
        }
        Some(entries)
    }

    async fn read_pages(&self, id: SegmentId, first: u32, len: usize) -> io::Result<Bytes> {
        let path = self.layout.transaction_index(id);
        let position = u64::from(first) * PAGE_BYTES as u64;
        let files = &self.files;
        let file = files.open(&self.io, id, FileKind::AbortedRead, &path);
        let bytes = file.await?.read_at(position, len).await?;
        self.counters.index.read(bytes.len() as u64);
        Ok(bytes)
    }

    /// Writes pages while at least `entries_min` entries wait for one.
    pub(crate) async fn write_aborted(
        &self,
        log: &Rc<Log>,
        id: SegmentId,
        entries_min: usize,
    ) -> io::Result<()> {
        loop {
            let page = {
                let mut state = log.memory_mut();
                let segment = state.segment_mut(id);
                segment.and_then(|segment| segment.transactions.next_page(entries_min))
            };
            let Some((number, entries)) = page else {
                return Ok(());
            };
            let path = self.layout.transaction_index(id);
            let files = &self.files;
            let file = files.open(&self.io, id, FileKind::AbortedWrite, &path);
            let file = file.await?;
            if number == 0 {
                empty(&*file).await?;
            }
            self.write_page_at(&*file, id, number, &entries).await?;
            self.note_unsynced(
                log,
                id,
                Unsynced {
                    aborted: true,
                    directory: number == 0,
                    ..Unsynced::default()
                },
            );
            if let Some(segment) = log.state_mut().segment_mut(id) {
                segment.transactions.page_written(entries.len());
            }
        }
    }

    /// Finds a file's entries in the log again, from its start on: adds those that concern the reader, and writes the file
    /// anew.
    async fn rebuild_aborted(
        &self,
        log: &Rc<Log>,
        stored: Stored,
        range: ReadRange,
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<(), ReadError> {
        self.check_range(log, range.from)?;
        let path = self.layout.transaction_index(stored.id);
        tracing::warn!(file = %path.display(), "the index of aborted transactions is damaged or missing: the log is read for it");
        let mut rewrite = Rewrite::begin(self, stored).await;
        let learned = self.learn_producers(
            log,
            stored.end,
            stored.end,
            async |mut aborted: Vec<AbortedTransaction>| {
                aborted.retain(|one| one.last_offset >= stored.id.base_offset);
                // Others behind it are looked at all the same.
                let _is_complete = range.choose(&aborted, found);
                if let Ok(open) = &mut rewrite
                    && let Err(error) = open.add(self, aborted).await
                {
                    rewrite = Err(error);
                }
            },
        );
        learned.await?;
        let stored = match rewrite {
            Ok(rewrite) => rewrite.end(self, log).await,
            Err(error) => Err(error),
        };
        // The answer is right all the same.
        if let Err(error) = stored {
            tracing::warn!(file = %path.display(), %error, "storing a rebuilt index failed");
        }
        Ok(())
    }
}

impl Stored {
    /// Pages are read in runs; a file that is named has at least one.
    fn runs(&self) -> u32 {
        assert!(self.pages > 0, "a file without pages is none");
        self.pages.div_ceil(RUN_PAGES)
    }
}

/// A file that is written anew, under another name until it is whole: the pages of two attempts do not belong together. It
/// has as many pages as before, so that whoever names it is right. Of transactions whose records are gone it knows nothing
/// any more, so the last may be empty.
struct Rewrite<F> {
    stored: Stored,
    file: F,
    path: PathBuf,
    pages: u32,
    /// Less than a page of entries.
    rest: Vec<AbortedTransaction>,
}

impl<F: File> Rewrite<F> {
    async fn begin<I: Io<File = F>>(inner: &Inner<I>, stored: Stored) -> io::Result<Rewrite<F>> {
        let path = inner.layout.transaction_index_new(stored.id);
        let io = &inner.io;
        let opened = with_descriptor(io, async || io.open(&path, OpenMode::Write).await, || ());
        let file = opened.await?;
        empty(&file).await?;
        Ok(Rewrite {
            stored,
            file,
            path,
            pages: 0,
            rest: Vec::new(),
        })
    }

    async fn add<I: Io<File = F>>(
        &mut self,
        inner: &Inner<I>,
        aborted: Vec<AbortedTransaction>,
    ) -> io::Result<()> {
        self.rest.extend(aborted);
        while self.rest.len() >= PAGE_ABORTED {
            self.write_page(inner, PAGE_ABORTED).await?;
        }
        Ok(())
    }

    async fn write_page<I: Io<File = F>>(
        &mut self,
        inner: &Inner<I>,
        entries: usize,
    ) -> io::Result<()> {
        if self.pages == self.stored.pages {
            return Err(io::Error::other("there are more entries than there were"));
        }
        let page: Vec<AbortedTransaction> = self.rest.drain(..entries).collect();
        let id = self.stored.id;
        let written = inner.write_page_at(&self.file, id, self.pages, &page);
        written.await?;
        self.pages += 1;
        Ok(())
    }

    /// Takes the place of the file there was.
    async fn end<I: Io<File = F>>(mut self, inner: &Inner<I>, log: &Log) -> io::Result<()> {
        while self.pages < self.stored.pages || !self.rest.is_empty() {
            let entries = self.rest.len().min(PAGE_ABORTED);
            self.write_page(inner, entries).await?;
        }
        self.file.sync_data().await?;
        self.file.close().await?;
        let id = self.stored.id;
        let path = inner.layout.transaction_index(id);
        if log.is_deleted() || log.memory_mut().segment_mut(id).is_none() {
            // Its files may be gone already: nobody would remove this one.
            return inner.io.remove_file(&self.path).await;
        }
        inner.io.rename(&self.path, &path).await?;
        inner.counters.transaction_indexes_rebuilt.increment();
        inner.files.forget_aborted(id);
        for run in 0..self.stored.runs() {
            inner.extents.forget(ExtentKey::Aborted(id, run));
        }
        inner.note_unsynced(
            log,
            id,
            Unsynced {
                directory: true,
                ..Unsynced::default()
            },
        );
        Ok(())
    }
}

/// Where the entries are that may concern a reader, at this moment.
fn sources(log: &Log, range: ReadRange) -> Vec<Source> {
    let mut sources = Vec::new();
    if range.from >= range.end {
        return sources;
    }
    let state = log.state();
    let first = state
        .segments
        .partition_point(|segment| segment.next_offset <= range.from);
    let behind = state.segments[first..].iter();
    for segment in behind.filter(|segment| segment.transactions.concerns(range.end)) {
        let pending = segment.transactions.pending();
        if segment.transactions.pages() > 0 {
            let end = pending.first().map(|first| first.last_offset);
            sources.push(Source::File(Stored {
                id: segment.id,
                pages: segment.transactions.pages(),
                end: end.unwrap_or(segment.next_offset),
            }));
        }
        let mut chosen = Vec::new();
        let is_complete = range.choose(pending, &mut chosen);
        if !chosen.is_empty() {
            sources.push(Source::Memory(chosen));
        }
        if is_complete {
            return sources;
        }
    }
    let mut chosen = Vec::new();
    let _is_complete = range.choose(state.producers.aborted(), &mut chosen);
    if !chosen.is_empty() {
        sources.push(Source::Memory(chosen));
    }
    sources
}

/// The entries of pages in a row; `None` if one is damaged or belongs elsewhere.
fn parse(id: SegmentId, first: u32, bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    let mut entries: Vec<AbortedTransaction> = Vec::new();
    for (number, page) in (first..).zip(bytes.chunks(PAGE_BYTES)) {
        entries.extend(read_page::<AbortedTransaction>(id, number, page)?);
    }
    let is_sorted = entries.is_sorted_by(|before, after| before.last_offset < after.last_offset);
    is_sorted.then_some(entries)
}
