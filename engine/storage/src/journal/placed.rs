//! Batches whose bytes lie in a segment and not in their commit group, which describes them instead. Pure. FORMAT.md,
//! section "Placed batches".
//!
//! Their own CRCs cover what producers have sent; the checksum of their heads covers what the broker has stamped on them,
//! and these CRCs. So whatever lay at the place before is told from them, sound batches of another log included.

use bytes::Bytes;
use model::record::{BatchHeader, crc_matches};
use model::{Offset, TopicPartition};

use crate::encoding::{Decoder, Encoder, Short};
use crate::index::SegmentId;

/// Base offset, length, leader epoch, magic and CRC of a batch.
const HEAD_BYTES: usize = 21;
/// Bytes of a description without its batches.
const PLACED_BYTES_MIN: usize = 40;

/// Where the batches of one log lie, back to back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The segment's base offset.
    pub(crate) segment: Offset,
    pub(crate) generation: u32,
    /// Where in its file the first of them begins.
    pub(crate) position: u64,
    pub(crate) bytes: u32,
    /// The offset behind the last of them.
    pub(crate) next_offset: Offset,
    /// CRC-32C of their heads.
    heads: u32,
    /// Of each batch: which record has the largest timestamp, which its header does not say.
    deltas: Vec<i32>,
}

/// A batch that was found where its group says.
#[derive(Clone, Debug)]
pub(crate) struct FoundBatch {
    pub(crate) header: BatchHeader,
    pub(crate) offset_delta_of_max_timestamp: i32,
    pub(crate) bytes: Bytes,
}

impl Placed {
    /// Batches that will lie at this place.
    pub(crate) fn new(segment: Offset, generation: u32, position: u64, first: Offset) -> Placed {
        Placed {
            segment,
            generation,
            position,
            bytes: 0,
            next_offset: first,
            heads: 0,
            deltas: Vec::new(),
        }
    }

    /// The next of them, which ends at `next_offset`.
    pub(crate) fn push(&mut self, batch: &[u8], next_offset: Offset, delta: i32) {
        assert!(next_offset > self.next_offset, "batches go forward");
        let bytes = u32::try_from(batch.len()).expect("a batch has less than 2 GiB");
        self.bytes = self.bytes.checked_add(bytes).expect("less than a segment");
        self.heads = crc32c::crc32c_append(self.heads, &batch[..HEAD_BYTES]);
        self.next_offset = next_offset;
        self.deltas.push(delta);
    }

    /// The segment, of the log of this name.
    pub(crate) fn segment_of(&self, partition: TopicPartition) -> SegmentId {
        SegmentId {
            base_offset: self.segment,
            generation: self.generation,
            ..SegmentId::first_of(partition)
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.offset(self.segment);
        out.u32(self.generation);
        out.u64(self.position);
        out.u32(self.bytes);
        out.offset(self.next_offset);
        out.u32(self.heads);
        out.count(self.deltas.len());
        for delta in &self.deltas {
            out.i32(*delta);
        }
        out.bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Placed, Short> {
        let mut from = Decoder::new(bytes);
        let mut placed = Placed {
            segment: from.offset()?,
            generation: from.u32()?,
            position: from.u64()?,
            bytes: from.u32()?,
            next_offset: from.offset()?,
            heads: from.u32()?,
            deltas: Vec::new(),
        };
        for _ in 0..from.count(4)? {
            placed.deltas.push(from.i32()?);
        }
        let is_whole = from.is_empty() && !placed.deltas.is_empty();
        is_whole.then_some(placed).ok_or(Short)
    }

    /// The batches, the first of which is at `first`, if `found` is what lay at the place; else what is wrong.
    pub(crate) fn read(&self, first: Offset, found: &Bytes) -> Result<Vec<FoundBatch>, String> {
        if found.len() != self.bytes as usize {
            return Err("the segment is too short".to_owned());
        }
        let mut batches = Vec::with_capacity(self.deltas.len());
        let (mut position, mut next_offset, mut heads) = (0, first, 0);
        for delta in &self.deltas {
            let rest = &found[position..];
            let wrong = || format!("no batch of offset {next_offset} is there");
            let header = BatchHeader::parse(rest).map_err(|_| wrong())?;
            let len = header.size_bytes();
            let is_it = header.base_offset == next_offset
                && header.last_offset_delta >= 0
                && rest.get(..len).is_some_and(crc_matches);
            if !is_it {
                return Err(wrong());
            }
            heads = crc32c::crc32c_append(heads, &rest[..HEAD_BYTES]);
            next_offset = header.next_offset();
            batches.push(FoundBatch {
                header,
                offset_delta_of_max_timestamp: (*delta).clamp(0, header.last_offset_delta),
                bytes: found.slice(position..position + len),
            });
            position += len;
        }
        let is_all = position == found.len() && next_offset == self.next_offset;
        if is_all && heads == self.heads {
            Ok(batches)
        } else {
            Err("other batches are there".to_owned())
        }
    }
}

const _: () = assert!(
    PLACED_BYTES_MIN == 8 + 4 + 8 + 4 + 8 + 4 + 4,
    "FORMAT.md says so"
);

#[cfg(test)]
mod tests {
    use model::record::{BatchBuilder, set_base_offset, set_leader_epoch};
    use model::{LeaderEpoch, Timestamp};

    use super::*;

    fn batch(base: i64, epoch: i32, value: u8) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for record in 0..2 {
            builder.push(Timestamp(record), None, Some(&[value; 30]));
        }
        let mut bytes = builder.build().unwrap().to_vec();
        set_base_offset(&mut bytes, Offset(base)).unwrap();
        set_leader_epoch(&mut bytes, LeaderEpoch(epoch)).unwrap();
        bytes
    }

    fn placed(batches: &[Vec<u8>]) -> (Placed, Bytes) {
        let mut placed = Placed::new(Offset(10), 3, 5000, Offset(20));
        for (number, batch) in batches.iter().enumerate() {
            placed.push(batch, Offset(22 + 2 * number as i64), number as i32);
        }
        (placed, batches.concat().into())
    }

    #[test]
    fn a_description_reads_back_and_finds_its_batches() {
        let (placed, bytes) = placed(&[batch(20, 1, 7), batch(22, 1, 8)]);
        assert_eq!(Placed::decode(&placed.encode()), Ok(placed.clone()));
        let found = placed.read(Offset(20), &bytes).unwrap();
        let offsets: Vec<i64> = found
            .iter()
            .map(|found| found.header.base_offset.0)
            .collect();
        assert_eq!(offsets, [20, 22]);
        assert_eq!(found[1].offset_delta_of_max_timestamp, 1);
        for cut in 0..placed.encode().len() {
            assert_eq!(Placed::decode(&placed.encode()[..cut]), Err(Short));
        }
    }

    #[test]
    fn whatever_else_lies_there_is_told_from_them() {
        let (placed, bytes) = placed(&[batch(20, 1, 7), batch(22, 1, 8)]);
        for byte in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[byte] ^= 4;
            let read = placed.read(Offset(20), &damaged.into());
            assert!(read.is_err(), "byte {byte}");
        }
        // Sound batches of the same offsets: other records, or of another epoch.
        for other in [
            [batch(20, 1, 7), batch(22, 1, 9)],
            [batch(20, 1, 7), batch(22, 2, 8)],
        ] {
            assert!(placed.read(Offset(20), &other.concat().into()).is_err());
        }
        assert!(placed.read(Offset(21), &bytes).is_err());
        assert!(placed.read(Offset(20), &bytes.slice(1..)).is_err());
    }
}
