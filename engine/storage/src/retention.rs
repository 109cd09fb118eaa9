//! Which segments have outlived their topic's retention. Pure. (`retention.ms`, `retention.bytes`, DeleteRecords)

use model::{Offset, Timestamp};

use crate::options::LogConfig;

/// What retention needs to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Its first offset.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// Its size.
    pub size_bytes: u64,
    /// Its largest timestamp, `NONE` if it has none.
    pub max_timestamp: Timestamp,
    /// When it was written last, by the broker's clock: its age if its records have no timestamp.
    pub written_at: Timestamp,
}

impl SegmentSummary {
    /// What its age counts from: as in Kafka, the records' time, and if they have none the file's.
    fn newest(&self) -> Option<Timestamp> {
        let known = [self.max_timestamp, self.written_at];
        known.into_iter().find(|timestamp| timestamp.0 >= 0)
    }
}

/// How many segments at the front may go.
///
/// `segments` are in offset order; what is in the journal only counts as the segments that it would fill. `size_bytes`
/// is the size of the whole log. As in Kafka:
/// segments below the log start always go; age and size apply if `cleanup.policy` contains `delete`, from the oldest
/// on, and stop at the first that must stay; a log never falls below `retention.bytes`.
pub fn removable_segments(
    segments: &[SegmentSummary],
    log_start_offset: Offset,
    size_bytes: u64,
    config: &LogConfig,
    now: Timestamp,
) -> usize {
    let mut excess = match u64::try_from(config.retention_bytes) {
        Ok(kept) if config.delete_enabled => size_bytes.saturating_sub(kept),
        _ => 0,
    };
    let mut count = 0;
    for segment in segments {
        let below_start = segment.next_offset <= log_start_offset;
        let expired = config.delete_enabled
            && config.retention_ms >= 0
            && segment
                .newest()
                .is_some_and(|newest| now.0.saturating_sub(newest.0) > config.retention_ms);
        let in_excess = excess > 0 && excess >= segment.size_bytes;
        if !(below_start || expired || in_excess) {
            break;
        }
        excess = excess.saturating_sub(segment.size_bytes);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_only_as_far_as_allowed() {
        // Four segments of 100 bytes and 10 records; timestamps 1000, 2000, 3000, 4000; log of 420 bytes.
        let segments: Vec<SegmentSummary> = (0..4)
            .map(|i| SegmentSummary {
                base_offset: Offset(i * 10),
                next_offset: Offset(i * 10 + 10),
                size_bytes: 100,
                max_timestamp: Timestamp((i + 1) * 1000),
                written_at: Timestamp(1 << 40),
            })
            .collect();
        // (retention.ms, retention.bytes, log start, delete enabled, now) -> segments that go
        let table = [
            ((-1, -1, 0, true, 1 << 40), 0),
            ((1000, -1, 0, true, 2000), 0),
            ((1000, -1, 0, true, 2001), 1),
            ((1000, -1, 0, true, 4500), 3),
            ((0, -1, 0, true, 5000), 4),
            ((1000, -1, 0, false, 9000), 0),
            ((-1, 420, 0, true, 0), 0),
            ((-1, 321, 0, true, 0), 0),
            ((-1, 320, 0, true, 0), 1),
            ((-1, 0, 0, true, 0), 4),
            ((-1, -1, 9, true, 0), 0),
            ((-1, -1, 10, false, 0), 1),
            ((-1, -1, 35, true, 0), 3),
            ((-1, -1, 40, true, 0), 4),
        ];
        for ((retention_ms, retention_bytes, start, delete_enabled, now), expected) in table {
            let config = LogConfig {
                retention_ms,
                retention_bytes,
                delete_enabled,
                ..LogConfig::default()
            };
            let count = removable_segments(&segments, Offset(start), 420, &config, Timestamp(now));
            assert_eq!(
                count, expected,
                "{retention_ms} {retention_bytes} {start} {delete_enabled} {now}"
            );
        }
    }

    #[test]
    fn records_without_a_timestamp_age_with_their_file() {
        let segment = |max_timestamp, written_at| SegmentSummary {
            base_offset: Offset(0),
            next_offset: Offset(10),
            size_bytes: 100,
            max_timestamp: Timestamp(max_timestamp),
            written_at: Timestamp(written_at),
        };
        // (largest timestamp, written at) -> goes at 5000 with a retention of 2000 ms
        let table = [
            ((-1, 2000), 1),
            ((-1, 4000), 0),
            ((-1, -1), 0),
            ((4000, 1000), 0),
            ((1000, 4000), 1),
        ];
        let config = LogConfig {
            retention_ms: 2000,
            ..LogConfig::default()
        };
        for ((max_timestamp, written_at), expected) in table {
            let segments = [segment(max_timestamp, written_at)];
            let count = removable_segments(&segments, Offset(0), 100, &config, Timestamp(5000));
            assert_eq!(count, expected, "{max_timestamp} {written_at}");
        }
    }
}
