//! What one core counted, and the sum of several.
//!
//! Invariant: percentiles come from merged histograms, never from averages of percentiles.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Significant decimal digits kept of a latency.
const DIGITS: u8 = 3;
/// Longest latency told apart: an hour. Longer ones count as an hour.
const LATENCY_NANOS_MAX: u64 = 3_600_000_000_000;
/// Distinct kinds of errors told apart; the rest are summed under one name.
const ERROR_KINDS_MAX: usize = 64;

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
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            records: 0,
            record_bytes: 0,
            batch_bytes: 0,
            requests: 0,
            latency: Histogram::new_with_max(LATENCY_NANOS_MAX, DIGITS)
                .expect("an hour at 3 digits is within what a histogram can keep"),
            errors: BTreeMap::new(),
            connects: 0,
            unsent: 0,
        }
    }
}

impl Tally {
    /// Counts an answered request.
    pub fn answered(&mut self, latency: Duration) {
        self.requests += 1;
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos.max(1));
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
        // Both histograms have the same bounds, so adding cannot fail.
        if self.latency.add(&other.latency).is_err() {
            self.failed("latencies that could not be merged", other.latency.len());
        }
        for (kind, count) in &other.errors {
            self.failed(kind, *count);
        }
        self.connects += other.connects;
        self.unsent += other.unsent;
    }
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
