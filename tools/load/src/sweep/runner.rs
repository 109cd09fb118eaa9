//! Makes the runs of a sequence, one after another, and writes each outcome down before the next begins.
//!
//! Invariants: a failed run is an outcome, not an end; `FAILURES_MAX` failures without a success between them are an
//! end, because then the broker is gone; whatever the end, everything measured is in the journal.

use super::record::{Figures, Job, Journal, Measurement, RecordError};
use super::sequence::Sequence;

/// Runs that may fail one after another before a sweep is given up.
pub const FAILURES_MAX: u32 = 8;

/// What trying one run came to.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// It was measured.
    Measured(Figures),
    /// It failed, and says why.
    Failed(String),
    /// The sweep is to end now; the run is as if it had never begun.
    Stopped,
}

/// How a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is measured.
    Complete,
    /// It was told to stop.
    Stopped,
    /// Nothing but failures; the last one's reason.
    GaveUp(String),
}

/// Makes runs until there are no more, or one says `Stopped`. `measure` makes one run; `observe` sees each outcome and
/// the sequence after it.
pub fn run(
    sequence: &mut Sequence,
    journal: &mut Journal,
    measure: &mut dyn FnMut(&Job, &Sequence) -> Attempt,
    observe: &mut dyn FnMut(&Measurement, &Sequence),
) -> Result<End, RecordError> {
    let mut failures = 0;
    while let Some(job) = sequence.next() {
        let (figures, error) = match measure(&job, sequence) {
            Attempt::Measured(figures) => (Some(figures), None),
            Attempt::Failed(reason) => (None, Some(reason)),
            Attempt::Stopped => return Ok(End::Stopped),
        };
        failures = if error.is_some() { failures + 1 } else { 0 };
        let measurement = Measurement {
            job,
            figures,
            error,
        };
        journal.append(&measurement)?;
        sequence.record(measurement.clone());
        observe(&measurement, sequence);
        if failures >= FAILURES_MAX
            && let Some(reason) = measurement.error
        {
            return Ok(End::GaveUp(reason));
        }
    }
    Ok(End::Complete)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::sweep::plan::tests::plan;
    use crate::sweep::queue_model::Model;
    use crate::sweep::record::{FORMAT_VERSION, Header};
    use crate::sweep::{Machine, Phase};

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let unique = format!("ringlog-sweep-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(unique);
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("points.jsonl")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn header() -> Header {
        Header {
            ringlog_sweep: FORMAT_VERSION,
            version: "0.0.0".to_owned(),
            command: "ringlog sweep".to_owned(),
            started: 0,
            machine: Machine::default(),
            brokers: vec![String::new()],
            plan: plan(&["a"]),
        }
    }

    fn figures(job: &Job) -> Figures {
        let model = Model::default();
        match job.point.rate {
            None => model.closed_loop(job.point.batch_bytes, job.point.in_flight),
            Some(rate) => model.open_loop(job.point.batch_bytes, rate),
        }
    }

    fn drive(
        sequence: &mut Sequence,
        journal: &mut Journal,
        mut attempt: impl FnMut(&Job) -> Attempt,
    ) -> End {
        run(
            sequence,
            journal,
            &mut |job, _| attempt(job),
            &mut |_, _| {},
        )
        .unwrap()
    }

    #[test]
    fn stopped_anywhere_and_gone_on_with_gives_the_whole() {
        let scratch = Scratch::new("stop");
        let header = header();
        let mut journal = Journal::create(&scratch.file(), &header).unwrap();
        let mut left = 5;
        let end = drive(
            &mut Sequence::new(header.plan.clone()),
            &mut journal,
            |job| {
                if left == 0 {
                    return Attempt::Stopped;
                }
                left -= 1;
                Attempt::Measured(figures(job))
            },
        );
        assert_eq!(end, End::Stopped);
        // A write that a crash cut in half.
        let mut text = std::fs::read_to_string(scratch.file()).unwrap();
        text.push_str("{\"phase\":\"grid\",\"targ");
        std::fs::write(scratch.file(), text).unwrap();

        let (mut journal, stored, measured) = Journal::resume(&scratch.file()).unwrap();
        assert_eq!((&stored, measured.len()), (&header, 5));
        let mut sequence = Sequence::resume(stored.plan, measured).unwrap();
        let end = drive(&mut sequence, &mut journal, |job| {
            Attempt::Measured(figures(job))
        });
        assert_eq!(end, End::Complete);
        let (_, _, all) = Journal::resume(&scratch.file()).unwrap();
        let jobs =
            |measured: &[Measurement]| -> Vec<Job> { measured.iter().map(|m| m.job).collect() };
        assert_eq!(jobs(&all), jobs(sequence.measurements()));
        assert!(all.iter().any(|m| m.job.phase == Phase::Knee));
    }

    #[test]
    fn a_failed_run_is_kept_and_the_sweep_goes_on() {
        let scratch = Scratch::new("fail");
        let header = header();
        let mut journal = Journal::create(&scratch.file(), &header).unwrap();
        let mut sequence = Sequence::new(header.plan.clone());
        let mut count = 0;
        let end = drive(&mut sequence, &mut journal, |job| {
            count += 1;
            if count == 3 {
                return Attempt::Failed("refused".to_owned());
            }
            Attempt::Measured(figures(job))
        });
        assert_eq!(end, End::Complete);
        let failed: Vec<&Measurement> = sequence
            .measurements()
            .iter()
            .filter(|m| m.error.is_some())
            .collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].error.as_deref(), Some("refused"));
    }

    #[test]
    fn nothing_but_failures_is_given_up() {
        let scratch = Scratch::new("gone");
        let header = header();
        let mut journal = Journal::create(&scratch.file(), &header).unwrap();
        let mut sequence = Sequence::new(header.plan.clone());
        let end = drive(&mut sequence, &mut journal, |_| {
            Attempt::Failed("refused".to_owned())
        });
        assert_eq!(end, End::GaveUp("refused".to_owned()));
        assert_eq!(sequence.measurements().len(), FAILURES_MAX as usize);
    }

    #[test]
    fn files_of_other_things_are_refused() {
        let scratch = Scratch::new("other");
        for text in ["", "{}\n", "not json\n", "{\"ringlog_sweep\":1}\n"] {
            std::fs::write(scratch.file(), text).unwrap();
            assert!(Journal::resume(&scratch.file()).is_err(), "{text:?}");
        }
        let mut newer = header();
        newer.ringlog_sweep = FORMAT_VERSION + 1;
        let text = serde_json::to_string(&newer).unwrap();
        std::fs::write(scratch.file(), format!("{text}\n")).unwrap();
        let error = Journal::resume(&scratch.file()).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && error.contains("format 3"),
            "{error}"
        );
    }
}
