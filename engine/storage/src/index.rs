//! The sparse index of one segment: chunks of whole batches, each with its checksum. Pure.
//!
//! A *chunk* is a run of whole batches, closed once it has `index_chunk_bytes`. It is the unit of checksum, of index
//! entry and of cold reading: Kafka's 4 KiB interval buys nothing when no direct read is that small, and one entry per
//! 64 KiB keeps the index of a 1 GiB segment below 400 KiB. The checksum starts from the chunk's identity (partition,
//! segment, position), so sound bytes from another place do not pass.
//!
//! On disk the index is a sequence of 4096-byte pages, each with its own identity and checksum, written once when
//! full (or when the segment is sealed). FORMAT.md, section "Index".

use std::ops::RangeInclusive;

use model::{Offset, Timestamp, TopicPartition};

use crate::encoding::{Decoder, Encoder, Short};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 4096;
const PAGE_HEADER_BYTES: usize = 64;
/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 24;
/// Entries of a full page.
pub(crate) const PAGE_ENTRIES: usize = page_entries(ENTRY_BYTES);
const FORMAT: u16 = 1;

/// What pages of one kind of file hold.
pub(crate) trait PageEntry: Sized {
    /// Of the kind.
    const MAGIC: u32;
    /// Of one entry.
    const BYTES: usize;
    fn encode(&self, out: &mut Encoder);
    fn decode(from: &mut Decoder<'_>) -> Result<Self, Short>;
}

/// Entries of this size in a full page.
pub(crate) const fn page_entries(entry_bytes: usize) -> usize {
    (PAGE_BYTES - PAGE_HEADER_BYTES) / entry_bytes
}

/// Which segment: what a chunk's checksum is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentId {
    pub(crate) partition: TopicPartition,
    pub(crate) base_offset: Offset,
    /// Tells apart segments of one log: those begun after a cut have a later one, and names of their own.
    pub(crate) generation: u32,
    /// Tells apart logs of one name within a run (the log's `created_sequence`), so that nothing cached of a deleted
    /// one is ever taken for its successor's. Not stored.
    pub(crate) incarnation: u64,
}

impl SegmentId {
    /// Whether both have the same file, be it in another run.
    pub(crate) fn is_file_of(&self, other: SegmentId) -> bool {
        SegmentId {
            incarnation: other.incarnation,
            ..*self
        } == other
    }

    /// A segment that begins with the log.
    pub(crate) fn first_of(partition: TopicPartition) -> SegmentId {
        SegmentId {
            partition,
            base_offset: Offset::ZERO,
            generation: 0,
            incarnation: 0,
        }
    }

    /// All that a partition can have.
    pub(crate) fn all_of(partition: TopicPartition) -> RangeInclusive<SegmentId> {
        let id = |base_offset, generation, incarnation| SegmentId {
            partition,
            base_offset: Offset(base_offset),
            generation,
            incarnation,
        };
        id(i64::MIN, 0, 0)..=id(i64::MAX, u32::MAX, u64::MAX)
    }
}

/// A closed chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    /// First offset less the segment's base offset.
    pub(crate) relative_offset: u32,
    /// Where it starts in the `.log` file.
    pub(crate) position: u32,
    /// Its size.
    pub(crate) length: u32,
    /// CRC-32C, seeded with its location.
    pub(crate) checksum: u32,
    /// Largest timestamp of the segment up to and including this chunk.
    pub(crate) max_timestamp: Timestamp,
}

impl ChunkEntry {
    /// The position after the chunk.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.position) + u64::from(self.length)
    }

    /// Whether `bytes` are this chunk's.
    pub(crate) fn matches(&self, id: SegmentId, bytes: &[u8]) -> bool {
        bytes.len() == self.length as usize
            && crc32c::crc32c_append(seed(id, self.position), bytes) == self.checksum
    }

    /// The first batches of this chunk, which the others are cut off of.
    pub(crate) fn cut(self, id: SegmentId, batches: &[u8], max_timestamp: Timestamp) -> ChunkEntry {
        assert!(batches.len() <= self.length as usize, "a part of the chunk");
        ChunkEntry {
            length: u32::try_from(batches.len()).expect("less than before"),
            checksum: crc32c::crc32c_append(seed(id, self.position), batches),
            max_timestamp,
            ..self
        }
    }
}

impl PageEntry for ChunkEntry {
    const MAGIC: u32 = u32::from_le_bytes(*b"RLGI");
    const BYTES: usize = ENTRY_BYTES;

    fn encode(&self, out: &mut Encoder) {
        out.u32(self.relative_offset);
        out.u32(self.position);
        out.u32(self.length);
        out.u32(self.checksum);
        out.timestamp(self.max_timestamp);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<ChunkEntry, Short> {
        Ok(ChunkEntry {
            relative_offset: from.u32()?,
            position: from.u32()?,
            length: from.u32()?,
            checksum: from.u32()?,
            max_timestamp: from.timestamp()?,
        })
    }
}

fn seed(id: SegmentId, position: u32) -> u32 {
    let mut identity = [0; 32];
    identity[..16].copy_from_slice(&id.partition.topic.0);
    identity[16..20].copy_from_slice(&id.partition.partition.0.to_le_bytes());
    identity[20..28].copy_from_slice(&id.base_offset.0.to_le_bytes());
    identity[28..].copy_from_slice(&position.to_le_bytes());
    let seed = crc32c::crc32c(&identity);
    match id.generation {
        0 => seed,
        generation => crc32c::crc32c_append(seed, &generation.to_le_bytes()),
    }
}

/// Builds chunks from batches in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkBuilder {
    id: SegmentId,
    /// The chunk being filled; its length is 0 if it has no batch yet.
    open: ChunkEntry,
}

impl ChunkBuilder {
    /// For an empty segment.
    pub(crate) fn new(id: SegmentId) -> ChunkBuilder {
        ChunkBuilder::resume(
            id,
            ChunkEntry {
                relative_offset: 0,
                position: 0,
                length: 0,
                checksum: 0,
                max_timestamp: Timestamp::NONE,
            },
        )
    }

    /// Continues from what [`ChunkBuilder::open`] returned.
    pub(crate) fn resume(id: SegmentId, open: ChunkEntry) -> ChunkBuilder {
        ChunkBuilder { id, open }
    }

    /// The unfinished chunk.
    pub(crate) fn open(&self) -> ChunkEntry {
        self.open
    }

    /// Adds the next batch; returns the chunk if that closes it.
    pub(crate) fn push(
        &mut self,
        batch: &[u8],
        relative_offset: u32,
        max_timestamp: Timestamp,
        chunk_bytes: u32,
    ) -> Option<ChunkEntry> {
        if self.open.length == 0 {
            self.open.relative_offset = relative_offset;
            self.open.checksum = seed(self.id, self.open.position);
        }
        self.open.checksum = crc32c::crc32c_append(self.open.checksum, batch);
        let length = u64::from(self.open.length) + batch.len() as u64;
        assert!(
            length <= u64::from(u32::MAX),
            "a chunk is smaller than 4 GiB"
        );
        assert!(
            relative_offset >= self.open.relative_offset,
            "batches come in order"
        );
        self.open.length = length as u32;
        self.open.max_timestamp = self.open.max_timestamp.max(max_timestamp);
        if self.open.length < chunk_bytes {
            None
        } else {
            self.close()
        }
    }

    /// Ends the unfinished chunk, if it has a batch.
    pub(crate) fn close(&mut self) -> Option<ChunkEntry> {
        let closed = self.open;
        if closed.length == 0 {
            return None;
        }
        self.open.position = u32::try_from(closed.end()).expect("a segment is smaller than 4 GiB");
        self.open.length = 0;
        Some(closed)
    }
}

/// The page that holds `entries` (at most [`page_entries`] of their size), written into `page`.
pub(crate) fn write_page<E: PageEntry>(id: SegmentId, number: u32, entries: &[E], page: &mut [u8]) {
    assert!(
        entries.len() <= page_entries(E::BYTES) && page.len() == PAGE_BYTES,
        "a page has a fixed size"
    );
    let mut out = Encoder {
        bytes: Vec::with_capacity(PAGE_BYTES),
    };
    out.u32(E::MAGIC);
    out.u16(FORMAT);
    out.u16(0);
    out.topic_partition(id.partition);
    out.offset(id.base_offset);
    out.u32(number);
    out.count(entries.len());
    out.u32(id.generation);
    out.bytes.resize(PAGE_HEADER_BYTES, 0);
    for entry in entries {
        entry.encode(&mut out);
    }
    out.bytes.resize(PAGE_BYTES, 0);
    page.copy_from_slice(&out.bytes);
    let checksum = crc32c::crc32c(page);
    page[PAGE_HEADER_BYTES - 4..PAGE_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a page back; `None` if it is damaged or belongs elsewhere.
pub(crate) fn read_page<E: PageEntry>(id: SegmentId, number: u32, page: &[u8]) -> Option<Vec<E>> {
    let page: &[u8; PAGE_BYTES] = page.try_into().ok()?;
    let mut zeroed = *page;
    zeroed[PAGE_HEADER_BYTES - 4..PAGE_HEADER_BYTES].fill(0);
    let stored = u32::from_le_bytes(*page[PAGE_HEADER_BYTES - 4..].first_chunk()?);
    if crc32c::crc32c(&zeroed) != stored {
        return None;
    }
    let mut fields = Decoder::new(page);
    let sound = fields.u32().ok()? == E::MAGIC
        && fields.u16().ok()? == FORMAT
        && fields.u16().ok()? == 0
        && fields.topic_partition().ok()? == id.partition
        && fields.offset().ok()? == id.base_offset
        && fields.u32().ok()? == number;
    let count = fields.u32().ok()? as usize;
    let sound = sound && fields.u32().ok()? == id.generation;
    if !sound || count > page_entries(E::BYTES) {
        return None;
    }
    let mut body = Decoder::new(&page[PAGE_HEADER_BYTES..]);
    (0..count).map(|_| E::decode(&mut body).ok()).collect()
}

/// The chunk that holds `relative_offset` or the gap before the chunk after it: the last that starts at or before.
pub(crate) fn chunk_of_offset(entries: &[ChunkEntry], relative_offset: u32) -> Option<usize> {
    entries
        .partition_point(|entry| entry.relative_offset <= relative_offset)
        .checked_sub(1)
}

/// The first chunk with a record whose timestamp is at least `timestamp`.
pub(crate) fn chunk_of_timestamp(entries: &[ChunkEntry], timestamp: Timestamp) -> Option<usize> {
    let found = entries.partition_point(|entry| entry.max_timestamp < timestamp);
    (found < entries.len()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SegmentId {
        SegmentId {
            partition: TopicPartition::default(),
            base_offset: Offset(100),
            generation: 0,
            incarnation: 0,
        }
    }

    fn read(id: SegmentId, number: u32, page: &[u8]) -> Option<Vec<ChunkEntry>> {
        read_page(id, number, page)
    }

    #[test]
    fn pages_read_back_and_no_flipped_byte_passes() {
        let entries: Vec<ChunkEntry> = (0..PAGE_ENTRIES as u32)
            .map(|i| ChunkEntry {
                relative_offset: i * 3,
                position: i * 10,
                length: 10,
                checksum: i,
                max_timestamp: Timestamp(i.into()),
            })
            .collect();
        let mut page = vec![0xff; PAGE_BYTES];
        write_page(id(), 2, &entries, &mut page);
        assert_eq!(read(id(), 2, &page), Some(entries));
        assert_eq!(read(id(), 3, &page), None, "another page number");
        let other = SegmentId {
            base_offset: Offset(101),
            ..id()
        };
        assert_eq!(read(other, 2, &page), None, "another segment");
        let later = SegmentId {
            generation: 1,
            ..id()
        };
        assert_eq!(read(later, 2, &page), None, "its successor");
        for byte in 0..PAGE_BYTES {
            page[byte] ^= 0x10;
            assert_eq!(read(id(), 2, &page), None, "byte {byte}");
            page[byte] ^= 0x10;
        }
    }

    #[test]
    fn chunks_cover_all_batches_and_are_bound_to_their_place() {
        let mut builder = ChunkBuilder::new(id());
        let batches: Vec<Vec<u8>> = (1..40u8).map(|i| vec![i; usize::from(i) * 7]).collect();
        let mut entries = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            entries.extend(builder.push(batch, number as u32 * 2, Timestamp(number as i64), 500));
        }
        entries.extend(builder.close());
        let bytes = batches.concat();
        let mut position = 0;
        for entry in &entries {
            assert_eq!(entry.position as usize, position);
            let chunk = &bytes[position..][..entry.length as usize];
            assert!(entry.matches(id(), chunk));
            let moved = ChunkEntry {
                position: entry.position + 1,
                ..*entry
            };
            assert!(!moved.matches(id(), chunk));
            let later = SegmentId {
                generation: 1,
                ..id()
            };
            assert!(!entry.matches(later, chunk));
            let part = &chunk[..chunk.len() / 2];
            let cut = entry.cut(id(), part, Timestamp(1));
            assert!(cut.matches(id(), part) && !cut.matches(id(), chunk));
            position += entry.length as usize;
        }
        assert_eq!(position, bytes.len());
        assert!(builder.close().is_none());
    }
}
