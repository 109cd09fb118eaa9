//! Bytes of a snapshot: record batches v2 back to back, a control batch with the header first and one with the footer
//! last, offsets from 0 without gaps. Pure.
//!
//! A file that was cut off lacks the footer, and each batch has its checksum; base offsets and leader epochs, which the
//! checksums do not cover, are known. So what passes [`check`] is what was written, all of it.

use bytes::Bytes;
use model::record::control::{
    decode_control_record, snapshot_footer_batch, snapshot_header_batch, snapshot_mark,
};
use model::record::{
    BatchBuilder, BatchHeader, Batches, ControlRecord, DecompressionScratch, crc_matches,
    read_records,
};
use model::{LeaderEpoch, Offset, Timestamp};
use runtime::ALIGNMENT;

/// A batch is closed when it has this many bytes.
const BATCH_BYTES: usize = 64 << 10;

/// Encodes a snapshot batch by batch. Each call returns what comes next in the file.
pub(crate) struct SnapshotEncoder {
    epoch: LeaderEpoch,
    now: Timestamp,
    batch: BatchBuilder,
    next_offset: Offset,
}

impl SnapshotEncoder {
    /// Begins a snapshot, at wall-clock time `now`.
    pub(crate) fn begin(
        epoch: LeaderEpoch,
        last_contained_log_timestamp: Timestamp,
        mark: &[u8],
        now: Timestamp,
    ) -> (SnapshotEncoder, Bytes) {
        let header = snapshot_header_batch(epoch, last_contained_log_timestamp, mark, now);
        let mut encoder = SnapshotEncoder {
            epoch,
            now,
            batch: BatchBuilder::new(),
            next_offset: Offset::ZERO.plus(1),
        };
        encoder.batch = encoder.new_batch();
        (encoder, header.expect("a header is small"))
    }

    /// Adds a record. Returns a batch when one is full.
    pub(crate) fn push(&mut self, value: &[u8]) -> Option<Bytes> {
        self.batch.push(self.now, None, Some(value));
        self.next_offset = self.next_offset.plus(1);
        (self.batch.uncompressed_bytes() >= BATCH_BYTES).then(|| self.close_batch())
    }

    /// What is left: the last batch, if it holds anything, and the footer.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        let mut left = Vec::new();
        if !self.batch.is_empty() {
            left.push(self.close_batch());
        }
        let footer = snapshot_footer_batch(self.next_offset, self.epoch, self.now);
        left.push(footer.expect("a footer is small"));
        left
    }

    fn new_batch(&self) -> BatchBuilder {
        BatchBuilder::new()
            .base_offset(self.next_offset)
            .leader_epoch(self.epoch)
    }

    fn close_batch(&mut self) -> Bytes {
        let next = self.new_batch();
        let batch = std::mem::replace(&mut self.batch, next).build();
        batch.expect("a batch is closed long before it is too large, and not when it is empty")
    }
}

/// What a sound snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Of the last record that the snapshot stands for.
    pub(crate) last_contained_log_timestamp: Timestamp,
    /// What its owner keeps with it.
    pub(crate) mark: Bytes,
    /// Where its batches of records lie, in bytes.
    pub(crate) records: std::ops::Range<usize>,
}

/// What is wrong with a snapshot, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// In bytes.
    pub(crate) position: usize,
    pub(crate) reason: &'static str,
}

/// Checks the bytes of a snapshot of this epoch: whole, each batch sound and in its place.
pub(crate) fn check(bytes: &[u8], epoch: LeaderEpoch) -> Result<Content, Damage> {
    let mut position = 0;
    let mut next_offset = Offset::ZERO;
    let mut begun: Option<(Timestamp, Bytes, usize)> = None;
    let mut batches = Batches::new(bytes);
    while let Some(batch) = batches.next() {
        let damage = |reason| Damage { position, reason };
        let (header, batch) = batch.map_err(|_| damage("not a whole record batch"))?;
        check_batch(&header, batch, next_offset, epoch).map_err(damage)?;
        let end = position + batch.len();
        match (begun.take(), control(&header, batch).map_err(damage)?) {
            (
                None,
                Some((
                    ControlRecord::SnapshotHeader {
                        last_contained_log_timestamp,
                    },
                    mark,
                )),
            ) => {
                begun = Some((last_contained_log_timestamp, mark, end));
            }
            (None, _) => return Err(damage("it does not begin with the header of a snapshot")),
            (Some(known), None) => begun = Some(known),
            (
                Some((last_contained_log_timestamp, mark, start)),
                Some((ControlRecord::SnapshotFooter, _)),
            ) => {
                check_end(batches.rest()).map_err(|reason| Damage {
                    position: end,
                    reason,
                })?;
                return Ok(Content {
                    last_contained_log_timestamp,
                    mark,
                    records: start..position,
                });
            }
            (Some(_), Some(_)) => return Err(damage("a control record among the records")),
        }
        next_offset = header.next_offset();
        position = end;
    }
    Err(Damage {
        position,
        reason: "it ends without the footer of a snapshot",
    })
}

fn check_batch(
    header: &BatchHeader,
    batch: &[u8],
    offset: Offset,
    epoch: LeaderEpoch,
) -> Result<(), &'static str> {
    if !crc_matches(batch) {
        return Err("a batch does not match its checksum");
    }
    if header.base_offset != offset {
        return Err("a batch is not in its place");
    }
    if header.leader_epoch != epoch {
        return Err("a batch of another leader epoch than that of the file's name");
    }
    Ok(())
}

/// What a control batch says, and the mark of a header; `None` for a batch of records.
fn control(
    header: &BatchHeader,
    batch: &[u8],
) -> Result<Option<(ControlRecord, Bytes)>, &'static str> {
    if !header.is_control() {
        return Ok(None);
    }
    let unreadable = "a control batch that cannot be read";
    let mut scratch = DecompressionScratch::new();
    let mut records = read_records(batch, &mut scratch).map_err(|_| unreadable)?;
    let record = records.next().and_then(Result::ok).ok_or(unreadable)?;
    let said = decode_control_record(&record).map_err(|_| unreadable)?;
    let mark = match said {
        ControlRecord::SnapshotHeader { .. } => {
            Bytes::copy_from_slice(snapshot_mark(&record).map_err(|_| unreadable)?)
        }
        _ => Bytes::new(),
    };
    match records.next() {
        None => Ok(Some((said, mark))),
        Some(_) => Err("a control batch of more than one record"),
    }
}

/// Behind the footer there may be zeros up to the end of a block: the file was written in blocks, and cut to size.
fn check_end(rest: &[u8]) -> Result<(), &'static str> {
    if rest.len() < ALIGNMENT && rest.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err("there is something behind the footer")
    }
}

#[cfg(test)]
mod tests {
    use model::record::set_base_offset;

    use super::*;

    const EPOCH: LeaderEpoch = LeaderEpoch(3);
    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const LAST: Timestamp = Timestamp(1_600_000_000_000);
    const MARK: &[u8] = &[4, 5, 6];

    fn snapshot(records: usize, value_bytes: usize) -> Vec<u8> {
        let (mut encoder, header) = SnapshotEncoder::begin(EPOCH, LAST, MARK, NOW);
        let mut bytes = header.to_vec();
        for number in 0..records {
            let full = encoder.push(&vec![number as u8; value_bytes]);
            bytes.extend(full.into_iter().flatten());
        }
        for batch in encoder.finish() {
            bytes.extend_from_slice(&batch);
        }
        bytes
    }

    /// Values of the records of a sound snapshot.
    fn values(bytes: &[u8]) -> Vec<Vec<u8>> {
        let content = check(bytes, EPOCH).unwrap();
        assert_eq!(content.last_contained_log_timestamp, LAST);
        assert_eq!(content.mark, MARK);
        let mut values = Vec::new();
        for batch in Batches::new(&bytes[content.records]) {
            let (_, batch) = batch.unwrap();
            let records = model::record::read_records_owned(batch).unwrap();
            values.extend(
                records
                    .into_iter()
                    .map(|record| record.value.unwrap().to_vec()),
            );
        }
        values
    }

    #[test]
    fn what_is_written_is_read() {
        for (records, value_bytes) in [(0, 0), (1, 0), (10, 100), (300, 1000), (3, 200_000)] {
            let bytes = snapshot(records, value_bytes);
            let expected: Vec<Vec<u8>> = (0..records)
                .map(|number| vec![number as u8; value_bytes])
                .collect();
            assert_eq!(values(&bytes), expected);
            let batches = Batches::new(&bytes).count() - 2;
            let least = records * value_bytes / (2 * BATCH_BYTES);
            assert!(batches >= least.min(records), "{batches} batches");
        }
    }

    #[test]
    fn nothing_less_than_all_of_it_is_sound() {
        let bytes = snapshot(300, 1000);
        for length in (0..bytes.len()).rev().step_by(97).chain(0..70) {
            assert!(check(&bytes[..length], EPOCH).is_err(), "cut at {length}");
        }
        let mut longer = bytes.clone();
        longer.extend_from_slice(&[0; 4095]);
        assert_eq!(check(&longer, EPOCH), check(&bytes, EPOCH));
        longer.push(0);
        assert!(check(&longer, EPOCH).is_err(), "a whole block behind it");
        longer.truncate(bytes.len());
        longer.push(1);
        assert!(check(&longer, EPOCH).is_err(), "something behind it");
        assert!(check(&vec![0; 8192], EPOCH).is_err(), "zeros");
        assert!(check(&bytes, LeaderEpoch(4)).is_err(), "of another epoch");
        let twice = [bytes.clone(), bytes.clone()].concat();
        assert!(check(&twice, EPOCH).is_err(), "two of them");
    }

    #[test]
    fn every_bit_counts() {
        let bytes = snapshot(40, 20);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(check(&damaged, EPOCH).is_err(), "byte {at}");
        }
    }

    #[test]
    fn batches_are_in_their_places() {
        let bytes = snapshot(300, 1000);
        let batches: Vec<&[u8]> = Batches::new(&bytes).map(|batch| batch.unwrap().1).collect();
        assert!(batches.len() > 4);
        let mut swapped = batches.clone();
        swapped.swap(1, 2);
        let mut missing = batches.clone();
        missing.remove(2);
        let mut headless = batches.clone();
        headless.remove(0);
        let mut doubled = batches.clone();
        doubled.insert(1, batches[0]);
        for wrong in [swapped, missing, headless, doubled] {
            assert!(check(&wrong.concat(), EPOCH).is_err());
        }
        // A footer in the middle, in its place.
        let mut footer = batches[batches.len() - 1].to_vec();
        let second = BatchHeader::parse(batches[2]).unwrap().base_offset;
        set_base_offset(&mut footer, second).unwrap();
        let wrong = [
            &bytes[..batches[0].len() + batches[1].len()],
            &footer,
            batches[2],
        ]
        .concat();
        assert!(check(&wrong, EPOCH).is_err());
    }
}
