//! Whether a load's figures are the broker's, or those of a generator that could not keep up.
//!
//! Pure. A broker that is too slow for the offered rate is a true result: latency from the intended time says so. A
//! generator that is too slow, although the in-flight limit had room, makes the result worthless.

use std::collections::BTreeMap;

use crate::report::{LoopKind, Report};
use crate::schedule::Arrivals;
use crate::workload::{BatchSize, ProduceWorkload};

/// An open loop that achieves less of what was offered needs an explanation.
const ACHIEVED_MIN: f64 = 0.99;
/// Standard deviations by which chance may lower the number of Poisson arrivals.
const POISSON_DEVIATIONS: f64 = 4.0;
/// Share of its cores from which on the generator may be what limits.
const CPU_MAX: f64 = 0.9;
/// Lag of sending and of reading answers that does not matter, in milliseconds.
const LAG_MS_MIN: f64 = 1.0;
/// Largest share of the latency that may be the generator's own lag, both at the 99th percentile.
const LAG_SHARE_MAX: f64 = 0.25;

/// Puts the verdict, the offered rate and the parameters into a producing load's report.
pub fn judge(report: &mut Report, workload: &ProduceWorkload) {
    report.parameters = parameters(workload);
    let cpu = match report.seconds > 0.0 {
        true => report.generator.cpu_seconds / report.seconds / report.generator_cores as f64,
        false => 0.0,
    };
    let busy = (cpu > CPU_MAX).then(|| {
        format!(
            "the generator used {:.0} % of its cores: it may be what limits",
            cpu * 100.0
        )
    });
    let Some(rate) = workload.rate else {
        report.loop_kind = LoopKind::Closed;
        report.warnings.extend(busy);
        return;
    };
    report.loop_kind = LoopKind::Open;
    report.offered_records_per_second = Some(rate as f64);
    let window = workload
        .limit
        .duration
        .map_or(report.seconds, |asked| asked.as_secs_f64());
    let ends_early = workload.limit.records.is_some();
    let window = if ends_early { report.seconds } else { window };
    let achieved = match window > 0.0 {
        true => report.records as f64 / (rate as f64 * window),
        false => 0.0,
    };
    report.achieved_ratio = Some(achieved);
    report.invalid_reasons.extend(busy);
    let bound = LAG_MS_MIN.max(report.latency_ms.p99 * LAG_SHARE_MAX);
    let sent_late = report.send_lag_ms.as_ref().map_or(0.0, |lag| lag.p99);
    if sent_late > bound {
        report.invalid_reasons.push(format!(
            "the generator fell behind: at the 99th percentile it sent {sent_late:.1} ms late although the in-flight \
             limit had room"
        ));
    }
    let read_late = report.answer_lag_ms.p99;
    if read_late > bound {
        report.invalid_reasons.push(format!(
            "the generator fell behind: at the 99th percentile it read answers {read_late:.1} ms after they had come"
        ));
    }
    // Poisson arrivals offer a little more or less than the rate, by chance.
    let chance = match workload.arrivals {
        Arrivals::Poisson => POISSON_DEVIATIONS / (report.requests.max(1) as f64).sqrt(),
        Arrivals::Uniform => 0.0,
    };
    if achieved < ACHIEVED_MIN - chance {
        let held_back = report.held_back_requests + report.unsent_requests;
        if held_back > 0 || report.errors > 0 {
            report.warnings.push(format!(
                "the broker answered {:.1} % of what was offered; {held_back} requests had to wait for it",
                achieved * 100.0
            ));
        } else if !ends_early {
            report.invalid_reasons.push(format!(
                "the schedule fell behind: {:.1} % of what was offered, although the broker held nothing back",
                achieved * 100.0
            ));
        }
    }
    report.valid = report.invalid_reasons.is_empty();
}

/// What was asked for, in words.
fn parameters(workload: &ProduceWorkload) -> BTreeMap<&'static str, String> {
    let mut parameters = BTreeMap::from([
        ("bootstrap", workload.bootstrap.clone()),
        ("topic", workload.topic.clone()),
        ("topics", workload.topics.to_string()),
        ("record_bytes", workload.record_sizes.to_string()),
        ("compressibility", workload.compressibility.to_string()),
        ("connections", workload.connections.to_string()),
        ("in_flight", workload.in_flight.to_string()),
        ("acks", workload.acks.code().to_string()),
        ("keys", format!("{:?}", workload.keys).to_lowercase()),
        ("compression", workload.compression.name().to_owned()),
        ("idempotent", workload.idempotent.to_string()),
        ("warmup_seconds", workload.warmup.as_secs_f64().to_string()),
        ("seed", workload.seed.to_string()),
    ]);
    match workload.batch {
        BatchSize::Bytes(bytes) => parameters.insert("batch_bytes", bytes.to_string()),
        BatchSize::Records(records) => parameters.insert("batch_records", records.to_string()),
    };
    if let Some(rate) = workload.rate {
        parameters.insert("rate", rate.to_string());
        let arrivals = match workload.arrivals {
            Arrivals::Uniform => "uniform",
            Arrivals::Poisson => "poisson",
        };
        parameters.insert("arrivals", arrivals.to_owned());
    }
    if let Some(linger) = workload.linger {
        parameters.insert("linger_ms", (linger.as_secs_f64() * 1000.0).to_string());
    }
    if let Some(duration) = workload.limit.duration {
        parameters.insert("duration_seconds", duration.as_secs_f64().to_string());
    }
    if let Some(records) = workload.limit.records {
        parameters.insert("records", records.to_string());
    }
    parameters
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::MonotonicTime;

    use super::*;
    use crate::report::ProcessUse;
    use crate::tally::{AnswerTimes, Tally};
    use crate::workload::Limit;

    struct Case {
        records: u64,
        lag: Duration,
        read_lag: Duration,
        latency: Duration,
        held_back: bool,
        cpu_seconds: f64,
        valid: bool,
        says: &'static str,
    }

    const GOOD: Case = Case {
        records: 10_000,
        lag: Duration::from_micros(50),
        read_lag: Duration::from_micros(30),
        latency: Duration::from_millis(2),
        held_back: false,
        cpu_seconds: 3.0,
        valid: true,
        says: "",
    };

    impl Case {
        /// Ten seconds of it.
        fn report(&self) -> Report {
            let mut tally = Tally {
                records: self.records,
                ..Tally::default()
            };
            tally.answered(self.latency);
            tally.sent(self.lag, self.held_back);
            let answer = AnswerTimes {
                arrived_at: MonotonicTime::default(),
                read_at: MonotonicTime::default().plus(self.read_lag),
            };
            tally.served(MonotonicTime::default(), answer);
            let mut report = Report::new("produce", &tally, Duration::from_secs(10));
            report.generator = ProcessUse {
                cpu_seconds: self.cpu_seconds,
                ..ProcessUse::default()
            };
            report
        }
    }

    #[test]
    fn a_slow_broker_is_a_result_and_a_slow_generator_is_none() {
        let ms = Duration::from_millis;
        let cases = [
            GOOD,
            Case {
                lag: ms(5),
                latency: ms(6),
                valid: false,
                says: "generator fell behind",
                ..GOOD
            },
            Case {
                // Late, but little against what the broker takes.
                lag: ms(5),
                latency: ms(200),
                ..GOOD
            },
            Case {
                records: 8000,
                held_back: true,
                latency: ms(900),
                says: "the broker answered 80.0 %",
                ..GOOD
            },
            Case {
                records: 8000,
                valid: false,
                says: "schedule fell behind",
                ..GOOD
            },
            Case {
                read_lag: ms(3),
                valid: false,
                says: "read answers 3.0 ms",
                ..GOOD
            },
            Case {
                cpu_seconds: 9.5,
                valid: false,
                says: "95 % of its cores",
                ..GOOD
            },
        ];
        for (number, case) in cases.iter().enumerate() {
            let mut report = case.report();
            let workload = ProduceWorkload {
                rate: Some(1000),
                limit: Limit {
                    duration: Some(Duration::from_secs(10)),
                    records: None,
                },
                ..ProduceWorkload::default()
            };
            judge(&mut report, &workload);
            let said = [&report.invalid_reasons[..], &report.warnings].concat();
            assert_eq!(report.valid, case.valid, "case {number}: {said:?}");
            assert_eq!(said.is_empty(), case.says.is_empty(), "case {number}");
            assert!(
                said.join(" ").contains(case.says),
                "case {number}: {said:?}"
            );
            assert_eq!(report.achieved_ratio, Some(case.records as f64 / 10_000.0));
        }
    }

    #[test]
    fn a_closed_loop_is_named_and_a_busy_generator_only_a_warning() {
        let mut report = Report::new("produce", &Tally::default(), Duration::from_secs(1));
        report.generator.cpu_seconds = 1.0;
        judge(&mut report, &ProduceWorkload::default());
        assert_eq!(report.loop_kind, LoopKind::Closed);
        assert!(report.valid && report.warnings.len() == 1);
    }
}
