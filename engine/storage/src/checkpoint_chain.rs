//! A checkpoint file: a whole checkpoint and, behind it, increments that say what has changed since. Pure.
//!
//! What a checkpoint costs so depends on what has changed, not on how many logs there are. Invariants: an increment is
//! written behind the one before, at the next multiple of 4096, and repeats its header's checksum; its sequence is the
//! next; nothing that counts is written over. Increments take at most half as much as the whole checkpoint they follow,
//! so that a start reads, and the next whole checkpoint is, at most half as much again.

use runtime::ALIGNMENT;

use crate::checkpoint::{Checkpoint, CheckpointError, Increment, header_checksum};

/// Increments may take this much behind a small checkpoint.
const INCREMENTS_BYTES_MIN: u64 = 32 << 10;

/// Reads a checkpoint file: the whole checkpoint with all increments added that follow it.
///
/// The chain ends where the next increment is not: it was never written, or was torn and so nobody has built on it. If
/// there is a later one, it had been durable, and is damaged.
pub(crate) fn decode_file(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let (mut checkpoint, mut position) = match Checkpoint::decode(bytes) {
        Ok(whole) => whole,
        Err(CheckpointError::Damaged(reason)) => return Err(damaged_whole(bytes, reason)),
        Err(other) => return Err(other),
    };
    let mut previous = header_checksum(bytes);
    while let Some(rest) = bytes.get(position..) {
        let next = match Increment::decode(rest) {
            Ok((next, len)) if is_next(&next, &checkpoint, previous) => (next, len),
            Err(CheckpointError::Format(found)) => return Err(CheckpointError::Format(found)),
            _ => break,
        };
        checkpoint.add(next.0)?;
        previous = header_checksum(rest);
        assert!(next.1.is_multiple_of(ALIGNMENT), "whole blocks");
        position += next.1;
    }
    let sequence = checkpoint.sequence;
    let later = |at: usize| match Increment::decode(&bytes[at..]) {
        Ok((later, _)) => later.sequence() > sequence + 1,
        Err(_) => false,
    };
    // Behind what is missing; what an earlier chain has left there has lower sequences.
    if (position..bytes.len()).step_by(ALIGNMENT).any(later) {
        let position = position as u64;
        return Err(CheckpointError::Broken { sequence, position });
    }
    Ok(checkpoint)
}

/// A whole checkpoint is damaged. If increments stand behind it, it had been durable; whether it counts, their sequences tell:
/// those of an earlier chain are below that of the other file.
fn damaged_whole(bytes: &[u8], reason: &'static str) -> CheckpointError {
    let blocks = (0..bytes.len()).step_by(ALIGNMENT);
    let increments = blocks.filter_map(|at| Increment::decode(&bytes[at..]).ok());
    match increments.map(|(increment, _)| increment.sequence()).max() {
        None => CheckpointError::Damaged(reason),
        Some(sequence) => CheckpointError::Broken {
            sequence,
            position: 0,
        },
    }
}

fn is_next(next: &Increment, checkpoint: &Checkpoint, previous: u32) -> bool {
    next.previous == previous && next.sequence() == checkpoint.sequence + 1
}

/// The file whose checkpoint counts, and where in it the next increment goes.
pub(crate) struct Chain {
    slot: u8,
    /// Of the last header.
    checksum: u32,
    end: u64,
    /// Increments end here at the latest.
    end_max: u64,
}

impl Chain {
    /// After a whole checkpoint in a file of `file_bytes`.
    pub(crate) fn begin(slot: u8, whole: &[u8], file_bytes: u64) -> Chain {
        let end = whole.len() as u64;
        assert!(end <= file_bytes, "a checkpoint lies in its file");
        let room = (end / 2).max(INCREMENTS_BYTES_MIN);
        Chain {
            slot,
            checksum: header_checksum(whole),
            end,
            end_max: file_bytes.min(end + room),
        }
    }

    pub(crate) fn slot(&self) -> u8 {
        self.slot
    }

    pub(crate) fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Where the next increment goes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn has_room(&self, increment: &[u8]) -> bool {
        self.end + increment.len() as u64 <= self.end_max
    }

    /// An increment is durable.
    pub(crate) fn added(&mut self, increment: &[u8]) {
        assert!(self.has_room(increment), "increments are bounded");
        self.end += increment.len() as u64;
        self.checksum = header_checksum(increment);
    }
}

/// Whether so many changes are said in an increment, which is cheaper than all only if it is much less.
pub(crate) fn is_worth_increment(changed: usize, all: usize) -> bool {
    changed <= all / 2
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use model::{Offset, PartitionIndex, ShardId, TopicId, TopicPartition};

    use super::*;
    use crate::cache::tail::JournalPosition;
    use crate::checkpoint::{CheckpointEncoder, CheckpointHead, RunState, checksum_of};
    use crate::journal::generations::Generations;
    use crate::log::Log;
    use crate::options::LogConfig;
    use crate::removals::Removal;

    fn id(partition: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicId([7; 16]),
            partition: PartitionIndex(partition),
        }
    }

    fn log(partition: i32, start: i64) -> Rc<Log> {
        let log = Rc::new(Log::new(id(partition), LogConfig::default(), 0));
        log.restore(Offset(start), Offset(start), 0);
        log.state_mut().written_end_offset = Offset(start);
        log
    }

    fn head(generations: &Generations, sequence: u64) -> CheckpointHead<'_> {
        CheckpointHead {
            state: RunState::Running,
            shard_count: 2,
            identity: None,
            generations,
            replay: JournalPosition {
                sequence,
                ..JournalPosition::first()
            },
        }
    }

    fn whole(sequence: u64, logs: &[Rc<Log>]) -> Vec<u8> {
        let mut encoder = CheckpointEncoder::new(&head(&Generations::default(), sequence), []);
        for log in logs {
            encoder.log(log, []);
        }
        encoder.finish(ShardId(1), sequence, sequence)
    }

    fn increment(sequence: u64, previous: u32, gone: &[i32], logs: &[Rc<Log>]) -> Vec<u8> {
        let gone: BTreeSet<TopicPartition> = gone.iter().map(|gone| id(*gone)).collect();
        let generations = Generations::default();
        let head = head(&generations, sequence);
        let mut encoder = CheckpointEncoder::increment(&head, previous, gone, []);
        for log in logs {
            encoder.log(log, []);
        }
        encoder.unchanged([Removal::Partition(id(99))]);
        encoder.finish(ShardId(1), sequence, sequence)
    }

    /// A file of three logs and two increments: log 1 changes, then 2 goes and 3 is made anew.
    fn file() -> (Vec<u8>, [usize; 3]) {
        let mut file = whole(10, &[log(1, 0), log(2, 0), log(3, 0)]);
        let first = increment(11, header_checksum(&file), &[], &[log(1, 5)]);
        let second = increment(12, header_checksum(&first), &[2, 3], &[log(3, 7)]);
        let ends = [file.len(), file.len() + first.len(), 0];
        file.extend(first);
        file.extend(second);
        let ends = [ends[0], ends[1], file.len()];
        file.resize(file.len() + 3 * ALIGNMENT, 0);
        (file, ends)
    }

    fn starts(checkpoint: &Checkpoint) -> Vec<(i32, i64)> {
        let of = |log: &Rc<Log>| (log.id().partition.0, log.log_start_offset().0);
        checkpoint.logs.iter().map(of).collect()
    }

    #[test]
    fn increments_say_what_has_changed() {
        let (file, ends) = file();
        let all = decode_file(&file).unwrap();
        assert_eq!(starts(&all), [(1, 5), (3, 7)]);
        assert_eq!((all.sequence, all.durable_through), (12, 12));
        assert_eq!(all.replay.sequence, 12);
        assert_eq!(all.removals, [Removal::Partition(id(99))]);
        // Cut off at each end, the chain is what was written until then.
        let one = decode_file(&file[..ends[1]]).unwrap();
        assert_eq!(starts(&one), [(1, 5), (2, 0), (3, 0)]);
        let none = decode_file(&file[..ends[0]]).unwrap();
        assert_eq!(starts(&none), [(1, 0), (2, 0), (3, 0)]);
        assert_eq!(checksum_of(&none.logs[0]), checksum_of(&log(1, 0)));
    }

    #[test]
    fn a_torn_increment_is_not_there_and_a_damaged_one_is_noticed() {
        let (file, ends) = file();
        for byte in (ends[1]..ends[2]).step_by(7) {
            let mut torn = file.clone();
            torn[byte] ^= 1;
            // The padding means nothing.
            let read = decode_file(&torn).unwrap();
            assert!([11, 12].contains(&read.sequence));
        }
        for byte in ends[0]..ends[0] + 64 {
            let mut damaged = file.clone();
            damaged[byte] ^= 0x10;
            let expected = CheckpointError::Broken {
                sequence: 10,
                position: ends[0] as u64,
            };
            assert_eq!(decode_file(&damaged).unwrap_err(), expected, "byte {byte}");
        }
    }

    #[test]
    fn a_damaged_whole_one_that_increments_follow_had_been_durable() {
        let (mut file, ends) = file();
        file[40] ^= 1;
        let expected = CheckpointError::Broken {
            sequence: 12,
            position: 0,
        };
        assert_eq!(decode_file(&file).unwrap_err(), expected);
        let alone = decode_file(&file[..ends[0]]).unwrap_err();
        assert!(matches!(alone, CheckpointError::Damaged(_)));
    }

    #[test]
    fn what_an_earlier_chain_has_left_means_nothing() {
        let (old, ends) = file();
        let mut file = whole(13, &[log(4, 1)]);
        file.extend(&old[ends[0]..]);
        let read = decode_file(&file).unwrap();
        assert_eq!((read.sequence, starts(&read)), (13, vec![(4, 1)]));
        // Nor one of the right sequence behind another checkpoint.
        let mut file = whole(10, &[log(4, 1)]);
        file.extend(&old[ends[0]..ends[1]]);
        assert_eq!(decode_file(&file).unwrap().sequence, 10);
    }

    #[test]
    fn increments_are_bounded() {
        let whole = whole(1, &[log(1, 0)]);
        let added = increment(2, header_checksum(&whole), &[], &[log(1, 1)]);
        for (file_bytes, count) in [(whole.len() as u64, 0), (12 << 10, 2), (1 << 20, 8)] {
            let mut chain = Chain::begin(1, &whole, file_bytes);
            let mut fitted = 0;
            while chain.has_room(&added) {
                chain.added(&added);
                fitted += 1;
            }
            assert_eq!((fitted, chain.slot()), (count, 1), "{file_bytes}");
        }
        assert!(is_worth_increment(0, 0) && is_worth_increment(1, 2));
        assert!(!is_worth_increment(1, 1) && !is_worth_increment(2, 3));
    }
}
