//! Acknowledgements as they come: rates, and how long a partition had none. Pure; the time is always given.

use std::time::{Duration, Instant};

use serde::Serialize;

/// The acknowledgements of one partition.
#[derive(Clone, Debug)]
struct Partition {
    acknowledged: u64,
    last: Instant,
    longest: Duration,
}

/// Those of all.
#[derive(Clone, Debug)]
pub struct Flow {
    partitions: Vec<Partition>,
    second_begin: Instant,
    second_records: u64,
    second_longest: Duration,
}

/// One second of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Second {
    pub records_per_second: f64,
    /// The longest that a partition has been without an acknowledgement, however early it began.
    pub gap_ms: u64,
}

impl Flow {
    pub fn new(partitions: usize, now: Instant) -> Flow {
        let partition = Partition {
            acknowledged: 0,
            last: now,
            longest: Duration::ZERO,
        };
        Flow {
            partitions: vec![partition; partitions],
            second_begin: now,
            second_records: 0,
            second_longest: Duration::ZERO,
        }
    }

    /// A batch was acknowledged.
    pub fn acknowledged(&mut self, partition: usize, records: u64, at: Instant) {
        let partition = &mut self.partitions[partition];
        let gap = at.duration_since(partition.last);
        partition.acknowledged += records;
        partition.last = at;
        partition.longest = partition.longest.max(gap);
        self.second_records += records;
        self.second_longest = self.second_longest.max(gap);
    }

    /// Forgets the longest gaps: those that are over. One that lasts counts from its begin.
    pub fn forget_gaps(&mut self) {
        for partition in &mut self.partitions {
            partition.longest = Duration::ZERO;
        }
    }

    /// Ends a second, and begins the next one.
    pub fn second(&mut self, now: Instant) -> Second {
        let lasting = self
            .partitions
            .iter()
            .map(|one| now.duration_since(one.last));
        let gap = lasting.fold(self.second_longest, Duration::max);
        let second = Second {
            records_per_second: self.second_records as f64
                / now.duration_since(self.second_begin).as_secs_f64(),
            gap_ms: millis(gap),
        };
        self.second_begin = now;
        self.second_records = 0;
        self.second_longest = Duration::ZERO;
        second
    }

    /// Since when the second runs.
    pub fn second_begin(&self) -> Instant {
        self.second_begin
    }

    /// By partition: the longest gap since they were forgotten, one that lasts included.
    pub fn gaps_ms(&self, now: Instant) -> Vec<u64> {
        let gap = |one: &Partition| millis(one.longest.max(now.duration_since(one.last)));
        self.partitions.iter().map(gap).collect()
    }

    /// By partition: records acknowledged.
    pub fn acknowledged_records(&self) -> Vec<u64> {
        self.partitions.iter().map(|one| one.acknowledged).collect()
    }

    /// The partition with most of them.
    pub fn busiest(&self) -> usize {
        let partitions = self.partitions.iter().enumerate();
        let busiest = partitions.rev().max_by_key(|(_, one)| one.acknowledged);
        busiest
            .map(|(place, _)| place)
            .expect("a topic has a partition")
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a demo is shorter than the universe is old")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_count_from_their_begin_and_until_they_end() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut flow = Flow::new(2, begin);
        flow.acknowledged(0, 20, at(100));
        flow.acknowledged(1, 10, at(400));
        flow.acknowledged(0, 20, at(500));
        let second = flow.second(at(1000));
        assert_eq!((second.records_per_second, second.gap_ms), (50.0, 600));
        assert_eq!(flow.busiest(), 0);
        flow.forget_gaps();
        flow.acknowledged(0, 20, at(1100));
        // The gap of partition 1 lasts, and began before.
        assert_eq!(flow.gaps_ms(at(1500)), [600, 1100]);
        let second = flow.second(at(1500));
        assert_eq!((second.records_per_second, second.gap_ms), (40.0, 1100));
        flow.acknowledged(1, 10, at(1600));
        flow.acknowledged(1, 10, at(1700));
        assert_eq!(flow.gaps_ms(at(1700)), [600, 1200]);
        assert_eq!(flow.acknowledged_records(), [60, 30]);
    }

    #[test]
    fn the_first_of_equally_busy_partitions_is_the_busiest() {
        assert_eq!(Flow::new(3, Instant::now()).busiest(), 0);
    }
}
