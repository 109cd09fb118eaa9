//! What to use: for each limit on p99 the point with the highest throughput that meets it.
//!
//! Pure. Runs with failed requests or a generator that fell behind are never recommended.

use super::analysis::Analysis;
use super::plan::Point;
use super::words;

/// The limits on p99 that a report speaks about, in milliseconds.
pub const P99_LIMITS_MS: [f64; 4] = [2.0, 5.0, 10.0, 50.0];

/// The best point under one limit on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// Which target, by its place in the plan.
    pub target: usize,
    /// The limit.
    pub p99_ms_max: f64,
    /// The best point that meets it; `None` if none does.
    pub best: Option<Best>,
}

/// A point worth using.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// Its settings.
    pub point: Point,
    /// Its throughput.
    pub mb_per_second: f64,
    /// Its p99.
    pub p99_ms: f64,
}

/// One per limit, for one target.
pub fn recommendations(analysis: &Analysis, target: usize) -> Vec<Recommendation> {
    let best = |p99_ms_max: f64| -> Option<Best> {
        let fit = analysis.measured(target).filter(|(_, figures)| {
            let clean = figures.errors == 0 && figures.requests > 0 && figures.invalid.is_none();
            // A rate that is not reached has a queue that grows: its latency is of this run's length only.
            clean && figures.achieved_share() >= 0.99 && figures.latency_ms.p99 <= p99_ms_max
        });
        let best = fit.max_by(|(_, a), (_, b)| {
            let throughput = a.mb_per_second.total_cmp(&b.mb_per_second);
            throughput.then(b.latency_ms.p99.total_cmp(&a.latency_ms.p99))
        });
        best.map(|(summary, figures)| Best {
            point: summary.point,
            mb_per_second: figures.mb_per_second,
            p99_ms: figures.latency_ms.p99,
        })
    };
    let limits = P99_LIMITS_MS.iter().map(|&p99_ms_max| Recommendation {
        target,
        p99_ms_max,
        best: best(p99_ms_max),
    });
    limits.collect()
}

impl Recommendation {
    /// `for p99 ≤ 5 ms use batch 32 KiB, linger 1 ms, 8 in flight: 410 MB/s`.
    pub fn sentence(&self) -> String {
        let limit = words::milliseconds(self.p99_ms_max);
        match &self.best {
            Some(best) => format!(
                "for p99 ≤ {limit} use {}: {}",
                best.point,
                words::megabytes_per_second(best.mb_per_second)
            ),
            None => format!("for p99 ≤ {limit}: nothing met it"),
        }
    }

    /// How the point was loaded, which decides what its latency means.
    pub fn detail(&self) -> Option<String> {
        let best = self.best.as_ref()?;
        let how = match best.point.rate {
            Some(rate) => format!("at a steady {} records/s", words::compact(rate as f64)),
            None => "as fast as answers come".to_owned(),
        };
        Some(format!("p99 {}, {how}", words::milliseconds(best.p99_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::analysis::tests::analysis;

    #[test]
    fn the_fastest_point_under_each_limit() {
        let analysis = analysis(&["a"], usize::MAX);
        let found = recommendations(&analysis, 0);
        assert_eq!(found.len(), 4);
        let mut before = 0.0;
        for recommendation in &found {
            let best = recommendation.best.unwrap();
            assert!(best.p99_ms <= recommendation.p99_ms_max);
            assert!(
                best.mb_per_second >= before,
                "a looser limit is never slower"
            );
            before = best.mb_per_second;
            let better = analysis.measured(0).any(|(_, f)| {
                f.mb_per_second > best.mb_per_second
                    && f.latency_ms.p99 <= recommendation.p99_ms_max
                    && f.achieved_share() >= 0.99
            });
            assert!(!better, "{recommendation:?}");
        }
    }

    #[test]
    fn nothing_is_said_plainly() {
        let mut analysis = analysis(&["a"], usize::MAX);
        for summary in &mut analysis.summaries {
            if let Some(figures) = &mut summary.figures {
                figures.latency_ms.p99 = 30.0;
            }
        }
        let found = recommendations(&analysis, 0);
        assert_eq!(found[1].sentence(), "for p99 ≤ 5 ms: nothing met it");
        assert_eq!(found[1].detail(), None);
        assert!(found[3].best.is_some());
    }

    #[test]
    fn invalid_and_failing_runs_are_never_recommended() {
        let mut analysis = analysis(&["a"], usize::MAX);
        for (index, summary) in analysis.summaries.iter_mut().enumerate() {
            if let Some(figures) = &mut summary.figures {
                match index % 3 {
                    0 => figures.errors = 1,
                    1 => figures.invalid = Some("late".to_owned()),
                    _ => figures.offered_records_per_second = Some(1e12),
                }
            }
        }
        assert!(
            recommendations(&analysis, 0)
                .iter()
                .all(|r| r.best.is_none())
        );
    }

    #[test]
    fn the_sentence() {
        let recommendation = Recommendation {
            target: 0,
            p99_ms_max: 5.0,
            best: Some(Best {
                point: Point {
                    batch_bytes: 32 << 10,
                    linger_us: Some(1_000),
                    in_flight: 8,
                    rate: Some(400_000),
                },
                mb_per_second: 410.2,
                p99_ms: 4.31,
            }),
        };
        assert_eq!(
            recommendation.sentence(),
            "for p99 ≤ 5 ms use batch 32 KiB, linger 1 ms, 8 in flight: 410 MB/s"
        );
        assert_eq!(
            recommendation.detail().unwrap(),
            "p99 4.31 ms, at a steady 400 k records/s"
        );
    }
}
