//! What the machine's facts mean for a broker. Pure: files of /proc and /sys come from a function, the rest as values.
//!
//! A registry: adding a check is one function and one entry of [`CHECKS`].

use std::path::Path;
use std::time::Duration;

use model::config::BrokerConfig;
use uring::{LockedPlan, StartError};

use super::disk::{Disk, FlushTimes, Trial};
use super::finding::{Finding, Verdict};
use super::mounts::Mount;
use crate::cgroup;
use crate::descriptors::DescriptorPlan;
use crate::limits::locked_sentence;
use crate::memory::{machine_bytes, share_of};

/// The oldest kernel with what a broker needs.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// The first one whose workers do not wait for a busy shard's time slice.
const KERNEL_GOOD: (u32, u32) = (6, 12);
/// A flush that takes longer than this is what clients wait for.
const FLUSH_SLOW: Duration = Duration::from_millis(2);
/// One that takes less than this, to a device that says it has a volatile cache, has not been one.
const FLUSH_TOO_FAST: Duration = Duration::from_micros(5);
/// Where half of the flushes take so many times longer than the best, they wait for something beside the device.
const BUSY: u32 = 4;
/// Connections that a broker of many clients has.
const CONNECTIONS_WANTED: usize = 10_000;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What is known about the machine.
pub struct Patient<'a> {
    /// The text of a file, if it is there.
    pub read: &'a dyn Fn(&Path) -> Option<String>,
    /// What is to run here.
    pub config: &'a BrokerConfig,
    /// On which CPUs.
    pub cpus: Vec<usize>,
    /// Those that it may run on.
    pub allowed_cpus: Vec<usize>,
    /// How large rings may be.
    pub locked: Result<LockedPlan, StartError>,
    /// The limit of locked memory, in bytes.
    pub locked_limit: u64,
    /// The limit of open files.
    pub descriptor_limit: usize,
    /// Where the data will be.
    pub disk: Disk,
}

impl Patient<'_> {
    fn text(&self, path: &str) -> Option<String> {
        let text = (self.read)(Path::new(path))?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A file of the queue of the data's device; of the whole disk, if it is a partition.
    fn queue(&self, file: &str) -> Option<String> {
        let (major, minor) = self.disk.device;
        let of = |above: &str| {
            self.text(&format!(
                "/sys/dev/block/{major}:{minor}/{above}queue/{file}"
            ))
        };
        of("").or_else(|| of("../"))
    }

    fn mount(&self) -> Option<Mount> {
        Mount::of(&self.disk.directory, &self.text("/proc/self/mountinfo")?)
    }
}

/// All checks, in the order in which they are printed.
pub const CHECKS: &[fn(&Patient<'_>) -> Option<Finding>] = &[
    kernel,
    io_uring,
    locked_memory,
    open_files,
    cores,
    memory,
    huge_pages,
    swap,
    file_system,
    direct_io,
    space,
    write_cache,
    flush_time,
    clock,
    governor,
];

fn kernel(patient: &Patient<'_>) -> Option<Finding> {
    let release = patient.text("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    let version = (number()?, number()?);
    let found = format!("Linux {release}");
    let verdict = match version {
        _ if version < KERNEL_MIN => Verdict::Bad,
        _ if version < KERNEL_GOOD => Verdict::Note,
        _ => return Some(Finding::good("kernel", found)),
    };
    Some(Finding::is(verdict, "kernel", found).change(
        "Linux 6.12 or later (5.8 at least)",
        "a flush need not wait for a busy shard's time slice: 0.3 ms in place of 2.9 ms were measured",
    ))
}

fn io_uring(patient: &Patient<'_>) -> Option<Finding> {
    let setting = patient.text("/proc/sys/kernel/io_uring_disabled");
    if let Err(error @ StartError::NoUring(_)) = &patient.locked {
        let change = match setting.as_deref() {
            Some("1" | "2") => "sysctl kernel.io_uring_disabled=0",
            _ => {
                "a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
            }
        };
        let gain = "a broker starts";
        return Some(Finding::is(Verdict::Bad, "io_uring", error.to_string()).change(change, gain));
    }
    Some(match setting.as_deref() {
        Some("1") => Finding::is(
            Verdict::Note,
            "io_uring",
            "works for this user; kernel.io_uring_disabled=1 allows it to few",
        )
        .change(
            "sysctl kernel.io_uring_disabled=0, or the broker's group as kernel.io_uring_group",
            "it works for any user",
        ),
        _ => Finding::good("io_uring", "works"),
    })
}

fn locked_memory(patient: &Patient<'_>) -> Option<Finding> {
    const NAME: &str = "locked memory";
    let limit = match patient.locked_limit {
        u64::MAX => "no limit".to_owned(),
        limit => format!("limit {} KiB", limit >> 10),
    };
    let raise = |bytes: u64| {
        let kib = bytes.div_ceil(1024);
        format!(
            "ulimit -l {kib}, LimitMEMLOCK={kib}K, or --ulimit memlock={}",
            kib << 10
        )
    };
    Some(match &patient.locked {
        Ok(plan) => match locked_sentence(plan, patient.cpus.len()) {
            None => Finding::good(
                NAME,
                format!("{limit}, {} KiB of use", plan.needed_bytes.div_ceil(1024)),
            ),
            Some(_) if plan.has_small_rings() => Finding::is(
                Verdict::Change,
                NAME,
                format!("{limit}: rings of {} entries only", plan.ring_depth),
            )
            .change(
                raise(plan.wanted_bytes),
                format!("more than {} connections", plan.ring_depth),
            ),
            Some(_) => Finding::is(
                Verdict::Note,
                NAME,
                format!("{limit}: no registered memory"),
            )
            .change(raise(plan.wanted_bytes), "a little CPU time of reads"),
        },
        Err(StartError::Memlock { needed, wanted, .. }) => Finding::is(
            Verdict::Bad,
            NAME,
            format!("{limit}, {} KiB are needed", needed.div_ceil(1024)),
        )
        .change(raise(*wanted), "a broker starts"),
        // Told by another check.
        Err(_) => return None,
    })
}

fn open_files(patient: &Patient<'_>) -> Option<Finding> {
    const NAME: &str = "open files";
    let limit = patient.descriptor_limit;
    let shards = patient.cpus.len();
    Some(match DescriptorPlan::new(limit, shards, usize::MAX) {
        Err(error) => Finding::is(Verdict::Bad, NAME, error.to_string())
            .change("ulimit -n 1048576, LimitNOFILE=1048576", "a broker starts"),
        Ok(plan) if plan.connections < CONNECTIONS_WANTED => {
            Finding::is(Verdict::Change, NAME, plan.sentence(limit)).change(
                "ulimit -n 1048576, LimitNOFILE=1048576",
                "more connections; segment files need not be opened again and again",
            )
        }
        Ok(plan) => Finding::good(NAME, plan.sentence(limit)),
    })
}

fn cores(patient: &Patient<'_>) -> Option<Finding> {
    let list = |cpus: &[usize]| {
        let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        cpus.join(",")
    };
    let mut cpus = patient.cpus.iter();
    if let Some(cpu) = cpus.find(|cpu| !patient.allowed_cpus.contains(cpu)) {
        let found = format!(
            "CPU {cpu} is not one that this process may run on ({})",
            list(&patient.allowed_cpus)
        );
        return Some(
            Finding::is(Verdict::Bad, "cores", found)
                .change("--cores with some of these", "a broker starts"),
        );
    }
    let found = format!("a shard on each of CPUs {}", list(&patient.cpus));
    let is_one = |path: &str| patient.text(path).is_some_and(|text| text == "1");
    let shares_cores = is_one("/sys/devices/system/cpu/smt/active");
    Some(match shares_cores {
        false => Finding::good("cores", found),
        true => Finding::is(
            Verdict::Note,
            "cores",
            format!("{found}; two of them may be threads of one core"),
        )
        .change(
            "--cores with one CPU of each pair (lscpu --extended)",
            "steadier latency; throughput by CPU time may be lower",
        ),
    })
}

fn memory(patient: &Patient<'_>) -> Option<Finding> {
    let machine = machine_bytes(&patient.text("/proc/meminfo")?)?;
    let container = patient
        .text("/proc/self/cgroup")
        .and_then(|groups| cgroup::limit_of(&groups, patient.read));
    let has = container.map_or(machine, |limit| limit.min(machine));
    let configured = patient.config.memory_bytes;
    let taken = configured.unwrap_or_else(|| share_of(Some(machine), container));
    let found = format!(
        "{} MiB{}, of which the broker takes {} MiB",
        has / MIB,
        match container.is_some_and(|limit| limit < machine) {
            true => " (limit of the container)",
            false => "",
        },
        taken / MIB
    );
    // What requests and answers may add for moments is as much again.
    Some(match taken.saturating_mul(2) > has {
        true => Finding::is(Verdict::Change, "memory", found).change(
            "a smaller --memory, or more memory",
            "the kernel does not kill the broker under load",
        ),
        false => Finding::good("memory", found),
    })
}

fn huge_pages(patient: &Patient<'_>) -> Option<Finding> {
    let setting = patient.text("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let chosen = setting.split(['[', ']']).nth(1)?.to_owned();
    Some(match chosen.as_str() {
        "never" => Finding::is(Verdict::Change, "huge pages", chosen).change(
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            "less CPU time for new memory: records are kept in large blocks",
        ),
        _ => Finding::good("huge pages", chosen),
    })
}

fn swap(patient: &Patient<'_>) -> Option<Finding> {
    let swaps = patient.text("/proc/swaps")?;
    Some(match swaps.lines().count() > 1 {
        false => Finding::good("swap", "none"),
        true => Finding::is(Verdict::Change, "swap", "in use").change(
            "swapoff -a, or MemorySwapMax=0 in the broker's unit",
            "no request waits until its memory is read from disk",
        ),
    })
}

fn file_system(patient: &Patient<'_>) -> Option<Finding> {
    const NAME: &str = "file system";
    let mount = patient.mount()?;
    let found = format!("{} at {}", mount.kind, mount.point);
    if mount.has_any(&["nobarrier", "barrier=0"]) {
        let found = format!("{found} without barriers: flushes do not reach the device");
        return Some(Finding::is(Verdict::Bad, NAME, found).change(
            "mount it without nobarrier or barrier=0",
            "acknowledged records survive a power cut",
        ));
    }
    Some(match mount.kind.as_str() {
        "ext4" if mount.has_any(&["data=journal"]) => Finding::is(
            Verdict::Change,
            NAME,
            format!("{found}, data=journal"),
        )
        .change("data=ordered, its default", "direct I/O, and each byte is written once"),
        "ext4" | "xfs" => Finding::good(NAME, found),
        "tmpfs" | "ramfs" => Finding::is(Verdict::Change, NAME, found).change(
            "--data-dir on a disk",
            "records survive a restart of the machine",
        ),
        "overlay" => Finding::is(Verdict::Change, NAME, found).change(
            "--data-dir on a volume, not in the container's own layer",
            "records outlive the container, and writes go straight to the disk",
        ),
        kind if kind.starts_with("nfs") || kind.starts_with("fuse") || ["cifs", "9p", "ceph"].contains(&kind) => {
            Finding::is(Verdict::Change, NAME, found).change(
                "--data-dir on a disk of this machine with ext4 or xfs",
                "a flush takes a fraction of the time, and the lock of the directory can be relied on",
            )
        }
        _ => Finding::is(Verdict::Note, NAME, found).change(
            "ext4 or xfs",
            "what the broker is measured on; file systems that copy on write rewrite its journal elsewhere each time",
        ),
    })
}

fn direct_io(patient: &Patient<'_>) -> Option<Finding> {
    const NAME: &str = "direct I/O";
    Some(match &patient.disk.trial {
        Trial::NotTried => return None,
        Trial::NotWritable(reason) => Finding::is(
            Verdict::Bad,
            NAME,
            format!("{} cannot be written to: {reason}", patient.disk.directory.display()),
        )
        .change("its owner or mode, or another --data-dir", "a broker starts"),
        Trial::NoDirectIo(reason) => Finding::is(Verdict::Change, NAME, format!("no: {reason}"))
            .change(
                "ext4 or xfs on a disk",
                "writes do not go through the page cache: less CPU time and no stalls when the kernel writes back",
            ),
        Trial::Works(_) => Finding::good(NAME, "works"),
    })
}

fn space(patient: &Patient<'_>) -> Option<Finding> {
    let journals = patient.config.journal_bytes_max;
    let journals = journals.saturating_mul(patient.cpus.len() as u64);
    let free = patient.disk.free_bytes;
    let found = format!(
        "{:.1} GiB free; the journals take up to {:.1} GiB",
        free as f64 / GIB as f64,
        journals as f64 / GIB as f64
    );
    Some(match free {
        _ if free < journals && !patient.disk.has_data => Finding::is(Verdict::Bad, "space", found)
            .change(
                "more space, fewer --cores, or a smaller ringlog.journal.bytes.max",
                "a broker accepts records",
            ),
        _ if free < journals.saturating_mul(2) => Finding::is(Verdict::Change, "space", found)
            .change(
                "more space, or retention.bytes for the topics",
                "records are not refused when the disk is full",
            ),
        _ => Finding::good("space", found),
    })
}

fn write_cache(patient: &Patient<'_>) -> Option<Finding> {
    const NAME: &str = "write cache";
    let cache = patient.queue("write_cache")?;
    let fua = patient.queue("fua").is_some_and(|fua| fua == "1");
    Some(match (cache.as_str(), fua) {
        ("write through", _) => {
            Finding::good(NAME, "none that is volatile: what is written is kept")
        }
        (_, true) => Finding::good(NAME, "volatile, and single writes can pass it (FUA)"),
        (_, false) => Finding::is(
            Verdict::Note,
            NAME,
            "volatile, and emptied as a whole by each flush (no FUA)",
        )
        .change(
            "a device with power-loss protection, or a virtual disk without a volatile cache",
            "flushes take less time, other writers of the disk disturb them less",
        ),
    })
}

fn flush_time(patient: &Patient<'_>) -> Option<Finding> {
    const NAME: &str = "flush time";
    let Trial::Works(FlushTimes { best, p50, p99 }) = patient.disk.trial else {
        return None;
    };
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let found = format!(
        "a block is durable in {:.3} ms (p50), {:.3} ms (p99), {:.3} ms at best",
        millis(p50),
        millis(p99),
        millis(best)
    );
    let cache = patient.queue("write_cache");
    let is_volatile = cache.is_some_and(|cache| cache == "write back");
    Some(match p50 {
        _ if p50 > FLUSH_SLOW && best * BUSY < p50 => {
            Finding::is(Verdict::Note, NAME, format!("{found}: something else is busy")).change(
                "look again when nothing else uses the disk or the CPUs, and keep it so",
                "flushes take what the device needs, without waiting for a turn",
            )
        }
        _ if p50 > FLUSH_SLOW => Finding::is(Verdict::Change, NAME, found).change(
            "a device with power-loss protection; or ringlog.durability=written for topics that may lose their last \
             records in a power cut",
            "every produce waits for one flush: latency falls to that of the device",
        ),
        _ if is_volatile && p50 < FLUSH_TOO_FAST => {
            Finding::is(Verdict::Change, NAME, format!("{found}: too fast for a device")).change(
                "a virtual disk whose flushes reach the host's disk (not cache=unsafe)",
                "acknowledged records survive a power cut of the host",
            )
        }
        _ => Finding::good(NAME, found),
    })
}

fn clock(patient: &Patient<'_>) -> Option<Finding> {
    let source =
        patient.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    Some(match source.as_str() {
        "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies" => {
            Finding::is(Verdict::Change, "clock", source).change(
                "clocksource=tsc on the kernel's command line, if dmesg does not call it unstable",
                "reading the time takes 20 ns in place of 1 us, some times per request",
            )
        }
        _ => Finding::good("clock", source),
    })
}

fn governor(patient: &Patient<'_>) -> Option<Finding> {
    const NAME: &str = "governor";
    let mut found: Vec<String> = patient
        .cpus
        .iter()
        .filter_map(|cpu| {
            patient.text(&format!(
                "/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
            ))
        })
        .collect();
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Some(Finding::good(NAME, "not decided on this machine"));
    }
    let all_fast = found.iter().all(|governor| governor == "performance");
    let found = found.join(", ");
    Some(match all_fast {
        true => Finding::good(NAME, found),
        false => Finding::is(Verdict::Note, NAME, found).change(
            "cpupower frequency-set -g performance",
            "requests that come alone do not find a slow core",
        ),
    })
}
