//! The process as the kernel accounts for it, under the names that Prometheus client libraries agree on.
//!
//! Read from `/proc/self` at each scrape. A file that cannot be read leaves its metrics out: the broker's own numbers
//! are worth more than a complete list.

use std::fs;

use crate::document::{Family, Kind, Number, Series, Unit, Value};

/// Ticks per second of `/proc`: `USER_HZ`, 100 on every architecture that the broker runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Descriptors are counted up to here, so that a scrape of a broker with very many connections stays short.
const DESCRIPTORS_COUNTED_MAX: usize = 1 << 20;

/// What the kernel says about this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessStatus {
    /// Memory in RAM, bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// CPU time of all threads, seconds.
    pub cpu_seconds: Option<f64>,
    /// Descriptors in use.
    pub open_descriptors: Option<u64>,
    /// Descriptors allowed.
    pub descriptors_max: Option<u64>,
    /// Start of the process, seconds since 1970.
    pub start_time_seconds: Option<f64>,
}

impl ProcessStatus {
    /// Reads `/proc`.
    pub fn read() -> ProcessStatus {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let descriptors = fs::read_dir("/proc/self/fd").ok();
        let open_descriptors = descriptors.map(|all| all.take(DESCRIPTORS_COUNTED_MAX).count());
        ProcessStatus {
            open_descriptors: open_descriptors.and_then(|count| u64::try_from(count).ok()),
            ..ProcessStatus::parse(
                &text("/proc/self/stat"),
                &text("/proc/self/status"),
                &text("/proc/self/limits"),
                &text("/proc/stat"),
            )
        }
    }

    /// From the texts of `/proc/self/stat`, `/proc/self/status`, `/proc/self/limits` and `/proc/stat`.
    fn parse(stat: &str, status: &str, limits: &str, machine: &str) -> ProcessStatus {
        // The name of the process, in parentheses, may hold anything; the fields begin after it with the third.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let field = |number: usize| -> Option<f64> {
            let text = fields.split_whitespace().nth(number.checked_sub(3)?)?;
            text.parse::<u64>().ok().map(|ticks| ticks as f64)
        };
        let kilobytes = |name: &str| word_after(status, name, 0)?.checked_mul(1024);
        let boot_seconds = word_after(machine, "btime", 0);
        ProcessStatus {
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            threads: word_after(status, "Threads:", 0),
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            open_descriptors: None,
            descriptors_max: word_after(limits, "Max open files", 0),
            start_time_seconds: boot_seconds
                .zip(field(22))
                .map(|(boot, ticks)| boot as f64 + ticks / TICKS_PER_SECOND),
        }
    }

    /// As metrics without a shard. A commit stands behind the version and a plus sign.
    pub fn families(&self, version: &str) -> Vec<Family> {
        let gauge =
            |name, unit, help, value: Option<Number>| single(name, Kind::Gauge, unit, help, value);
        let mut families: Vec<Family> = [
            gauge(
                "process_resident_memory_bytes",
                Unit::Bytes,
                "Memory of the process that is in RAM.",
                self.resident_bytes.map(Number::Whole),
            ),
            gauge(
                "process_virtual_memory_bytes",
                Unit::Bytes,
                "Address space of the process.",
                self.virtual_bytes.map(Number::Whole),
            ),
            gauge(
                "process_threads",
                Unit::Count,
                "Threads of the process.",
                self.threads.map(Number::Whole),
            ),
            single(
                "process_cpu_seconds_total",
                Kind::Counter,
                Unit::Seconds,
                "CPU time of the process, in user and kernel mode.",
                self.cpu_seconds.map(Number::Real),
            ),
            gauge(
                "process_open_fds",
                Unit::Count,
                "Descriptors that the process has open.",
                self.open_descriptors.map(Number::Whole),
            ),
            gauge(
                "process_max_fds",
                Unit::Count,
                "Descriptors that the process may have open.",
                self.descriptors_max.map(Number::Whole),
            ),
            gauge(
                "process_start_time_seconds",
                Unit::Seconds,
                "Start of the process, since 1970.",
                self.start_time_seconds.map(Number::Real),
            ),
            gauge(
                "ringlog_build_info",
                Unit::Count,
                "Always 1; the labels say what runs.",
                Some(Number::Whole(1)),
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        for family in &mut families {
            if family.name == "ringlog_build_info" {
                for series in &mut family.series {
                    let (version, commit) = version.split_once('+').unwrap_or((version, ""));
                    let labels = [("version", version), ("commit", commit)];
                    let known = labels.into_iter().filter(|(_, value)| !value.is_empty());
                    let known = known.map(|(name, value)| (name.into(), value.into()));
                    series.labels.extend(known);
                }
            }
        }
        families
    }
}

fn single(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
    value: Option<Number>,
) -> Option<Family> {
    Some(Family {
        name: name.into(),
        kind,
        unit,
        help: help.into(),
        series: vec![Series::of(Value::Number(value?))],
    })
}

/// The number in the line that begins with `name`, `skip` words after it.
fn word_after(text: &str, name: &str, skip: usize) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().nth(skip)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::ProcessStatus;

    #[test]
    fn the_texts_of_proc_are_understood() {
        // A process may call itself anything, parentheses and blanks included.
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 5 0 12345 1000000 300 18446744073709551615 1";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t5\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1048576              1048576              files     \n";
        let machine = "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n";
        let parsed = ProcessStatus::parse(stat, status, limits, machine);
        assert_eq!(
            parsed,
            ProcessStatus {
                resident_bytes: Some(1 << 20),
                virtual_bytes: Some(2 << 20),
                threads: Some(5),
                cpu_seconds: Some(3.0),
                open_descriptors: None,
                descriptors_max: Some(1_048_576),
                start_time_seconds: Some(1_700_000_123.45),
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let parsed = ProcessStatus::parse("", "", "Max open files unlimited", "nonsense");
        assert_eq!(parsed, ProcessStatus::default());
        let names: Vec<_> = parsed.families("1").into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["ringlog_build_info"]);
        let labels = |version| {
            let families = parsed.families(version);
            let labels = &families[0].series[0].labels;
            ["version", "commit"].map(|name| labels.get(name).map(|value| value.to_string()))
        };
        assert_eq!(labels("1.2"), [Some("1.2".to_owned()), None]);
        assert_eq!(
            labels("1.2+ab"),
            [Some("1.2".to_owned()), Some("ab".to_owned())]
        );
    }

    #[test]
    fn this_process_is_there() {
        let status = ProcessStatus::read();
        assert!(status.resident_bytes.is_some_and(|bytes| bytes > 1 << 16));
        assert!(status.open_descriptors.is_some_and(|count| count > 2));
        assert!(status.cpu_seconds.is_some_and(|seconds| seconds >= 0.0));
        assert!(
            status
                .start_time_seconds
                .is_some_and(|seconds| seconds > 1e9)
        );
    }
}
