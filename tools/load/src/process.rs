//! CPU time, device bytes and context switches of a process, from `/proc`, and their difference over a window.
//!
//! All counters only rise while the process lives; a difference across its restart counts as 0.

use std::fs;
use std::io;

use crate::report::ProcessUse;

/// Ticks per second of the times in `/proc/PID/stat`: USER_HZ, 100 on every Linux that runs this.
const TICKS_PER_SECOND: f64 = 100.0;
/// Fields of `/proc/PID/stat` behind the command name: utime is the 12th, stime the 13th (proc_pid_stat(5)).
const UTIME_FIELD: usize = 11;

/// What a process has used since it started. `None` asks for this process.
pub fn usage(pid: Option<u32>) -> io::Result<ProcessUse> {
    let directory = match pid {
        Some(pid) => format!("/proc/{pid}"),
        None => "/proc/self".to_owned(),
    };
    let stat = fs::read_to_string(format!("{directory}/stat"))?;
    let (user, system) = cpu_ticks(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc stat"))?;
    // Only the owner may read it; without it the device columns stay 0.
    let io = fs::read_to_string(format!("{directory}/io")).unwrap_or_default();
    Ok(ProcessUse {
        cpu_seconds: (user + system) as f64 / TICKS_PER_SECOND,
        system_seconds: system as f64 / TICKS_PER_SECOND,
        device_bytes_written: counter(&io, "write_bytes"),
        device_bytes_read: counter(&io, "read_bytes"),
        voluntary_switches: voluntary_switches(&directory),
    })
}

/// Sleeps of all threads. A thread that ends between two readings takes its count with it.
fn voluntary_switches(directory: &str) -> u64 {
    let Ok(threads) = fs::read_dir(format!("{directory}/task")) else {
        return 0;
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .map(|status| counter(&status, "voluntary_ctxt_switches"))
        .sum()
}

/// What was used between two readings.
pub fn since(before: &ProcessUse, after: &ProcessUse) -> ProcessUse {
    ProcessUse {
        cpu_seconds: (after.cpu_seconds - before.cpu_seconds).max(0.0),
        system_seconds: (after.system_seconds - before.system_seconds).max(0.0),
        device_bytes_written: after
            .device_bytes_written
            .saturating_sub(before.device_bytes_written),
        device_bytes_read: after
            .device_bytes_read
            .saturating_sub(before.device_bytes_read),
        voluntary_switches: after
            .voluntary_switches
            .saturating_sub(before.voluntary_switches),
    }
}

/// What this process and a watched one had used at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    own: ProcessUse,
    watched: Option<ProcessUse>,
}

impl Reading {
    /// Reads the counters now. A watched process that is gone reads as `None`.
    pub fn now(watch_pid: Option<u32>) -> Reading {
        Reading {
            own: usage(None).unwrap_or_default(),
            watched: watch_pid.and_then(|pid| usage(Some(pid)).ok()),
        }
    }
}

/// The readings at both ends of what one core measured. They are of whole processes, so cores are joined, not added.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When measuring began, behind the warm-up.
    pub begin: Reading,
    /// When the last answer had come.
    pub end: Reading,
}

impl Window {
    /// The window from the first core's begin to the last core's end.
    pub fn join(self, other: Window) -> Window {
        let earlier = |a: Reading, b: Reading| {
            if a.own.cpu_seconds <= b.own.cpu_seconds {
                a
            } else {
                b
            }
        };
        let later = |a: Reading, b: Reading| {
            if a.own.cpu_seconds > b.own.cpu_seconds {
                a
            } else {
                b
            }
        };
        Window {
            begin: earlier(self.begin, other.begin),
            end: later(self.end, other.end),
        }
    }

    /// What this process used.
    pub fn own(&self) -> ProcessUse {
        since(&self.begin.own, &self.end.own)
    }

    /// What the watched process used; `None` without one, or if it was gone at either end.
    pub fn watched(&self) -> Option<ProcessUse> {
        Some(since(&self.begin.watched?, &self.end.watched?))
    }
}

fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    // The command name may hold anything, so fields count from its closing bracket.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(UTIME_FIELD);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn counter(io: &str, name: &str) -> u64 {
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 123 45 0 0";
        assert_eq!(cpu_ticks(stat), Some((123, 45)));
        assert_eq!(cpu_ticks("nonsense"), None);
        assert_eq!(counter("rchar: 5\nwrite_bytes: 42\n", "write_bytes"), 42);
    }

    #[test]
    fn this_process_has_used_something() {
        let before = usage(None).unwrap();
        let spent = since(&ProcessUse::default(), &before);
        assert!(spent.voluntary_switches > 0 || spent.cpu_seconds > 0.0);
        assert!(since(&before, &usage(None).unwrap()).cpu_seconds >= 0.0);
        assert!(usage(Some(u32::MAX)).is_err());
    }

    #[test]
    fn windows_of_cores_are_joined_not_added() {
        let reading = |cpu_seconds, bytes| {
            let used = ProcessUse {
                cpu_seconds,
                device_bytes_written: bytes,
                ..ProcessUse::default()
            };
            Reading {
                own: used,
                watched: Some(used),
            }
        };
        let first = Window {
            begin: reading(1.0, 100),
            end: reading(4.0, 400),
        };
        let second = Window {
            begin: reading(1.5, 150),
            end: reading(5.0, 500),
        };
        for joined in [first.join(second), second.join(first)] {
            assert_eq!(joined.own().cpu_seconds, 4.0);
            assert_eq!(joined.watched().unwrap().device_bytes_written, 400);
        }
        let gone = Window {
            end: Reading {
                watched: None,
                ..second.end
            },
            ..first
        };
        assert!(gone.watched().is_none());
    }
}
