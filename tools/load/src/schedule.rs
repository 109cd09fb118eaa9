//! When each request of a load is due.
//!
//! Pure. Invariant: an open-loop schedule depends on the start and the rate alone, never on how fast the broker
//! answers; latency counted from its times cannot omit the requests a slow broker kept waiting.

use std::time::Duration;

use model::MonotonicTime;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The requests of one stream (one connection) of a load.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// Closed loop: the next request is due when an earlier one was answered. Intended time is the send time.
    Closed,
    /// Open loop: requests are due at fixed times.
    Open(OpenSchedule),
}

/// Evenly spaced times of one stream out of several that share a rate.
#[derive(Clone, Debug)]
pub struct OpenSchedule {
    start: MonotonicTime,
    records_per_second: u64,
    records_per_request: u64,
    stream: u64,
    streams: u64,
    next: u64,
}

impl OpenSchedule {
    /// Stream number `stream` of `streams`, which together send `records_per_second` in requests of
    /// `records_per_request`. All three counts are at least 1; smaller ones are raised.
    pub fn new(
        start: MonotonicTime,
        records_per_second: u64,
        records_per_request: u64,
        stream: u64,
        streams: u64,
    ) -> OpenSchedule {
        OpenSchedule {
            start,
            records_per_second: records_per_second.max(1),
            records_per_request: records_per_request.max(1),
            stream,
            streams: streams.max(1),
            next: 0,
        }
    }

    /// Intended time of this stream's request number `index`, computed from the start without rounding drift.
    pub fn intended(&self, index: u64) -> MonotonicTime {
        let request = u128::from(index) * u128::from(self.streams) + u128::from(self.stream);
        let nanos = request * u128::from(self.records_per_request) * NANOS_PER_SECOND
            / u128::from(self.records_per_second);
        MonotonicTime(
            self.start
                .0
                .saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX)),
        )
    }

    /// Requests due by `now` and not taken yet.
    pub fn backlog(&self, now: MonotonicTime) -> u64 {
        if self.intended(self.next) > now {
            return 0;
        }
        let nanos = u128::from(now.0 - self.start.0);
        let requests = nanos * u128::from(self.records_per_second)
            / NANOS_PER_SECOND
            / u128::from(self.records_per_request);
        let (mut low, mut high) = (self.next, self.next + 1);
        // `requests` counts all streams; this stream's share is found by halving around it.
        let guess = u64::try_from(requests / u128::from(self.streams)).unwrap_or(u64::MAX);
        high = high.max(guess.saturating_add(2));
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if self.intended(middle) <= now {
                low = middle;
            } else {
                high = middle;
            }
        }
        low + 1 - self.next
    }
}

impl Schedule {
    /// Takes the next request if it is due by `now`: its intended time.
    pub fn take(&mut self, now: MonotonicTime) -> Option<MonotonicTime> {
        match self {
            Schedule::Closed => Some(now),
            Schedule::Open(open) => {
                let intended = open.intended(open.next);
                if intended > now {
                    return None;
                }
                open.next += 1;
                Some(intended)
            }
        }
    }

    /// How long until a request is due; `None` if that does not depend on time.
    pub fn wait(&self, now: MonotonicTime) -> Option<Duration> {
        match self {
            Schedule::Closed => None,
            Schedule::Open(open) => Some(open.intended(open.next).since(now)),
        }
    }

    /// Requests that were due by `now` and were never taken.
    pub fn backlog(&self, now: MonotonicTime) -> u64 {
        match self {
            Schedule::Closed => 0,
            Schedule::Open(open) => open.backlog(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_drift_and_streams_interleave() {
        // 3 records/s in requests of 1 over 2 streams: 1/3 s is not a whole number of nanoseconds.
        let start = MonotonicTime(5);
        let (a, b) = (
            OpenSchedule::new(start, 3, 1, 0, 2),
            OpenSchedule::new(start, 3, 1, 1, 2),
        );
        assert_eq!(a.intended(0), MonotonicTime(5));
        assert_eq!(b.intended(0), MonotonicTime(5 + 333_333_333));
        assert_eq!(a.intended(1), MonotonicTime(5 + 666_666_666));
        assert_eq!(
            a.intended(3_000_000),
            MonotonicTime(5 + 2_000_000 * 1_000_000_000)
        );
    }

    #[test]
    fn a_slow_taker_gets_the_intended_times_not_the_actual_ones() {
        let mut schedule = Schedule::Open(OpenSchedule::new(MonotonicTime(0), 1000, 10, 0, 1));
        let late = MonotonicTime(35_000_000);
        let taken: Vec<u64> = std::iter::from_fn(|| schedule.take(late))
            .map(|t| t.0)
            .collect();
        assert_eq!(taken, [0, 10_000_000, 20_000_000, 30_000_000]);
        assert_eq!(schedule.wait(late), Some(Duration::from_millis(5)));
    }

    #[test]
    fn backlog_counts_what_taking_would_take() {
        for (rate, per_request, streams) in [(1000, 10, 3), (7, 1, 2), (1_000_000, 64, 5)] {
            for now in [0, 1, 999_999, 10_000_000, 1_234_567_890] {
                let mut total = 0;
                for stream in 0..streams {
                    let open =
                        OpenSchedule::new(MonotonicTime(0), rate, per_request, stream, streams);
                    let mut schedule = Schedule::Open(open);
                    let backlog = schedule.backlog(MonotonicTime(now));
                    let mut taken = 0;
                    while schedule.take(MonotonicTime(now)).is_some() {
                        taken += 1;
                    }
                    assert_eq!(backlog, taken, "rate {rate} stream {stream} now {now}");
                    assert_eq!(schedule.backlog(MonotonicTime(now)), 0);
                    total += taken;
                }
                let expected =
                    u128::from(now) * u128::from(rate) / 1_000_000_000 / u128::from(per_request)
                        + 1;
                assert_eq!(u128::from(total), expected);
            }
        }
    }

    #[test]
    fn a_closed_loop_is_always_due() {
        let mut schedule = Schedule::Closed;
        assert_eq!(schedule.take(MonotonicTime(9)), Some(MonotonicTime(9)));
        assert_eq!(schedule.wait(MonotonicTime(9)), None);
        assert_eq!(schedule.backlog(MonotonicTime(9)), 0);
    }
}
