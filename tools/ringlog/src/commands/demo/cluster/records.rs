//! The records of a demo of several brokers, and whether what was read back is what was acknowledged. Pure.

use model::PartitionIndex;
use serde::Serialize;

/// Records of a request; twice as many in the first partition.
pub const RECORDS_PER_BATCH: u64 = 10;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// Examples of what is wrong that are kept; the rest is only counted.
const EXAMPLES_MAX: usize = 3;

/// The record with that number in that partition.
pub fn value(partition: usize, number: u64) -> String {
    format!(
        "{:.<VALUE_BYTES$}",
        format!("partition {partition} record {number} ")
    )
}

/// The number in a record, if it is one of this partition, unchanged.
fn number_of(partition: usize, bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = text.strip_prefix(&format!("partition {partition} record "))?;
    let number = number.split(' ').next()?.parse().ok()?;
    (text == value(partition, number)).then_some(number)
}

/// What has been read, against what was acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Judge {
    pub read: u64,
    /// Acknowledged, and not there.
    pub lost: u64,
    /// There again, or behind a later one.
    pub misplaced: u64,
    /// Nobody has sent them.
    pub changed: u64,
    pub examples: Vec<String>,
    /// By partition: the number that is due.
    #[serde(skip)]
    next: Vec<u64>,
    /// By partition: how many were acknowledged.
    #[serde(skip)]
    acknowledged: Vec<u64>,
}

impl Judge {
    /// For partitions of which so many records were acknowledged.
    pub fn new(acknowledged: Vec<u64>) -> Judge {
        Judge {
            next: vec![0; acknowledged.len()],
            acknowledged,
            ..Judge::default()
        }
    }

    /// Takes the next record of a partition.
    pub fn take(&mut self, partition: PartitionIndex, bytes: &[u8]) {
        self.read += 1;
        let place = usize::try_from(partition.0).expect("partitions have positive indexes");
        let Some(number) = number_of(place, bytes) else {
            self.changed += 1;
            return self.note(format!("partition {place}: a record that nobody sent"));
        };
        let due = self.next[place];
        if number < due {
            self.misplaced += 1;
            return self.note(format!("partition {place}: {number} again, or late"));
        }
        self.next[place] = number + 1;
        self.miss(place, due, number);
    }

    /// Numbers from `due` up to `found` are not there. Those that were not acknowledged may be missing.
    fn miss(&mut self, place: usize, due: u64, found: u64) {
        let end = found.min(self.acknowledged[place]);
        if due < end {
            self.lost += end - due;
            self.note(format!("partition {place}: {due} to {} are lost", end - 1));
        }
    }

    fn note(&mut self, example: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example);
        }
    }

    /// All is read: what has not come is lost.
    pub fn finish(mut self) -> Judge {
        for place in 0..self.next.len() {
            self.miss(place, self.next[place], u64::MAX);
        }
        self
    }

    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.misplaced == 0 && self.changed == 0
    }

    /// What is wrong, in one line.
    pub fn verdict(&self) -> String {
        format!(
            "{} lost, {} twice or out of order, {} changed",
            self.lost, self.misplaced, self.changed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(acknowledged: u64, found: &[u64]) -> Judge {
        let mut judge = Judge::new(vec![acknowledged]);
        for number in found {
            judge.take(PartitionIndex(0), value(0, *number).as_bytes());
        }
        judge.finish()
    }

    #[test]
    fn what_was_acknowledged_must_be_there_once_and_in_order() {
        for (acknowledged, found, lost, misplaced) in [
            (3, &[0, 1, 2][..], 0, 0),
            // What was sent and not acknowledged may be there or not.
            (3, &[0, 1, 2, 3, 4], 0, 0),
            (3, &[0, 1, 2, 4], 0, 0),
            (0, &[], 0, 0),
            (3, &[0, 1], 1, 0),
            (3, &[0, 2], 1, 0),
            (3, &[], 3, 0),
            (3, &[0, 1, 1, 2], 0, 1),
            (3, &[0, 2, 1], 1, 1),
        ] {
            let judge = judged(acknowledged, found);
            assert_eq!(
                (judge.lost, judge.misplaced),
                (lost, misplaced),
                "{found:?}"
            );
            assert_eq!(judge.is_clean(), lost + misplaced == 0);
            assert_eq!(judge.examples.is_empty(), judge.is_clean());
        }
    }

    #[test]
    fn a_record_of_another_partition_or_with_other_bytes_is_changed() {
        let mut judge = Judge::new(vec![0, 0]);
        judge.take(PartitionIndex(1), value(0, 0).as_bytes());
        judge.take(PartitionIndex(0), value(0, 0).replace('.', ",").as_bytes());
        judge.take(PartitionIndex(0), b"\xff");
        assert_eq!(judge.changed, 3);
        assert_eq!(value(5, u64::from(u32::MAX)).len(), VALUE_BYTES);
    }
}
