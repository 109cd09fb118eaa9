//! System calls and punts of a process, counted by `perf` where it is there and allowed.

use std::time::Duration;

use super::{DriveError, Launch, Rig};

const SYSCALLS: &str = "raw_syscalls:sys_enter";
const ENTERS: &str = "syscalls:sys_enter_io_uring_enter";
const PUNTS: &str = "io_uring:io_uring_queue_async_work";
/// How long `perf` may take beyond its time.
const SLACK: Duration = Duration::from_secs(20);

/// Per second; `None` where it could not be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// System calls.
    pub syscalls: Option<f64>,
    /// Of those, `io_uring_enter`.
    pub enters: Option<f64>,
    /// Operations handed to a kernel worker.
    pub punts: Option<f64>,
}

impl Rig {
    /// Counts for so long. Nothing is counted where `perf` is missing or not allowed.
    pub fn count_calls(&self, pid: u32, time: Duration) -> Result<Counted, DriveError> {
        let events = [SYSCALLS, ENTERS, PUNTS].join(",");
        let (pid, seconds) = (pid.to_string(), time.as_secs_f64().to_string());
        let mut perf = Launch::new("perf", self.work.join("perf"))
            .args(["stat", "-x,", "--log-fd", "1", "-e", &events])
            .args(["-p", &pid, "--", "sleep", &seconds])
            .on_cpu(self.load_cpu)
            .start()?;
        perf.wait(&self.stop, time + SLACK)?;
        Ok(parse(&perf.output()?, time.as_secs_f64()))
    }
}

/// From lines `VALUE,UNIT,EVENT,...`.
fn parse(text: &str, seconds: f64) -> Counted {
    let rate = |event: &str| {
        let line = text
            .lines()
            .find(|line| line.split(',').nth(2) == Some(event))?;
        let count: f64 = line.split(',').next()?.parse().ok()?;
        Some(count / seconds)
    };
    Counted {
        syscalls: rate(SYSCALLS),
        enters: rate(ENTERS),
        punts: rate(PUNTS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_counted_is_not_zero() {
        let text = "300,,raw_syscalls:sys_enter,2,100.00,,\n\
            <not counted>,,syscalls:sys_enter_io_uring_enter,0,100.00,,\n";
        let counted = parse(text, 2.0);
        assert_eq!(counted.syscalls, Some(150.0));
        assert_eq!((counted.enters, counted.punts), (None, None));
    }
}
