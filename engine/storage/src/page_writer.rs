//! Writes pages of the files beside a segment: its index, and what was aborted in it.
//!
//! Invariant: a page is written once, at its place, and counts when the next checkpoint has flushed its file.

use std::io;
use std::rc::Rc;

use runtime::{Buffer, File, Io};

use crate::file_cache::FileKind;
use crate::index::{PAGE_BYTES, PAGE_ENTRIES, PageEntry, SegmentId, write_page};
use crate::inner::Inner;
use crate::log::Log;
use crate::unsynced::Unsynced;

impl<I: Io> Inner<I> {
    /// Writes index pages while at least `entries_min` entries wait for one.
    pub(crate) async fn write_index_pages(
        &self,
        log: &Rc<Log>,
        id: SegmentId,
        entries_min: usize,
    ) -> io::Result<()> {
        loop {
            let (number, entries) = {
                let mut state = log.state_mut();
                let Some(segment) = state
                    .segment_mut(id)
                    .filter(|segment| segment.pending.len() >= entries_min)
                else {
                    return Ok(());
                };
                let count = segment.pending.len().min(PAGE_ENTRIES);
                (segment.index_pages, segment.pending[..count].to_vec())
            };
            let path = self.layout.index(id);
            let file = self
                .files
                .open(&self.io, id, FileKind::Index, &path)
                .await?;
            if number == 0 {
                empty(&*file).await?;
            }
            self.write_page_at(&*file, id, number, &entries).await?;
            self.note_unsynced(
                log,
                id,
                Unsynced {
                    index: true,
                    directory: number == 0,
                    ..Unsynced::default()
                },
            );
            if let Some(segment) = log.state_mut().segment_mut(id) {
                segment.pending.drain(..entries.len());
                segment.index_pages += 1;
            }
        }
    }

    /// Writes one page at its place in a file.
    pub(crate) async fn write_page_at<E: PageEntry>(
        &self,
        file: &I::File,
        id: SegmentId,
        number: u32,
        entries: &[E],
    ) -> io::Result<()> {
        let mut page = self.io.buffer(PAGE_BYTES);
        page.truncate(PAGE_BYTES);
        write_page(id, number, entries, page.as_mut());
        let position = u64::from(number) * PAGE_BYTES as u64;
        file.allocate(position + PAGE_BYTES as u64).await?;
        file.write_at(page.freeze(), position).await?;
        self.counters.index.wrote(PAGE_BYTES as u64);
        Ok(())
    }
}

/// Empties a file that an attempt before may have left.
pub(crate) async fn empty<F: File>(file: &F) -> io::Result<()> {
    if file.len().await? > 0 {
        file.truncate(0).await?;
    }
    Ok(())
}
