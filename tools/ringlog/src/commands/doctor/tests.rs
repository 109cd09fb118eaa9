//! Made-up machines, and what each check says of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::config::BrokerConfig;
use uring::{LockedPlan, StartError};

use super::checks::{CHECKS, Patient};
use super::disk::{Disk, FlushTimes, Trial};
use super::finding::{Finding, Verdict};

/// A check that is not good, and a word of what it says.
type Expected = (&'static str, Verdict, &'static str);

/// A machine on which nothing is to be changed.
const GOOD: &[(&str, &str)] = &[
    ("/proc/sys/kernel/osrelease", "6.12.3-amd64\n"),
    ("/proc/sys/kernel/io_uring_disabled", "0\n"),
    (
        "/proc/meminfo",
        "MemTotal:       33554432 kB\nMemFree: 1 kB\n",
    ),
    ("/proc/self/cgroup", "0::/user.slice\n"),
    ("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n"),
    (
        "/proc/self/mountinfo",
        "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n22 21 8:2 / /srv rw - xfs /dev/sda2 rw\n",
    ),
    (
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never\n",
    ),
    // A partition: its queue is that of the disk.
    ("/sys/dev/block/8:2/../queue/write_cache", "write back\n"),
    ("/sys/dev/block/8:2/../queue/fua", "1\n"),
    (
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    (
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "performance\n",
    ),
    (
        "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "performance\n",
    ),
    ("/sys/devices/system/cpu/smt/active", "0\n"),
];

/// What differs from [`GOOD`], beside files.
struct Rest {
    allowed_cpus: Vec<usize>,
    locked: Result<LockedPlan, StartError>,
    locked_limit: u64,
    descriptor_limit: usize,
    free_bytes: u64,
    has_data: bool,
    trial: Trial,
}

const FULL: LockedPlan = LockedPlan {
    ring_depth: 4096,
    io_memory_bytes: 2 << 20,
    needed_bytes: 15 << 20,
    wanted_bytes: 15 << 20,
};

fn flush(p50_micros: u64) -> Trial {
    Trial::Works(FlushTimes {
        best: Duration::from_micros(p50_micros / 2),
        p50: Duration::from_micros(p50_micros),
        p99: Duration::from_micros(p50_micros * 3),
    })
}

impl Default for Rest {
    fn default() -> Rest {
        Rest {
            allowed_cpus: vec![0, 1, 2],
            locked: Ok(FULL),
            locked_limit: u64::MAX,
            descriptor_limit: 1_048_576,
            free_bytes: 100 << 30,
            has_data: false,
            trial: flush(250),
        }
    }
}

fn examine(changed: &[(&str, &str)], rest: Rest) -> Vec<Finding> {
    let mut files: BTreeMap<&str, &str> = GOOD.iter().copied().collect();
    files.extend(changed.iter().copied());
    let read = |path: &Path| files.get(path.to_str()?).map(ToString::to_string);
    let config = BrokerConfig::defaults().unwrap();
    let patient = Patient {
        read: &read,
        config: &config,
        cpus: vec![0, 1],
        allowed_cpus: rest.allowed_cpus,
        locked: rest.locked,
        locked_limit: rest.locked_limit,
        descriptor_limit: rest.descriptor_limit,
        disk: Disk {
            directory: PathBuf::from("/srv/ringlog"),
            device: (8, 2),
            has_data: rest.has_data,
            free_bytes: rest.free_bytes,
            trial: rest.trial,
        },
    };
    CHECKS.iter().flat_map(|check| check(&patient)).collect()
}

/// Exactly these checks are not good, each with a word of what it says.
fn check(changed: &[(&str, &str)], rest: Rest, expected: &[Expected]) {
    let findings = examine(changed, rest);
    let wrong: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.verdict != Verdict::Good)
        .collect();
    let names: Vec<(&str, Verdict)> = wrong.iter().map(|f| (f.name, f.verdict)).collect();
    let wanted: Vec<(&str, Verdict)> = expected.iter().map(|e| (e.0, e.1)).collect();
    assert_eq!(names, wanted, "{changed:?} {wrong:#?}");
    for (finding, (_, _, word)) in wrong.iter().zip(expected) {
        let text = finding.to_string();
        assert!(text.contains(word), "{word:?} is not in {text}");
        assert!(finding.change.is_some() && finding.gain.is_some(), "{text}");
    }
}

#[test]
fn a_good_machine_has_nothing_to_change_and_every_check_speaks() {
    let findings = examine(&[], Rest::default());
    assert_eq!(findings.len(), CHECKS.len());
    check(&[], Rest::default(), &[]);
}

#[test]
fn what_files_of_the_machine_say() {
    const OSRELEASE: &str = "/proc/sys/kernel/osrelease";
    const IO_URING: &str = "/proc/sys/kernel/io_uring_disabled";
    const MOUNTS: &str = "/proc/self/mountinfo";
    const CACHE: &str = "/sys/dev/block/8:2/../queue/write_cache";
    const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    const GOVERNOR: &str = "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
    use Verdict::{Bad, Change, Note};
    #[rustfmt::skip]
    let table: &[(&str, &str, &[Expected])] = &[
        (OSRELEASE, "5.4.0-1", &[("kernel", Bad, "Linux 5.4.0-1")]),
        (OSRELEASE, "6.1.0", &[("kernel", Note, "6.12 or later")]),
        (OSRELEASE, "10.0.0", &[]),
        (IO_URING, "1", &[("io_uring", Note, "kernel.io_uring_disabled=1")]),
        ("/proc/meminfo", "MemTotal: 400000 kB", &[("memory", Change, "390 MiB")]),
        ("/sys/fs/cgroup/user.slice/memory.max", "120000000", &[("memory", Change, "limit of the container")]),
        ("/sys/fs/cgroup/user.slice/memory.max", "8589934592", &[]),
        ("/proc/swaps", "Filename\n/dev/sdb1 partition 1 0 -2", &[("swap", Change, "swapoff")]),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]", &[("huge pages", Change, "never")]),
        ("/sys/devices/system/cpu/smt/active", "1", &[("cores", Note, "one CPU of each pair")]),
        (CLOCK, "hpet", &[("clock", Change, "clocksource=tsc")]),
        (CLOCK, "kvm-clock", &[]),
        (GOVERNOR, "powersave", &[("governor", Note, "performance, powersave")]),
        (CACHE, "write through", &[]),
        ("/sys/dev/block/8:2/../queue/fua", "0", &[("write cache", Note, "no FUA")]),
        (MOUNTS, "1 1 8:2 / / rw - tmpfs x rw", &[("file system", Change, "tmpfs at /")]),
        (MOUNTS, "1 1 8:2 / / rw - overlay x rw", &[("file system", Change, "volume")]),
        (MOUNTS, "1 1 8:2 / / rw - nfs4 x rw", &[("file system", Change, "of this machine")]),
        (MOUNTS, "1 1 8:2 / / rw - fuse.sshfs x rw", &[("file system", Change, "of this machine")]),
        (MOUNTS, "1 1 8:2 / / rw - btrfs x rw", &[("file system", Note, "copy on write")]),
        (MOUNTS, "1 1 8:2 / / rw - ext4 x rw,data=journal", &[("file system", Change, "data=ordered")]),
        (MOUNTS, "1 1 8:2 / / rw - ext4 x rw,nobarrier", &[("file system", Bad, "power cut")]),
    ];
    for (file, text, expected) in table {
        check(&[(file, text)], Rest::default(), expected);
    }
}

/// Rows without changed files.
fn check_rows(rows: Vec<(Rest, &[Expected])>) {
    for (rest, expected) in rows {
        check(&[], rest, expected);
    }
}

#[test]
fn what_trying_says() {
    use Verdict::{Bad, Change, Note};
    let tried = |trial| Rest {
        trial,
        ..Rest::default()
    };
    let reason = || "Invalid argument".to_owned();
    let busy = Trial::Works(FlushTimes {
        best: Duration::from_micros(200),
        p50: Duration::from_millis(4),
        p99: Duration::from_millis(8),
    });
    #[rustfmt::skip]
    check_rows(vec![
        (tried(flush(9000)), &[("flush time", Change, "9.000 ms")]),
        (tried(flush(2)), &[("flush time", Change, "too fast")]),
        (tried(busy), &[("flush time", Note, "0.200 ms at best")]),
        (tried(Trial::NoDirectIo(reason())), &[("direct I/O", Change, "Invalid")]),
        (tried(Trial::NotWritable(reason())), &[("direct I/O", Bad, "/srv/ringlog")]),
        (tried(Trial::NotTried), &[]),
    ]);
    // A device without a volatile cache may be as fast as it likes.
    let through = [("/sys/dev/block/8:2/../queue/write_cache", "write through")];
    check(&through, tried(flush(2)), &[]);
}

#[test]
fn what_limits_say() {
    use Verdict::{Bad, Change, Note};
    let rest = Rest::default;
    let locked = |locked, locked_limit| Rest {
        locked,
        locked_limit,
        ..rest()
    };
    let small = LockedPlan {
        ring_depth: 1024,
        io_memory_bytes: 64 << 10,
        ..FULL
    };
    let unregistered = LockedPlan {
        io_memory_bytes: 64 << 10,
        ..FULL
    };
    let refused = StartError::Memlock {
        limit: 1 << 16,
        executors: 2,
        needed: 1 << 20,
        wanted: 15 << 20,
    };
    #[rustfmt::skip]
    check_rows(vec![
        (Rest { allowed_cpus: vec![0, 2], ..rest() }, &[("cores", Bad, "CPU 1 is not one")]),
        (Rest { free_bytes: 1 << 29, ..rest() }, &[("space", Bad, "0.5 GiB free")]),
        (Rest { free_bytes: 1 << 29, has_data: true, ..rest() }, &[("space", Change, "0.5 GiB free")]),
        (Rest { free_bytes: 3 << 29, ..rest() }, &[("space", Change, "retention.bytes")]),
        (Rest { descriptor_limit: 64, ..rest() }, &[("open files", Bad, "208")]),
        (Rest { descriptor_limit: 1024, ..rest() }, &[("open files", Change, "648 connections")]),
        (locked(Ok(small), 2 << 20), &[("locked memory", Change, "ulimit -l 15360")]),
        (locked(Ok(unregistered), 8 << 20), &[("locked memory", Note, "limit 8192 KiB")]),
        (locked(Err(refused), 1 << 16), &[("locked memory", Bad, "LimitMEMLOCK=15360K")]),
    ]);
}

#[test]
fn without_io_uring_the_reason_decides_what_to_change() {
    let none = || Rest {
        locked: Err(StartError::NoUring(io::Error::from_raw_os_error(
            libc::EPERM,
        ))),
        ..Rest::default()
    };
    check(&[], none(), &[("io_uring", Verdict::Bad, "seccomp")]);
    let off = [("/proc/sys/kernel/io_uring_disabled", "2")];
    let change = "sysctl kernel.io_uring_disabled=0";
    check(&off, none(), &[("io_uring", Verdict::Bad, change)]);
}
