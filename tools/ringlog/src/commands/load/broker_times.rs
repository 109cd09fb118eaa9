//! What the broker itself says of a load's requests, set against what the generator saw.
//!
//! Two looks at its metrics: when the warm-up is over and at the end. They are not cut as exactly as the measured time,
//! so means are compared, not sums.

use console::{Document, Overview};
use load::Report;
use load::report::{BrokerTimes, StageTime};
use load::seconds::Second;

use crate::commands::CommandError;
use crate::commands::metrics_source::Source;

const NANOS_PER_MILLI: f64 = 1e6;

/// A broker that is asked about a load.
pub struct BrokerWatch {
    source: Source,
    before: Document,
}

impl BrokerWatch {
    /// Takes the first look at the metrics server at `url`.
    pub fn begin(url: &str) -> Result<BrokerWatch, CommandError> {
        let source = Source::new(url)?;
        let before = source.fetch()?;
        Ok(BrokerWatch { source, before })
    }

    /// A second is over: while the load warms up, what was before does not count.
    pub fn second(&mut self, second: &Second) {
        if second.warming {
            // A broker that does not answer now says so at the end.
            if let Ok(document) = self.source.fetch() {
                self.before = document;
            }
        }
    }

    /// Takes the last look and adds it to the report.
    pub fn finish(self, report: &mut Report) -> Result<(), CommandError> {
        let after = self.source.fetch()?;
        let Some(overview) = Overview::between(&self.before, &after) else {
            report
                .warnings
                .push("the broker was started anew: nothing is known about its stages".to_owned());
            return Ok(());
        };
        report.broker = times(
            &overview,
            report.mode,
            report.since_sent_ms.mean,
            report.answer_lag_ms.mean,
        );
        if report.broker.is_none() {
            let warning = format!("{} counted no such request", self.source.address());
            report.warnings.push(warning);
        }
        Ok(())
    }
}

/// The busiest kind of request that a load in this mode sends.
fn times(
    overview: &Overview,
    mode: &str,
    since_sent_ms: f64,
    answer_lag_ms: f64,
) -> Option<BrokerTimes> {
    let sent = if mode == "consume" {
        "fetch"
    } else {
        "produce"
    };
    let api = overview
        .apis
        .iter()
        .find(|api| api.name.split(' ').next() == Some(sent))?;
    let mean_ms = api.time.mean / NANOS_PER_MILLI;
    let share_of = |whole: f64| if whole > 0.0 { mean_ms / whole } else { 0.0 };
    let stages = api.stages.iter().map(|stage| StageTime {
        name: stage.name.clone(),
        mean_ms: stage.time.mean / NANOS_PER_MILLI,
        p99_ms: stage.time.p99 as f64 / NANOS_PER_MILLI,
        share: stage.share,
    });
    Some(BrokerTimes {
        api: api.name.clone(),
        requests_per_second: api.requests,
        mean_ms,
        share_of_seen: share_of(since_sent_ms),
        share_until_arrival: share_of(since_sent_ms - answer_lag_ms),
        stages: stages.collect(),
    })
}

#[cfg(test)]
mod tests {
    use console::overview::{Api, Overview, Quantiles, Stage};

    use super::times;

    #[test]
    fn the_requests_of_the_load_are_set_against_what_it_saw() {
        let api = |name: &str, mean| Api {
            name: name.to_owned(),
            requests: 500.0,
            time: Quantiles {
                mean,
                ..Quantiles::default()
            },
            stages: vec![Stage {
                name: "append".to_owned(),
                share: 1.0,
                time: Quantiles {
                    mean,
                    p99: 4_000_000,
                    ..Quantiles::default()
                },
            }],
        };
        let overview = Overview {
            apis: vec![
                api("fetch", 8e6),
                api("produce acks=all", 1.5e6),
                api("produce acks=0", 1e3),
            ],
            ..Overview::default()
        };
        let produced = times(&overview, "end-to-end", 2.0, 0.4).unwrap();
        assert_eq!(produced.api, "produce acks=all");
        assert!((produced.share_of_seen - 0.75).abs() < 1e-9);
        assert!((produced.share_until_arrival - 0.9375).abs() < 1e-9);
        assert!((produced.stages[0].p99_ms - 4.0).abs() < 1e-9);
        assert_eq!(times(&overview, "consume", 16.0, 0.0).unwrap().mean_ms, 8.0);
        assert!(times(&Overview::default(), "produce", 1.0, 0.0).is_none());
    }
}
