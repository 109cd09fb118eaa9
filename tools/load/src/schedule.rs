//! When each request of a load is due.
//!
//! Pure. Invariants: an open-loop schedule depends on the start, the rate and the seed alone, never on how fast the
//! broker answers, so latency counted from its times cannot omit the requests a slow broker kept waiting; times are
//! computed from the start, so rounding does not add up.

use std::time::Duration;

use model::MonotonicTime;

use crate::keys::{KeyDistribution, KeySource};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// How the requests of an open loop are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Uniform,
    /// With exponential gaps, as if many independent clients sent them. Streams together are Poisson again.
    Poisson,
}

/// The requests of one stream (one connection) of a load.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// Closed loop: the next request is due when an earlier one was answered. Intended time is the send time.
    Closed,
    /// Open loop: requests are due at times fixed in advance.
    Open(OpenSchedule),
}

/// How the streams of a load share its rate.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Records per second of all streams together, at least 1.
    pub records_per_second: u64,
    /// How they are spread.
    pub arrivals: Arrivals,
    /// Number of this stream, from 0.
    pub stream: u64,
    /// How many there are.
    pub streams: u64,
    /// Where chance begins; each stream draws differently.
    pub seed: u64,
}

/// What a request means for the schedule, in records of its own stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathering {
    /// Records that arrive between the request before and this one.
    pub advance: u64,
    /// Records that arrive from this request's first to its last: it is due then.
    pub waited: u64,
}

/// When a request should be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When its first record arrives: latency counts from here.
    pub intended: MonotonicTime,
    /// When the request is to be sent: later than that only if records gather for a while.
    pub due: MonotonicTime,
}

/// Times of one stream out of several that share a rate.
#[derive(Clone, Debug)]
pub struct OpenSchedule {
    start: MonotonicTime,
    pace: Pace,
    /// Records of this stream before the next request, whole and (Poisson only) fraction.
    position: u64,
    fraction: f64,
    /// What stream 0 is ahead of this one, in records of all streams.
    offset: u64,
    chance: KeySource,
    next: MonotonicTime,
}

impl OpenSchedule {
    /// A schedule whose first request is like `first`.
    pub fn new(start: MonotonicTime, pace: Pace, first: Gathering) -> OpenSchedule {
        let pace = Pace {
            records_per_second: pace.records_per_second.max(1),
            streams: pace.streams.max(1),
            ..pace
        };
        let seed = pace.seed ^ (pace.stream + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut schedule = OpenSchedule {
            start,
            pace,
            position: first.waited,
            fraction: 0.0,
            offset: pace.stream.saturating_mul(first.advance),
            chance: KeySource::new(KeyDistribution::None, seed),
            next: start,
        };
        if pace.arrivals == Arrivals::Poisson {
            schedule.offset = 0;
            schedule.go_on(first.advance);
        }
        schedule.next = schedule.at(schedule.position);
        schedule
    }

    /// Moves by `advance` records: exactly, or by an exponential gap with that mean.
    fn go_on(&mut self, advance: u64) {
        match self.pace.arrivals {
            Arrivals::Uniform => self.position = self.position.saturating_add(advance),
            Arrivals::Poisson => {
                let gap = -self.chance.unit().ln() * advance as f64 + self.fraction;
                self.position = self.position.saturating_add(gap as u64);
                self.fraction = gap.fract();
            }
        }
    }

    /// When record number `position` of this stream arrives.
    fn at(&self, position: u64) -> MonotonicTime {
        let rate = u128::from(self.pace.records_per_second);
        let record = u128::from(position) * u128::from(self.pace.streams) + u128::from(self.offset);
        let mut nanos = record * u128::from(NANOS_PER_SECOND) / rate;
        if self.fraction > 0.0 {
            let share = self.fraction * self.pace.streams as f64;
            nanos += (share * NANOS_PER_SECOND as f64 / rate as f64) as u128;
        }
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        MonotonicTime(self.start.0.saturating_add(nanos))
    }

    /// How long so many records of this stream take to arrive, on average.
    fn span(&self, records: u64) -> Duration {
        let nanos =
            u128::from(records) * u128::from(self.pace.streams) * u128::from(NANOS_PER_SECOND)
                / u128::from(self.pace.records_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// When the next request is due.
    pub fn next_due(&self) -> MonotonicTime {
        self.next
    }

    /// Takes the next request, which is like `gathering`, if it is due by `now`. `after` is the one behind it.
    pub fn take(
        &mut self,
        now: MonotonicTime,
        gathering: Gathering,
        after: Gathering,
    ) -> Option<Due> {
        let due = self.next;
        if due > now {
            return None;
        }
        let gathered = self.span(gathering.waited);
        let intended = due.0.saturating_sub(nanos(gathered)).max(self.start.0);
        self.go_on(after.advance);
        self.next = self.at(self.position);
        Some(Due {
            intended: MonotonicTime(intended),
            due,
        })
    }

    /// Requests of `advance` records due by `now` and not taken yet; with Poisson arrivals, how many there are on
    /// average.
    pub fn backlog(&self, now: MonotonicTime, advance: u64) -> u64 {
        if self.next > now {
            return 0;
        }
        let advance = advance.max(1);
        let due = |requests: u64| self.at(self.position.saturating_add(requests * advance)) <= now;
        let waiting = u128::from(now.0 - self.next.0) * u128::from(self.pace.records_per_second)
            / u128::from(NANOS_PER_SECOND)
            / u128::from(self.pace.streams)
            / u128::from(advance);
        // Requests 0 to `low` are due; rounding moves the guess by at most one.
        let mut low = u64::try_from(waiting).unwrap_or(u64::MAX).saturating_sub(1);
        while due(low + 1) {
            low += 1;
        }
        low + 1
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Schedule {
    /// Takes the next request if it is due by `now`.
    pub fn take(
        &mut self,
        now: MonotonicTime,
        gathering: Gathering,
        after: Gathering,
    ) -> Option<Due> {
        match self {
            Schedule::Closed => Some(Due {
                intended: now,
                due: now,
            }),
            Schedule::Open(open) => open.take(now, gathering, after),
        }
    }

    /// When the next request is due; `None` if that does not depend on time.
    pub fn next_due(&self) -> Option<MonotonicTime> {
        match self {
            Schedule::Closed => None,
            Schedule::Open(open) => Some(open.next_due()),
        }
    }

    /// Requests of `advance` records that were due by `now` and were never taken.
    pub fn backlog(&self, now: MonotonicTime, advance: u64) -> u64 {
        match self {
            Schedule::Closed => 0,
            Schedule::Open(open) => open.backlog(now, advance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(records: u64) -> Gathering {
        Gathering {
            advance: records,
            waited: 0,
        }
    }

    fn pace(rate: u64, stream: u64, streams: u64) -> Pace {
        Pace {
            records_per_second: rate,
            arrivals: Arrivals::Uniform,
            stream,
            streams,
            seed: 11,
        }
    }

    fn all(schedule: &mut OpenSchedule, now: u64, gathering: Gathering) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take(MonotonicTime(now), gathering, gathering))
            .map(|due| due.intended.0)
            .collect()
    }

    #[test]
    fn times_do_not_drift_and_streams_interleave() {
        // 3 records/s in requests of 1 over 2 streams: 1/3 s is not a whole number of nanoseconds.
        let start = MonotonicTime(5);
        let mut a = OpenSchedule::new(start, pace(3, 0, 2), plain(1));
        let mut b = OpenSchedule::new(start, pace(3, 1, 2), plain(1));
        assert_eq!(all(&mut a, 700_000_000, plain(1)), [5, 5 + 666_666_666]);
        assert_eq!(all(&mut b, 700_000_000, plain(1)), [5 + 333_333_333]);
        let count = all(&mut a, 2_000_000_000_000, plain(1)).len();
        assert_eq!(
            (count, a.next_due()),
            (2998, MonotonicTime(5 + 2_000_000_000_000))
        );
    }

    #[test]
    fn a_slow_taker_gets_the_intended_times_not_the_actual_ones() {
        let mut schedule = OpenSchedule::new(MonotonicTime(0), pace(1000, 0, 1), plain(10));
        let taken = all(&mut schedule, 35_000_000, plain(10));
        assert_eq!(taken, [0, 10_000_000, 20_000_000, 30_000_000]);
        assert_eq!(schedule.next_due(), MonotonicTime(40_000_000));
    }

    #[test]
    fn what_gathers_is_due_with_its_last_record_and_intended_with_its_first() {
        let batch = Gathering {
            advance: 10,
            waited: 9,
        };
        let mut schedule = OpenSchedule::new(MonotonicTime(0), pace(1000, 0, 1), batch);
        for number in 0..3 {
            let due = schedule
                .take(MonotonicTime(1_000_000_000), batch, batch)
                .unwrap();
            assert_eq!(due.intended.0, number * 10_000_000);
            assert_eq!(due.due.0, number * 10_000_000 + 9_000_000);
        }
    }

    #[test]
    fn backlog_counts_what_taking_would_take() {
        for (rate, per_request, streams) in [(1000, 10, 3), (7, 1, 2), (1_000_000, 64, 5)] {
            for now in [0, 1, 999_999, 10_000_000, 1_234_567_890] {
                let mut total = 0;
                for stream in 0..streams {
                    let mut open = OpenSchedule::new(
                        MonotonicTime(0),
                        pace(rate, stream, streams),
                        plain(per_request),
                    );
                    let backlog = open.backlog(MonotonicTime(now), per_request);
                    let taken = all(&mut open, now, plain(per_request)).len() as u64;
                    assert_eq!(backlog, taken, "rate {rate} stream {stream} now {now}");
                    assert_eq!(open.backlog(MonotonicTime(now), per_request), 0);
                    total += taken;
                }
                let expected = u128::from(now) * u128::from(rate)
                    / u128::from(NANOS_PER_SECOND)
                    / u128::from(per_request)
                    + 1;
                assert_eq!(u128::from(total), expected);
            }
        }
    }

    fn poisson(seconds: u64, rate: u64, streams: u64, per_request: u64) -> Vec<u64> {
        let mut times = Vec::new();
        for stream in 0..streams {
            let pace = Pace {
                arrivals: Arrivals::Poisson,
                ..pace(rate, stream, streams)
            };
            let mut open = OpenSchedule::new(MonotonicTime(0), pace, plain(per_request));
            times.extend(all(
                &mut open,
                seconds * NANOS_PER_SECOND,
                plain(per_request),
            ));
        }
        times.sort_unstable();
        times
    }

    /// Gaps of the merged streams: their mean is that of the rate over any stretch, their standard deviation equals
    /// the mean and e^-1 of them exceed it, as exponential ones do.
    #[test]
    fn poisson_streams_together_are_poisson_again_and_keep_the_rate() {
        for (streams, per_request) in [(1, 1), (7, 1), (3, 10)] {
            let (seconds, rate) = (100, 2000 * per_request);
            let times = poisson(seconds, rate, streams, per_request);
            let requests = times.len() as f64;
            let expected = (seconds * rate / per_request) as f64;
            assert!((requests - expected).abs() < 4.0 * expected.sqrt());
            let late = times.iter().filter(|t| **t > 50 * NANOS_PER_SECOND).count() as f64;
            assert!((late - expected / 2.0).abs() < 4.0 * expected.sqrt());
            let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((variance.sqrt() / mean - 1.0).abs() < 0.02);
            let long = gaps.iter().filter(|g| **g > mean).count() as f64 / gaps.len() as f64;
            assert!((long - (-1.0_f64).exp()).abs() < 0.01, "{long}");
        }
        assert_eq!(poisson(5, 1000, 3, 1), poisson(5, 1000, 3, 1));
    }

    #[test]
    fn a_closed_loop_is_always_due() {
        let mut schedule = Schedule::Closed;
        let now = MonotonicTime(9);
        let due = schedule.take(now, plain(1), plain(1)).unwrap();
        assert_eq!((due.intended, due.due), (now, now));
        assert_eq!(schedule.next_due(), None);
        assert_eq!(schedule.backlog(now, 1), 0);
    }
}
