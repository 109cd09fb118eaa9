//! Bytes of a commit group: header, entry headers, checksums. Pure. FORMAT.md, section "Journal".
//!
//! A group is [header | entries | zeros to a multiple of 4096]. The header's own checksum covers the checksum of all
//! entry headers, and an entry header holds a copy of its batch's CRC-32C; so one pass over a few dozen bytes per
//! batch binds every payload byte, which produce validation has already checked against that CRC.

use model::record::{BatchHeader, crc_matches};
use model::{LeaderEpoch, Offset, ShardId, TopicPartition};
use runtime::align_up;

use crate::encoding::{Decoder, Encoder, Short};

/// `RLGJ`.
const MAGIC: u32 = u32::from_le_bytes(*b"RLGJ");
/// Version of the journal's bytes.
pub(crate) const FORMAT: u16 = 1;
/// Bytes of a group header.
pub(crate) const GROUP_HEADER_BYTES: usize = 64;
/// Bytes of an entry header.
pub(crate) const ENTRY_HEADER_BYTES: usize = 48;

/// The head of a commit group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) shard: ShardId,
    /// Random salt of the run that wrote the group: recycled files hold groups of others.
    pub(crate) generation: u64,
    /// Counts the groups of a generation from 1.
    pub(crate) sequence: u64,
    /// All groups up to this one were durable when this one was sealed. A reader that misses one of them has found
    /// damage, not a torn tail.
    pub(crate) durable_sequence: u64,
    /// `checksum` of the group before, 0 for the first.
    pub(crate) previous_checksum: u32,
    /// Bytes of header and entries, without the padding.
    pub(crate) used_bytes: u32,
    pub(crate) entry_count: u32,
    /// CRC-32C of all entry headers in order.
    pub(crate) entries_checksum: u32,
}

/// Why bytes are not a group of this journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// Not a group header, or a damaged one.
    NotAGroup,
    /// A sound header of another format version.
    Format(u16),
}

impl From<Short> for FrameError {
    fn from(_: Short) -> FrameError {
        FrameError::NotAGroup
    }
}

impl GroupHeader {
    /// Bytes of the group on disk.
    pub(crate) fn group_bytes(&self) -> usize {
        align_up(self.used_bytes as usize)
    }

    /// Writes the header to the first 64 bytes of `group` and returns its checksum, the next group's
    /// `previous_checksum`.
    pub(crate) fn write(&self, group: &mut [u8]) -> u32 {
        let mut out = Encoder {
            bytes: Vec::with_capacity(GROUP_HEADER_BYTES),
        };
        out.u32(MAGIC);
        out.u16(FORMAT);
        out.u16(self.shard.0);
        out.u64(self.generation);
        out.u64(self.sequence);
        out.u64(self.durable_sequence);
        out.u32(self.previous_checksum);
        out.u32(self.used_bytes);
        out.u32(self.entry_count);
        out.u32(self.entries_checksum);
        out.u64(0);
        out.u32(0);
        let checksum = crc32c::crc32c(&out.bytes);
        out.u32(checksum);
        group[..GROUP_HEADER_BYTES].copy_from_slice(&out.bytes);
        checksum
    }

    /// Reads a header and its checksum from the front of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(GroupHeader, u32), FrameError> {
        let header = bytes
            .first_chunk::<GROUP_HEADER_BYTES>()
            .ok_or(FrameError::NotAGroup)?;
        let mut fields = Decoder::new(header);
        if fields.u32()? != MAGIC {
            return Err(FrameError::NotAGroup);
        }
        let format = fields.u16()?;
        let mut stored = Decoder::new(&header[GROUP_HEADER_BYTES - 4..]);
        let checksum = stored.u32()?;
        if crc32c::crc32c(&header[..GROUP_HEADER_BYTES - 4]) != checksum {
            return Err(FrameError::NotAGroup);
        }
        if format != FORMAT {
            return Err(FrameError::Format(format));
        }
        let header = GroupHeader {
            shard: ShardId(fields.u16()?),
            generation: fields.u64()?,
            sequence: fields.u64()?,
            durable_sequence: fields.u64()?,
            previous_checksum: fields.u32()?,
            used_bytes: fields.u32()?,
            entry_count: fields.u32()?,
            entries_checksum: fields.u32()?,
        };
        if (header.used_bytes as usize) < GROUP_HEADER_BYTES {
            return Err(FrameError::NotAGroup);
        }
        Ok((header, checksum))
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A batch follows.
    Batch = 1,
    /// A batch follows that an earlier group held already; it moves here so that the earlier one can be overwritten.
    CarriedBatch = 2,
    /// The log now starts at `offset`.
    LogStartAdvanced = 3,
    /// The log is gone, with all entries before this one.
    PartitionDeleted = 4,
    /// The log now ends at `offset`: what it held from there on is gone.
    Truncated = 5,
    /// The log is empty and begins at `offset`.
    Reset = 6,
    /// Between `offset` and the batch of the next entry, of the same log and group, there are no records: the leader's
    /// log has none there either.
    Gap = 7,
    /// `leader_epoch` begins at `offset`.
    EpochStarted = 8,
    /// What the quorum member that keeps this log has promised: [`QuorumState`] follows.
    QuorumState = 9,
    /// Batches from `offset` on lie in a segment: [`super::placed::Placed`] follows.
    Placed = 10,
}

impl EntryKind {
    const ALL: [EntryKind; 10] = [
        EntryKind::Batch,
        EntryKind::CarriedBatch,
        EntryKind::LogStartAdvanced,
        EntryKind::PartitionDeleted,
        EntryKind::Truncated,
        EntryKind::Reset,
        EntryKind::Gap,
        EntryKind::EpochStarted,
        EntryKind::QuorumState,
        EntryKind::Placed,
    ];

    fn of(number: u32) -> Option<EntryKind> {
        let mut all = EntryKind::ALL.into_iter();
        all.find(|kind| *kind as u32 == number)
    }
}

/// The head of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) kind: EntryKind,
    pub(crate) id: TopicPartition,
    pub(crate) leader_epoch: LeaderEpoch,
    /// Base offset of the batch, or what the kind says.
    pub(crate) offset: Offset,
    /// Bytes of the batch, or of what else the kind says, that follow.
    pub(crate) length: u32,
    /// Copy of the batch's CRC-32C field; of other bytes that follow, their CRC-32C.
    pub(crate) batch_crc: u32,
    /// Which record of the batch has the largest timestamp (known from validation, not in the batch header).
    pub(crate) offset_delta_of_max_timestamp: i32,
}

impl EntryHeader {
    /// The header's bytes.
    pub(crate) fn to_bytes(self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut out = [0; ENTRY_HEADER_BYTES];
        out[0] = self.kind as u8;
        out[4..20].copy_from_slice(&self.id.topic.0);
        out[20..24].copy_from_slice(&self.id.partition.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.leader_epoch.0.to_le_bytes());
        out[28..36].copy_from_slice(&self.offset.0.to_le_bytes());
        out[36..40].copy_from_slice(&self.length.to_le_bytes());
        out[40..44].copy_from_slice(&self.batch_crc.to_le_bytes());
        out[44..48].copy_from_slice(&self.offset_delta_of_max_timestamp.to_le_bytes());
        out
    }

    /// The header at the front of `bytes`.
    pub(crate) fn parse_first(bytes: &[u8]) -> Option<EntryHeader> {
        EntryHeader::parse(bytes.first_chunk()?)
    }

    fn parse(bytes: &[u8; ENTRY_HEADER_BYTES]) -> Option<EntryHeader> {
        let mut fields = Decoder::new(bytes);
        Some(EntryHeader {
            kind: EntryKind::of(fields.u32().ok()?)?,
            id: fields.topic_partition().ok()?,
            leader_epoch: LeaderEpoch(fields.i32().ok()?),
            offset: fields.offset().ok()?,
            length: fields.u32().ok()?,
            batch_crc: fields.u32().ok()?,
            offset_delta_of_max_timestamp: fields.i32().ok()?,
        })
    }
}

/// One entry of a verified group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) header: EntryHeader,
    /// Where the batch lies in the group.
    pub(crate) batch_start: usize,
    /// The batch's own header; only for the two batch kinds.
    pub(crate) batch: Option<BatchHeader>,
}

/// Verifies a whole group, every payload byte included, and lists its entries. The error says what is wrong.
pub(crate) fn read_group(header: &GroupHeader, group: &[u8]) -> Result<Vec<Entry>, String> {
    let used = header.used_bytes as usize;
    let body = group.get(..used).ok_or("the group is cut off")?;
    let count = header.entry_count as usize;
    if count > used / ENTRY_HEADER_BYTES {
        return Err("more entries than bytes".to_owned());
    }
    let mut entries = Vec::with_capacity(count);
    let mut checksum = 0;
    let mut position = GROUP_HEADER_BYTES;
    for number in 0..count {
        let head = body
            .get(position..)
            .and_then(|rest| rest.first_chunk::<ENTRY_HEADER_BYTES>())
            .ok_or_else(|| format!("entry {number} is cut off"))?;
        checksum = crc32c::crc32c_append(checksum, head);
        let entry = EntryHeader::parse(head)
            .ok_or_else(|| format!("entry {number} has an unknown kind"))?;
        let batch_start = position + ENTRY_HEADER_BYTES;
        let batch_end = batch_start.saturating_add(entry.length as usize);
        let bytes = body
            .get(batch_start..batch_end)
            .ok_or_else(|| format!("batch {number} is cut off"))?;
        let batch = match entry.kind {
            EntryKind::Batch | EntryKind::CarriedBatch => Some(
                check_batch(&entry, bytes)
                    .ok_or_else(|| format!("batch {number} does not match its entry"))?,
            ),
            EntryKind::QuorumState | EntryKind::Placed
                if crc32c::crc32c(bytes) == entry.batch_crc =>
            {
                None
            }
            EntryKind::QuorumState | EntryKind::Placed => {
                return Err(format!("the bytes of entry {number} are damaged"));
            }
            _ if bytes.is_empty() => None,
            _ => return Err(format!("entry {number} has bytes of its own")),
        };
        entries.push(Entry {
            header: entry,
            batch_start,
            batch,
        });
        position = batch_end;
    }
    if checksum != header.entries_checksum || position != used {
        return Err("the checksum of the entries does not match".to_owned());
    }
    Ok(entries)
}

fn check_batch(entry: &EntryHeader, bytes: &[u8]) -> Option<BatchHeader> {
    let batch = BatchHeader::parse(bytes).ok()?;
    let bound = batch.size_bytes() == bytes.len()
        && batch.base_offset == entry.offset
        && batch.leader_epoch == entry.leader_epoch
        && batch.crc == entry.batch_crc
        && batch.base_offset.0 >= 0
        && batch.last_offset_delta >= 0
        && crc_matches(bytes);
    bound.then_some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> GroupHeader {
        GroupHeader {
            shard: ShardId(2),
            generation: 77,
            sequence: 9,
            durable_sequence: 8,
            previous_checksum: 5,
            used_bytes: 64,
            entry_count: 0,
            entries_checksum: 0,
        }
    }

    #[test]
    fn header_reads_back_and_every_flipped_bit_is_seen() {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        let checksum = header().write(&mut bytes);
        assert_eq!(GroupHeader::parse(&bytes), Ok((header(), checksum)));
        for bit in 0..GROUP_HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                GroupHeader::parse(&bytes),
                Err(FrameError::NotAGroup),
                "bit {bit}"
            );
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn entry_header_reads_back() {
        let entry = EntryHeader {
            kind: EntryKind::CarriedBatch,
            id: TopicPartition {
                topic: model::TopicId([7; 16]),
                partition: model::PartitionIndex(3),
            },
            leader_epoch: LeaderEpoch(4),
            offset: Offset(1 << 40),
            length: 99,
            batch_crc: 0xdead_beef,
            offset_delta_of_max_timestamp: 6,
        };
        assert_eq!(EntryHeader::parse(&entry.to_bytes()), Some(entry));
    }
}
