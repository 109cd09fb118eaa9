//! What one core counted, and the sum of several.
//!
//! Invariant: percentiles come from merged histograms, never from averages of percentiles.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use model::MonotonicTime;

/// Significant decimal digits kept of a latency.
const DIGITS: u8 = 3;
/// Longest latency told apart: an hour. Longer ones count as an hour.
const LATENCY_NANOS_MAX: u64 = 3_600_000_000_000;
/// Distinct kinds of errors told apart; the rest are summed under one name.
const ERROR_KINDS_MAX: usize = 64;

/// When an answer came.
#[derive(Clone, Copy, Debug)]
pub struct AnswerTimes {
    /// To the generator's socket.
    pub arrived_at: MonotonicTime,
    /// To the generator.
    pub read_at: MonotonicTime,
}

impl AnswerTimes {
    /// Of an answer that is read now.
    pub fn new(arrived_at: Option<MonotonicTime>, read_at: MonotonicTime) -> AnswerTimes {
        AnswerTimes {
            arrived_at: arrived_at.unwrap_or(read_at),
            read_at,
        }
    }
}

/// Counts of a stretch of time.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Records acknowledged, sent (acks=0) or received.
    pub records: u64,
    /// Bytes of keys and values before compression; 0 where they were not looked at.
    pub record_bytes: u64,
    /// Bytes of record batches as they travelled.
    pub batch_bytes: u64,
    /// Requests answered without error, or sent (acks=0).
    pub requests: u64,
    /// Nanoseconds from a request's intended time to its answer.
    pub latency: Histogram<u64>,
    /// Failed requests by kind.
    pub errors: BTreeMap<String, u64>,
    /// Connections made.
    pub connects: u64,
    /// Requests that were due and never sent, because earlier ones took too long.
    pub unsent: u64,
    /// Open loop: requests sent.
    pub sent: u64,
    /// Open loop: requests that were due before the broker had answered enough earlier ones to let them go.
    pub held_back: u64,
    /// Open loop: nanoseconds by which the generator itself was late, although it could have sent.
    pub send_lag: Histogram<u64>,
    /// Nanoseconds from sending a request to its answer.
    pub since_sent: Histogram<u64>,
    /// Nanoseconds that an answer lay in the generator's socket before it was read.
    pub answer_lag: Histogram<u64>,
    /// Nanoseconds from the intended time of a batch to its receipt by a consumer.
    pub end_to_end: Histogram<u64>,
    /// Rebalances of consumer groups that members went through, the first assignment included.
    pub rebalances: u64,
    /// Failed requests of the warm-up by kind.
    pub warmup_errors: BTreeMap<String, u64>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_NANOS_MAX, DIGITS)
        .expect("an hour at 3 digits is within what a histogram can keep")
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            records: 0,
            record_bytes: 0,
            batch_bytes: 0,
            requests: 0,
            latency: histogram(),
            errors: BTreeMap::new(),
            connects: 0,
            unsent: 0,
            sent: 0,
            held_back: 0,
            send_lag: histogram(),
            since_sent: histogram(),
            answer_lag: histogram(),
            end_to_end: histogram(),
            rebalances: 0,
            warmup_errors: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Counts an answered request.
    pub fn answered(&mut self, latency: Duration) {
        self.requests += 1;
        self.latency.saturating_record(nanos(latency));
    }

    /// Counts an open-loop request that was sent `lag` after it could have been.
    pub fn sent(&mut self, lag: Duration, held_back: bool) {
        self.sent += 1;
        self.held_back += u64::from(held_back);
        self.send_lag.saturating_record(nanos(lag));
    }

    /// Counts the time of an answered request since it was sent.
    pub fn served(&mut self, sent: MonotonicTime, answer: AnswerTimes) {
        let since_sent = answer.read_at.since(sent);
        let lag = answer.read_at.since(answer.arrived_at).min(since_sent);
        self.since_sent.saturating_record(nanos(since_sent));
        self.answer_lag.saturating_record(nanos(lag));
    }

    /// Counts a batch that a consumer received so long after its intended time.
    pub fn received(&mut self, end_to_end: Duration) {
        self.end_to_end.saturating_record(nanos(end_to_end));
    }

    /// Counts `count` failed requests.
    pub fn failed(&mut self, kind: &str, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(sum) = self.errors.get_mut(kind) {
            *sum += count;
            return;
        }
        let kind = if self.errors.len() < ERROR_KINDS_MAX {
            kind
        } else {
            "other"
        };
        *self.errors.entry(kind.to_owned()).or_default() += count;
    }

    /// All failed requests.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Latency below which `quantile` (0 to 1) of the requests stayed, in milliseconds.
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Tally) {
        self.records += other.records;
        self.record_bytes += other.record_bytes;
        self.batch_bytes += other.batch_bytes;
        self.requests += other.requests;
        for (own, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.send_lag, &other.send_lag),
            (&mut self.since_sent, &other.since_sent),
            (&mut self.answer_lag, &other.answer_lag),
            (&mut self.end_to_end, &other.end_to_end),
        ] {
            own.add(theirs)
                .expect("all histograms of tallies have the same bounds");
        }
        for (kind, count) in &other.errors {
            self.failed(kind, *count);
        }
        self.connects += other.connects;
        self.unsent += other.unsent;
        self.sent += other.sent;
        self.held_back += other.held_back;
        self.rebalances += other.rebalances;
        for (kind, count) in &other.warmup_errors {
            *self.warmup_errors.entry(kind.clone()).or_default() += count;
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos())
        .unwrap_or(u64::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_percentiles_are_those_of_all_requests() {
        // 99 fast requests on one core, 100 slow ones on another: the median of both is slow, their average is not.
        let (mut fast, mut slow) = (Tally::default(), Tally::default());
        for _ in 0..99 {
            fast.answered(Duration::from_millis(1));
        }
        for _ in 0..100 {
            slow.answered(Duration::from_millis(100));
        }
        fast.failed("TIMEOUT", 2);
        slow.failed("TIMEOUT", 1);
        fast.merge(&slow);
        assert_eq!(fast.requests, 199);
        assert!(fast.latency_ms(0.5) > 99.0, "{}", fast.latency_ms(0.5));
        assert!(fast.latency_ms(0.45) < 1.1);
        assert_eq!(fast.errors.get("TIMEOUT"), Some(&3));
        assert_eq!(fast.error_count(), 3);
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut tally = Tally::default();
        for kind in 0..1000 {
            tally.failed(&kind.to_string(), 1);
        }
        assert_eq!(tally.error_count(), 1000);
        assert_eq!(tally.errors.len(), ERROR_KINDS_MAX + 1);
    }
}
