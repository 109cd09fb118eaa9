//! What else the machine did during a measurement.
//!
//! Counted are time stolen by the hypervisor and user time of processes that are not part of the measurement. Kernel
//! threads are not: writing back the page cache is work that a broker causes. The kernel's pressure is recorded, but
//! judges nothing: many threads of one broker on one core wait for each other, which is no noise.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{DriveError, Rig};

/// Ticks per second of the times in `/proc`: USER_HZ.
const TICKS_PER_SECOND: f64 = 100.0;
/// More than this of one core in other processes is noise.
const OTHERS_PERCENT_MAX: f64 = 8.0;
/// More than this of one core stolen is noise.
const STOLEN_PERCENT_MAX: f64 = 3.0;
/// How long one look before a measurement takes, and how long a quiet moment is awaited.
const LOOK: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

/// Disturbance of one window, in percent of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// User time of other processes.
    pub others_percent: f64,
    /// Taken by the hypervisor.
    pub stolen_percent: f64,
    /// Time in which some task waited for a CPU (`/proc/pressure/cpu`), the brokers' own threads included.
    pub pressure_percent: f64,
}

impl Noise {
    /// All that was not the measurement.
    pub fn percent(&self) -> f64 {
        self.others_percent + self.stolen_percent
    }

    /// Whether figures of the window are in doubt.
    pub fn is_noisy(&self) -> bool {
        self.others_percent > OTHERS_PERCENT_MAX || self.stolen_percent > STOLEN_PERCENT_MAX
    }
}

/// Counters at one moment, in ticks and microseconds since the start of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at: Instant,
    user: f64,
    stolen: f64,
    ours: f64,
    pressure_us: f64,
}

impl Moment {
    /// Now; `broker` and this program with its children are what is measured.
    pub fn now(broker: Option<u32>) -> Moment {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let stat = read("/proc/stat");
        let fields: Vec<f64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or(0.0);
        let broker = broker.map_or(0.0, |pid| user_ticks(&read(&format!("/proc/{pid}/stat"))).0);
        let (own, children) = user_ticks(&read("/proc/self/stat"));
        Moment {
            at: Instant::now(),
            user: field(0) + field(1),
            stolen: field(7),
            ours: own + children + broker,
            pressure_us: pressure(&read("/proc/pressure/cpu")),
        }
    }

    /// What happened since.
    pub fn until_now(&self, broker: Option<u32>) -> Noise {
        let now = Moment::now(broker);
        let seconds = (now.at - self.at).as_secs_f64().max(1e-3);
        let percent = |ticks: f64| (ticks / TICKS_PER_SECOND / seconds * 100.0).max(0.0);
        Noise {
            others_percent: percent((now.user - self.user) - (now.ours - self.ours)),
            stolen_percent: percent(now.stolen - self.stolen),
            pressure_percent: (now.pressure_us - self.pressure_us) / 1e4 / seconds,
        }
    }
}

impl Rig {
    /// Waits for a quiet moment, but not for ever: a window that begins anyway is marked by what it sees itself.
    pub fn wait_for_quiet(&self, broker: Option<u32>) -> Result<(), DriveError> {
        let start = Instant::now();
        loop {
            let before = Moment::now(broker);
            self.stop.sleep(LOOK)?;
            if !before.until_now(broker).is_noisy() || start.elapsed() > PATIENCE {
                return Ok(());
            }
        }
    }
}

/// User time of a process and of its children that have ended (proc_pid_stat(5): fields 14 and 16).
fn user_ticks(stat: &str) -> (f64, f64) {
    // The command name may hold anything, so fields count from its closing bracket.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<f64> = fields
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0.0);
    (field(10), field(12))
}

/// The total of the line `some avg10=... total=MICROSECONDS`.
fn pressure(text: &str) -> f64 {
    let total = text
        .lines()
        .next()
        .and_then(|line| line.rsplit_once("total="));
    total
        .and_then(|(_, total)| total.trim().parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 123 45 67 8 9";
        assert_eq!(user_ticks(stat), (123.0, 67.0));
        let text = "some avg10=6.83 avg60=8.69 avg300=4.49 total=3274079218\nfull total=0\n";
        assert_eq!(pressure(text), 3_274_079_218.0);
        assert_eq!(pressure(""), 0.0);
    }

    #[test]
    fn this_process_is_not_noise_to_itself() {
        let before = Moment::now(None);
        let mut sum = 0u64;
        while before.at.elapsed() < Duration::from_millis(200) {
            sum = std::hint::black_box(sum + 1);
        }
        let after = Moment::now(None);
        assert!(after.ours > before.ours);
    }
}
