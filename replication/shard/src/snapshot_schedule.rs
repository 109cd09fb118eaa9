//! When a snapshot of the metadata log is due: after so many bytes of records, or after so much time if there were any
//! (`metadata.log.max.record.bytes.between.snapshots`, `metadata.log.max.snapshot.interval.ms`). Pure.
//!
//! Invariant: one snapshot is under way at a time; records count until a snapshot stands for them.

use std::time::Duration;

use model::MonotonicTime;
use model::config::BrokerSettings;

/// Pause after a snapshot that was given up: the device may be full, and nothing waits for it.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Nobody,
    /// A snapshot is being prepared.
    Begun,
    /// It stands for what was there at this time, of which these bytes were new.
    Taken(MonotonicTime, u64),
}

/// What has come since the last snapshot.
pub(crate) struct SnapshotSchedule {
    bytes_max: u64,
    interval: Option<Duration>,
    bytes: u64,
    since: MonotonicTime,
    not_before: MonotonicTime,
    turn: Turn,
}

impl SnapshotSchedule {
    /// From a start at `now` on.
    pub(crate) fn new(settings: &BrokerSettings, now: MonotonicTime) -> SnapshotSchedule {
        // The registry's ranges begin at 1 and 0.
        let bytes_max = settings.metadata_log_max_record_bytes_between_snapshots;
        let interval_ms = settings.metadata_log_max_snapshot_interval_ms;
        SnapshotSchedule {
            bytes_max: bytes_max.unsigned_abs(),
            interval: (interval_ms > 0).then(|| Duration::from_millis(interval_ms.unsigned_abs())),
            bytes: 0,
            since: now,
            not_before: now,
            turn: Turn::Nobody,
        }
    }

    /// Records of so many bytes are in the metadata log that no snapshot stands for.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Takes the turn if a snapshot is due.
    #[must_use]
    pub(crate) fn begin(&mut self, now: MonotonicTime) -> bool {
        let interval = self.interval;
        let is_due = self.bytes > 0
            && (self.bytes >= self.bytes_max
                || interval.is_some_and(|interval| now.since(self.since) >= interval));
        if !is_due || self.turn != Turn::Nobody || now < self.not_before {
            return false;
        }
        self.turn = Turn::Begun;
        true
    }

    /// The snapshot under way stands for all records up to now.
    pub(crate) fn taken(&mut self, now: MonotonicTime) {
        assert_eq!(self.turn, Turn::Begun, "a snapshot is taken once");
        self.turn = Turn::Taken(now, std::mem::take(&mut self.bytes));
    }

    /// It is written.
    pub(crate) fn written(&mut self) {
        let Turn::Taken(at, _) = std::mem::replace(&mut self.turn, Turn::Nobody) else {
            panic!("what is written was taken");
        };
        self.since = at;
    }

    /// It was given up.
    pub(crate) fn failed(&mut self, now: MonotonicTime) {
        match std::mem::replace(&mut self.turn, Turn::Nobody) {
            Turn::Nobody => panic!("what is given up was begun"),
            Turn::Begun => {}
            Turn::Taken(_, bytes) => self.bytes += bytes,
        }
        self.not_before = now.plus(RETRY_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use model::config::BrokerConfig;
    use model::config::broker::Settings;

    use super::*;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(0).plus(Duration::from_secs(seconds))
    }

    fn schedule(bytes_max: &str, interval_ms: &str) -> SnapshotSchedule {
        let overrides = [
            ("metadata.log.max.record.bytes.between.snapshots", bytes_max),
            ("metadata.log.max.snapshot.interval.ms", interval_ms),
        ];
        let overrides: Settings = overrides
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let none = Settings::new();
        let config = BrokerConfig::from_layers(&none, &none, &overrides).unwrap();
        SnapshotSchedule::new(&config, at(0))
    }

    #[test]
    fn due_after_bytes_or_time_and_never_without_records() {
        // (bytes.between, interval.ms), bytes added, seconds passed -> due
        let table = [
            (("100", "60000"), 0, 1_000_000, false),
            (("100", "60000"), 99, 59, false),
            (("100", "60000"), 100, 0, true),
            (("100", "60000"), 1, 60, true),
            (("100", "0"), 99, 1_000_000, false),
            (("1", "0"), 1, 0, true),
        ];
        for ((bytes_max, interval_ms), bytes, seconds, expected) in table {
            let mut schedule = schedule(bytes_max, interval_ms);
            schedule.add(bytes);
            let due = schedule.begin(at(seconds));
            assert_eq!(due, expected, "{bytes_max} {interval_ms} {bytes} {seconds}");
        }
    }

    #[test]
    fn records_count_until_a_snapshot_stands_for_them() {
        let mut schedule = schedule("100", "60000");
        schedule.add(150);
        assert!(schedule.begin(at(1)));
        schedule.add(30);
        assert!(!schedule.begin(at(2)), "one at a time");
        schedule.taken(at(3));
        schedule.add(40);
        schedule.failed(at(4));
        assert!(!schedule.begin(at(13)), "not at once again");
        assert!(schedule.begin(at(14)));
        schedule.taken(at(14));
        schedule.add(99);
        schedule.written();
        assert!(!schedule.begin(at(73)));
        assert!(schedule.begin(at(74)), "by time, since it was taken");
        schedule.failed(at(75));
        assert!(!schedule.begin(at(84)));
        schedule.add(1);
        assert!(schedule.begin(at(85)));
    }
}
