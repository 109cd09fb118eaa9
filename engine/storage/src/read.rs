//! Reads: from the tail without suspending, or from segment files through the extent cache.
//!
//! Invariant: nothing from the device is returned before its chunk's checksum, which is bound to its place, matched.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use model::Offset;
use model::record::{BatchHeader, crc_matches};
use runtime::{Buffer, File, Io};

use crate::cache::extent::ExtentKey;
use crate::error::ReadError;
use crate::file_cache::FileKind;
use crate::index::{
    ChunkBuilder, ChunkEntry, PAGE_BYTES, PAGE_ENTRIES, SegmentId, read_page, write_page,
};
use crate::inner::Inner;
use crate::log::{Log, ReadBatches, ReadRequest};
use crate::segment_view::{SegmentView, Snapshot};
use crate::storage::Storage;
use crate::unsynced::Unsynced;

impl<I: Io> Inner<I> {
    pub(crate) async fn read(
        &self,
        log: &Rc<Log>,
        mut request: ReadRequest,
    ) -> Result<ReadBatches, ReadError> {
        self.check_range(log, request.from)?;
        request.end = request.end.min(log.log_end_offset());
        let empty = ReadBatches {
            next_offset: request.from,
            ..ReadBatches::default()
        };
        log.assert_offsets();
        if request.from >= request.end {
            return Ok(empty);
        }
        let (segment, sequential) = {
            let state = log.state();
            if state.tail_covers(request.from) {
                self.counters.tail_reads.increment();
                return Ok(state.read_tail(&request));
            }
            let Some(segment) = state.segment_of(request.from) else {
                // Not sealed yet, or a log that was cut to nothing.
                return Ok(empty);
            };
            (Snapshot::of(segment), state.cold_read_end == request.from)
        };
        if let Some(reason) = self.life.fence_reason() {
            return Err(ReadError::Fenced(reason));
        }
        self.counters.cold_reads.increment();
        let cuts = log.cuts();
        let read = self.read_segment(log, segment, &request, sequential).await;
        match read {
            // What was read may be what was cut off.
            _ if log.cuts() != cuts => {
                self.check_range(log, request.from)?;
                Ok(empty)
            }
            Ok(read) => {
                assert!(read.next_offset >= request.from, "a read goes forward");
                assert!(read.next_offset <= request.end, "and not beyond its end");
                log.memory_mut().cold_read_end = read.next_offset;
                Ok(read)
            }
            Err(error) => {
                // Retention may have taken the file while the read was under way.
                self.check_range(log, request.from)?;
                Err(error)
            }
        }
    }

    pub(crate) fn check_range(&self, log: &Log, from: Offset) -> Result<(), ReadError> {
        let (log_start_offset, log_end_offset) = (log.log_start_offset(), log.log_end_offset());
        if from < log_start_offset || from > log_end_offset {
            return Err(ReadError::OffsetOutOfRange {
                offset: from,
                log_start_offset,
                log_end_offset,
            });
        }
        Ok(())
    }

    async fn read_segment(
        &self,
        log: &Rc<Log>,
        segment: Snapshot,
        request: &ReadRequest,
        sequential: bool,
    ) -> Result<ReadBatches, ReadError> {
        let view = Rc::new(self.view(log, segment).await?);
        let mut read = ReadBatches {
            next_offset: request.from,
            ..ReadBatches::default()
        };
        let Some(first) = view.chunk_of(request.from) else {
            return Ok(read);
        };
        let extent_bytes = self.options.extent_bytes.max(1);
        let mut number = first;
        let mut full = false;
        while let Some(chunk) = view.chunk(number).filter(|_| !full) {
            let extent = chunk.position / extent_bytes;
            let range = view.chunks_of_extent(extent, extent_bytes);
            let bytes = self.extent(&view, extent, range.clone()).await?;
            assert!(range.contains(&number), "a chunk is one of its extent");
            let start = view.chunk(range.start).map_or(0, |first| first.position);
            let skip = (chunk.position - start) as usize;
            full = take_batches(&bytes, skip, request, &mut read).map_err(|position| {
                self.corrupt(view.id, u64::from(start) + position, "not a record batch")
            })?;
            number = range.end;
        }
        if sequential || read.bytes as u64 >= u64::from(extent_bytes) {
            let next = view
                .chunk(number)
                .filter(|_| number > first)
                .map(|chunk| chunk.position / extent_bytes);
            if let Some(extent) = next {
                self.read_ahead.push(&view, extent);
            }
        }
        Ok(read)
    }

    /// One read-ahead task.
    pub(crate) async fn read_extents_ahead(self: Rc<Self>) {
        while self.life.writes() {
            let Some((view, extent)) = self.read_ahead.pop() else {
                self.read_ahead.wait().await;
                continue;
            };
            let range = view.chunks_of_extent(extent, self.options.extent_bytes.max(1));
            // A reader that needs these bytes meets the same error and reports it.
            if let Err(error) = self.extent(&view, extent, range).await {
                tracing::debug!(%error, "read-ahead failed");
            }
        }
    }

    /// The verified bytes of an extent, from the cache or the device.
    async fn extent(
        &self,
        view: &SegmentView,
        extent: u32,
        range: std::ops::Range<usize>,
    ) -> Result<Bytes, ReadError> {
        let key = ExtentKey::Extent(view.id, extent);
        let (Some(first), Some(last)) = (
            view.chunk(range.start),
            range.end.checked_sub(1).and_then(|last| view.chunk(last)),
        ) else {
            return Ok(Bytes::new());
        };
        let start = u64::from(first.position);
        assert!(last.end() > start, "chunks are in order");
        let len = usize::try_from(last.end() - start).unwrap_or(usize::MAX);
        loop {
            if let Some(bytes) = self.extents.extent(key, len) {
                // Of a segment that was cut since, more may be here than is left of it.
                return Ok(bytes.slice(..len));
            }
            if self.extents.claim(key) {
                break;
            }
            self.extents.landed.changed().await;
        }
        let result = self.load_extent(view, start, len, range).await;
        if let Ok(bytes) = &result {
            self.extents.insert_extent(key, bytes.clone());
        }
        self.extents.release(key);
        result
    }

    async fn load_extent(
        &self,
        view: &SegmentView,
        start: u64,
        len: usize,
        range: std::ops::Range<usize>,
    ) -> Result<Bytes, ReadError> {
        let bytes = self.read_log_file(view.id, start, len).await?;
        let mut position = 0;
        for chunk in range.filter_map(|number| view.chunk(number)) {
            let end = position + chunk.length as usize;
            if !bytes
                .get(position..end)
                .is_some_and(|bytes| chunk.matches(view.id, bytes))
            {
                return Err(self.corrupt(
                    view.id,
                    chunk.position.into(),
                    "the checksum of the chunk does not match",
                ));
            }
            position = end;
        }
        assert_eq!(position, len, "the chunks of an extent follow each other");
        Ok(bytes)
    }

    async fn read_log_file(
        &self,
        id: SegmentId,
        position: u64,
        len: usize,
    ) -> Result<Bytes, ReadError> {
        let path = self.layout.segment(id);
        let failed = |error: std::io::Error| ReadError::Io {
            path: path.clone(),
            kind: error.kind(),
        };
        let file = self
            .files
            .open(&self.io, id, FileKind::LogRead, &path)
            .await
            .map_err(failed)?;
        let bytes = file.read_at(position, len).await.map_err(failed)?;
        self.counters.segment.read(bytes.len() as u64);
        Ok(bytes)
    }

    pub(crate) fn corrupt(&self, id: SegmentId, position: u64, reason: &str) -> ReadError {
        let path: PathBuf = self.layout.segment(id);
        tracing::error!(file = %path.display(), position, reason, "stored bytes are damaged");
        ReadError::Corrupt {
            path,
            position,
            reason: reason.to_owned(),
        }
    }

    /// The chunks of a segment.
    pub(crate) async fn view(
        &self,
        log: &Rc<Log>,
        segment: Snapshot,
    ) -> Result<SegmentView, ReadError> {
        let stored = if segment.pages == 0 {
            Rc::default()
        } else {
            self.stored_index(log, &segment).await?
        };
        Ok(SegmentView {
            id: segment.id,
            stored,
            recent: segment.recent,
        })
    }

    async fn stored_index(
        &self,
        log: &Rc<Log>,
        segment: &Snapshot,
    ) -> Result<Rc<Vec<ChunkEntry>>, ReadError> {
        if let Some(entries) = self.extents.index(segment.id, segment.pages) {
            return Ok(entries);
        }
        let cuts = log.cuts();
        let path = self.layout.index(segment.id);
        let len = segment.pages as usize * PAGE_BYTES;
        let read = match self
            .files
            .open(&self.io, segment.id, FileKind::Index, &path)
            .await
        {
            Ok(file) => file.read_at(0, len).await,
            Err(error) => Err(error),
        };
        if let Ok(bytes) = &read {
            self.counters.index.read(bytes.len() as u64);
        }
        let entries = read.ok().and_then(|bytes| parse_pages(segment, &bytes));
        let entries = match entries {
            Some(entries) => entries,
            None => {
                tracing::warn!(file = %path.display(), "the index is damaged or missing: it is built anew from its segment");
                self.rebuild_index(log, segment).await?
            }
        };
        let entries = Rc::new(entries);
        // A segment that was cut meanwhile has another index.
        if log.cuts() == cuts {
            self.extents
                .insert_index(segment.id, segment.pages, entries.clone());
        }
        Ok(entries)
    }

    /// Builds the index of the part of a segment that its file should describe, trusting only batch checksums.
    async fn rebuild_index(
        &self,
        log: &Rc<Log>,
        segment: &Snapshot,
    ) -> Result<Vec<ChunkEntry>, ReadError> {
        let cuts = log.cuts();
        let end = segment.stored_bytes();
        let mut chunks = ChunkBuilder::new(segment.id);
        let mut entries = Vec::new();
        let mut position = 0;
        let mut window = Bytes::new();
        let mut window_start = 0;
        while position < end {
            let rest = |window: &Bytes, start: u64| {
                window.slice(
                    usize::try_from(position - start)
                        .unwrap_or(usize::MAX)
                        .min(window.len())..,
                )
            };
            let mut bytes = rest(&window, window_start);
            let size = BatchHeader::parse(&bytes).map_or(0, |header| header.size_bytes());
            if size == 0 || size > bytes.len() {
                let wanted = size.max(self.options.extent_bytes as usize).max(PAGE_BYTES);
                window = self.read_log_file(segment.id, position, wanted).await?;
                window_start = position;
                bytes = rest(&window, window_start);
            }
            let damaged = || {
                self.corrupt(
                    segment.id,
                    position,
                    "not a record batch, and the index that could tell is damaged",
                )
            };
            let header = BatchHeader::parse(&bytes).map_err(|_| damaged())?;
            if header.size_bytes() > bytes.len() {
                if bytes.len() < self.options.extent_bytes as usize {
                    return Err(damaged());
                }
                window = self
                    .read_log_file(segment.id, position, header.size_bytes())
                    .await?;
                window_start = position;
                bytes = window.clone();
            }
            let batch = bytes.get(..header.size_bytes()).ok_or_else(damaged)?;
            // The base offset is not covered by the batch's checksum: it may be anything.
            let relative = header.base_offset.0.checked_sub(segment.id.base_offset.0);
            let relative = relative.and_then(|relative| u32::try_from(relative).ok());
            let relative = relative.ok_or_else(damaged)?;
            if !crc_matches(batch) {
                return Err(damaged());
            }
            entries.extend(chunks.push(
                batch,
                relative,
                header.max_timestamp,
                self.options.index_chunk_bytes,
            ));
            position += batch.len() as u64;
            self.io.yield_if_needed().await;
        }
        entries.extend(chunks.close());
        if segment.sealed && log.cuts() == cuts {
            self.rewrite_index(log, segment.id, &entries).await;
        }
        Ok(entries)
    }

    /// Stores a rebuilt index of a sealed segment. If that fails it will be rebuilt again.
    async fn rewrite_index(&self, log: &Rc<Log>, id: SegmentId, entries: &[ChunkEntry]) {
        let cuts = log.cuts();
        let path = self.layout.index(id);
        let pages: Vec<&[ChunkEntry]> = entries.chunks(PAGE_ENTRIES).collect();
        let mut buffer = self.io.buffer(pages.len() * PAGE_BYTES);
        buffer.truncate(pages.len() * PAGE_BYTES);
        for (number, page) in pages.iter().enumerate() {
            let out = &mut buffer.as_mut()[number * PAGE_BYTES..(number + 1) * PAGE_BYTES];
            write_page(id, u32::try_from(number).unwrap_or(u32::MAX), page, out);
        }
        let written = match self.files.open(&self.io, id, FileKind::Index, &path).await {
            Ok(file) => file.write_at(buffer.freeze(), 0).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                self.counters.index.wrote((pages.len() * PAGE_BYTES) as u64);
                self.note_unsynced(
                    log,
                    id,
                    Unsynced {
                        index: true,
                        directory: true,
                        ..Unsynced::default()
                    },
                );
                if log.cuts() == cuts
                    && let Some(segment) = log.state_mut().segment_mut(id)
                {
                    segment.index_pages = u32::try_from(pages.len()).unwrap_or(u32::MAX);
                }
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "storing a rebuilt index failed")
            }
        }
    }
}

fn parse_pages(segment: &Snapshot, bytes: &[u8]) -> Option<Vec<ChunkEntry>> {
    let mut entries: Vec<ChunkEntry> = Vec::new();
    for number in 0..segment.pages {
        let start = number as usize * PAGE_BYTES;
        entries.extend(read_page::<ChunkEntry>(
            segment.id,
            number,
            bytes.get(start..start + PAGE_BYTES)?,
        )?);
    }
    let joined = entries
        .windows(2)
        .all(|pair| pair[0].end() == u64::from(pair[1].position));
    let complete = entries
        .last()
        .is_some_and(|last| last.end() == segment.stored_bytes());
    (joined && complete && entries.first().is_some_and(|first| first.position == 0))
        .then_some(entries)
}

/// Adds the wanted batches of verified bytes to `read`, as one slice. True when no more are wanted; an error gives the
/// position of what is not a batch.
fn take_batches(
    bytes: &Bytes,
    skip: usize,
    request: &ReadRequest,
    read: &mut ReadBatches,
) -> Result<bool, u64> {
    let mut position = skip;
    let mut start = None;
    let mut full = false;
    while position < bytes.len() {
        let header = BatchHeader::parse(&bytes[position..]).map_err(|_| position as u64)?;
        let size = header.size_bytes();
        if size > bytes.len() - position {
            // The cached extent ends within a batch only if it was cut: it never is.
            return Err(position as u64);
        }
        if header.next_offset() > request.from {
            let first = read.bytes == 0;
            let over = read.bytes.saturating_add(size) > request.bytes_max;
            if header.next_offset() > request.end
                || (over && !(first && request.at_least_one_batch))
            {
                full = true;
                break;
            }
            start.get_or_insert(position);
            read.bytes += size;
            read.next_offset = header.next_offset();
        }
        position += size;
    }
    if let Some(start) = start {
        read.batches.push(bytes.slice(start..position));
    }
    Ok(full)
}

impl<I: Io> Storage<I> {
    /// Reads whole batches from `request.from` on. Completes without suspending when the tail serves it.
    ///
    /// May return less than there is: reads end at segment and tail borders.
    pub async fn read(&self, log: &Rc<Log>, read: ReadRequest) -> Result<ReadBatches, ReadError> {
        self.inner.read(log, read).await
    }
}

impl<I: Io> Inner<I> {
    /// The verified bytes of one chunk.
    pub(crate) async fn chunk_bytes(
        &self,
        view: &SegmentView,
        number: usize,
    ) -> Result<Bytes, ReadError> {
        let extent_bytes = self.options.extent_bytes.max(1);
        let Some(chunk) = view.chunk(number) else {
            return Ok(Bytes::new());
        };
        let extent = chunk.position / extent_bytes;
        let range = view.chunks_of_extent(extent, extent_bytes);
        let start = view.chunk(range.start).map_or(0, |first| first.position);
        let bytes = self.extent(view, extent, range).await?;
        let from = (chunk.position - start) as usize;
        let end = from + chunk.length as usize;
        assert!(end <= bytes.len(), "an extent holds its chunks");
        Ok(bytes.slice(from..end))
    }
}
