//! CPU time and device bytes of a process, from `/proc`.

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
    })
}

/// What was used between two readings.
pub fn since(before: &ProcessUse, after: &ProcessUse) -> ProcessUse {
    ProcessUse {
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        system_seconds: after.system_seconds - before.system_seconds,
        device_bytes_written: after
            .device_bytes_written
            .saturating_sub(before.device_bytes_written),
        device_bytes_read: after
            .device_bytes_read
            .saturating_sub(before.device_bytes_read),
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
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
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
        assert!(since(&before, &usage(None).unwrap()).cpu_seconds >= 0.0);
    }
}
