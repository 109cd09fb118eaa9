//! What else the machine did during a measurement.
//!
//! Counted are time stolen by the hypervisor and user time of processes that are not part of the measurement. Kernel
//! threads are not: writing back the page cache is work that a broker causes. The kernel's pressure is recorded, but
//! judges nothing: many threads of one broker on one core wait for each other, which is no noise.
//!
//! The times of processes are added up. The machine's total less those that are measured would not do: it is sampled at
//! the clock's ticks, with which a load at a fixed rate keeps step, while a process's own time is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{DriveError, Rig};

/// Ticks per second of the times in `/proc`: USER_HZ.
const TICKS_PER_SECOND: f64 = 100.0;
/// More than this of one core in other processes is noise.
const OTHERS_PERCENT_MAX: f64 = 8.0;
/// More than this of one core stolen is noise.
const STOLEN_PERCENT_MAX: f64 = 3.0;
/// Place of the stolen time in the first line of `/proc/stat` (proc_stat(5)), its name counted too.
const STOLEN_FIELD: usize = 8;
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
#[derive(Clone, Debug)]
pub struct Moment {
    at: Instant,
    /// User time by process, that of its children that have ended included.
    user: BTreeMap<u32, f64>,
    stolen: f64,
    pressure_us: f64,
}

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let stat = read("/proc/stat");
        let total = stat.lines().next().unwrap_or_default();
        let stolen = total.split_whitespace().nth(STOLEN_FIELD);
        Moment {
            at: Instant::now(),
            user: user_by_process(),
            stolen: stolen
                .and_then(|field| field.parse().ok())
                .unwrap_or_default(),
            pressure_us: pressure(&read("/proc/pressure/cpu")),
        }
    }

    /// What happened since; `broker` and this program with its children are what is measured.
    pub fn until_now(&self, broker: Option<u32>) -> Noise {
        let now = Moment::now();
        let seconds = (now.at - self.at).as_secs_f64().max(1e-3);
        let percent = |ticks: f64| (ticks / TICKS_PER_SECOND / seconds * 100.0).max(0.0);
        let measured = [Some(std::process::id()), broker];
        let others = now
            .user
            .iter()
            .filter(|(pid, _)| !measured.contains(&Some(**pid)));
        let used = others.map(|(pid, ticks)| {
            let before = self.user.get(pid).copied().unwrap_or_default();
            (ticks - before).max(0.0)
        });
        Noise {
            others_percent: percent(used.sum()),
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
            let before = Moment::now();
            self.stop.sleep(LOOK)?;
            if !before.until_now(broker).is_noisy() || start.elapsed() > PATIENCE {
                return Ok(());
            }
        }
    }
}

fn user_by_process() -> BTreeMap<u32, f64> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes
        .filter_map(|pid: u32| {
            // One that has just ended is gone.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, user_ticks(&stat)))
        })
        .collect()
}

/// User time of a process and of its children that have ended (proc_pid_stat(5): fields 14 and 16).
fn user_ticks(stat: &str) -> f64 {
    // The command name may hold anything, so fields count from its closing bracket.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_whitespace().skip(1).collect();
    let field = |index: usize| -> f64 {
        let field = fields.get(index).and_then(|field| field.parse().ok());
        field.unwrap_or_default()
    };
    field(10) + field(12)
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
        assert_eq!(user_ticks(stat), 190.0);
        let text = "some avg10=6.83 avg60=8.69 avg300=4.49 total=3274079218\nfull total=0\n";
        assert_eq!(pressure(text), 3_274_079_218.0);
        assert_eq!(pressure(""), 0.0);
    }

    fn spin(time: Duration) {
        let start = Instant::now();
        let mut sum = 0u64;
        while start.elapsed() < time {
            sum = std::hint::black_box(sum + 1);
        }
    }

    #[test]
    fn this_process_is_not_noise_to_itself_but_another_is() {
        let me = std::process::id();
        let before = Moment::now();
        spin(Duration::from_millis(200));
        let own = |moment: &Moment| moment.user.get(&me).copied().unwrap_or_default();
        assert!(own(&Moment::now()) > own(&before));
        let mut other = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let before = Moment::now();
        let is_seen = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            let as_broker = before.until_now(Some(other.id()));
            before.until_now(None).others_percent > as_broker.others_percent + 1.0
        });
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(is_seen);
    }
}
