//! The report of a comparison, from its journal, as Markdown. Pure.

use std::fmt::Write as _;

use load::statistics::{median, paired_ratio};

use super::{Entry, Journal, Machine, Window};
use crate::drive::{Limits, Peer};
use crate::workloads::{
    Against, Bar, Contest, Durability, LIMIT_SHARE, Metric, Shape, WORKLOADS, Workload,
};

/// Seed of the bootstrap.
const SEED: u64 = 1;
/// Produce workloads whose costs give the line through requests and bytes.
const COST_ROWS: [&str; 6] = [
    "1x1KiB", "4x1KiB", "16x1KiB", "64x1KiB", "256x1KiB", "900x1KiB",
];
/// Bars of that line: microseconds per request, CPU seconds per GB.
const COST_BARS: [f64; 2] = [12.0, 0.6];

/// Writes the report of what is there.
pub fn report(journal: &Journal, command: &str) -> String {
    let entries = journal.entries();
    let machine = entries.iter().rev().find_map(|entry| match entry {
        Entry::Run(machine) => Some(machine),
        Entry::Limits { .. } | Entry::Window(_) => None,
    });
    let limits: Vec<&Limits> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Limits { limits, .. } => Some(limits),
            Entry::Run(_) | Entry::Window(_) => None,
        })
        .collect();
    let results = Results {
        windows: journal.windows().collect(),
        limits,
    };
    let mut text = String::from("# Ringlog beside Apache Kafka: results of one run\n\n");
    text += "What is compared and what is not: [README.md](README.md). Every figure is the median of the run's windows; \
        a ratio is the median of Ringlog / Kafka over the rounds, with its 95 % bootstrap interval, which for few rounds \
        is their range. **Ratios of one run: absolute figures hold for this machine at that moment.**\n\n";
    writeln!(text, "```\n{command}\n```\n").expect("writing to memory");
    if let Some(machine) = machine {
        text += &machine_table(machine);
    }
    for (durability, title) in [
        (
            Durability::PageCache,
            "D1: Kafka as it is by default, acknowledged from the page cache; Ringlog flushed",
        ),
        (
            Durability::Flushed,
            "D2: both flushed (Kafka with `flush.messages=1`)",
        ),
    ] {
        writeln!(text, "## {title}\n").expect("writing to memory");
        text += &results.table(durability);
    }
    text += &results.alone();
    text += &results.costs();
    text += &results.limits_table();
    text += &results.doubts();
    text
}

fn machine_table(machine: &Machine) -> String {
    let memory = match machine.ringlog_memory.as_str() {
        "" => "its default",
        given => given,
    };
    let rows = [
        (
            "machine",
            format!(
                "{} x {}, {:.0} GB, Linux {}",
                machine.cpus, machine.cpu, machine.memory_gb, machine.kernel
            ),
        ),
        ("Ringlog", format!("{}, memory: {memory}", machine.ringlog)),
        (
            "Kafka",
            format!(
                "{}, {}, `{}`",
                machine.kafka, machine.java, machine.java_options
            ),
        ),
        (
            "windows",
            format!(
                "{} s each, either broker loaded for {} s before its first",
                machine.window_seconds, machine.warmup_seconds
            ),
        ),
    ];
    let mut text = String::from("| | |\n|---|---|\n");
    for (name, value) in rows {
        writeln!(text, "| {name} | {value} |").expect("writing to memory");
    }
    text + "\n"
}

struct Results<'a> {
    windows: Vec<&'a Window>,
    limits: Vec<&'a Limits>,
}

impl Results<'_> {
    /// Figures by round, ascending.
    fn figures(
        &self,
        peer: Peer,
        durability: Durability,
        workload: &str,
        metric: Metric,
    ) -> Vec<(usize, f64)> {
        let windows = self.windows.iter().filter(|window| {
            window.peer == peer && window.durability == durability && window.workload == workload
        });
        let mut figures: Vec<(usize, f64)> = windows
            .filter_map(|window| {
                let value = window.loaded.as_ref()?.figures.get(&metric)?;
                Some((window.round, *value))
            })
            .collect();
        figures.sort_by_key(|(round, _)| *round);
        figures
    }

    fn middle(&self, peer: Peer, durability: Durability, row: &str, metric: Metric) -> Option<f64> {
        let figures = self.figures(peer, durability, row, metric);
        median(
            &figures
                .iter()
                .map(|(_, value)| *value)
                .collect::<Vec<f64>>(),
        )
    }

    /// Ringlog beside Kafka in one class.
    fn table(&self, class: Durability) -> String {
        let mut text = String::from(
            "| workload | figure | Kafka | Ringlog | Ringlog / Kafka | bar | met |\n|---|---|--:|--:|--:|---|---|\n",
        );
        for workload in WORKLOADS {
            let takes_part = match workload.contest {
                Contest::Both(_) => true,
                Contest::Default(_) => class == Durability::PageCache,
                Contest::Alone(_) | Contest::None => false,
            };
            if takes_part && self.windows.iter().any(|w| w.workload == workload.name) {
                for metric in workload.metrics(class) {
                    text += &self.row(workload, class, metric);
                }
            }
        }
        text + "\n"
    }

    fn row(&self, workload: &Workload, class: Durability, metric: Metric) -> String {
        let name = workload.name;
        let kafka = self.figures(Peer::Kafka, class, name, metric);
        let ringlog = self.figures(Peer::Ringlog, Durability::Flushed, name, metric);
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for (round, value) in &kafka {
            if let Some((_, own)) = ringlog.iter().find(|(other, _)| other == round) {
                theirs.push(*value);
                ours.push(*own);
            }
        }
        let ratio = paired_ratio(&theirs, &ours, SEED);
        let own = self.middle(Peer::Ringlog, Durability::Flushed, name, metric);
        let peer = self.middle(Peer::Kafka, class, name, metric);
        let against = Against {
            own,
            ratio: ratio.map(|ratio| ratio.median),
            limit: self.limit(workload),
            peer,
            idle: self.of_loopback(workload, metric),
        };
        let bars = workload.bars.iter();
        let bars = bars.filter(|bar| bar.metric() == metric && bar.applies(class));
        let (words, met) = verdicts(bars.copied(), against);
        let ratio = ratio.map(|r| format!("{:.2} [{:.2}, {:.2}]", r.median, r.low, r.high));
        format!(
            "| {name} | {} | {} | {} | {} | {words} | {met} |\n",
            metric.title(),
            cell(metric, peer),
            cell(metric, own),
            ratio.unwrap_or_else(|| "-".to_owned()),
        )
    }

    /// What the device and the loopback do at best for a workload, whichever is less.
    fn limit(&self, workload: &Workload) -> Option<f64> {
        let device = self.limits.iter().filter_map(|l| l.durable_mb_per_second());
        let device = median(&device.collect::<Vec<f64>>())?;
        let loopback = self.of_loopback(workload, Metric::MbPerSecond)?;
        Some(device.min(loopback))
    }

    /// A figure of the loopback for a workload.
    fn of_loopback(&self, workload: &Workload, metric: Metric) -> Option<f64> {
        let all = self.limits.iter();
        let all = all.filter_map(|l| l.of_loopback(workload.name, metric));
        median(&all.collect::<Vec<f64>>())
    }

    /// What only Ringlog did, or Kafka only if it was asked to.
    fn alone(&self) -> String {
        let mut rows = String::new();
        for workload in WORKLOADS {
            let is_alone = matches!(workload.contest, Contest::Alone(_));
            if is_alone && self.windows.iter().any(|w| w.workload == workload.name) {
                for metric in workload.metrics(Durability::PageCache) {
                    rows += &self.row(workload, Durability::PageCache, metric);
                }
            }
        }
        if rows.is_empty() {
            return rows;
        }
        format!(
            "## Ringlog alone\n\n| workload | figure | Kafka | Ringlog | Ringlog / Kafka | bar | met |\n\
             |---|---|--:|--:|--:|---|---|\n{rows}\n"
        )
    }

    /// CPU of a produce request as a line through requests and bytes.
    fn costs(&self) -> String {
        let cost = |peer, class| {
            let points: Vec<(f64, f64)> = COST_ROWS
                .iter()
                .filter_map(|name| {
                    let Shape::Produce(produce) = Workload::named(name)?.shape else {
                        return None;
                    };
                    let bytes = (produce.batch_records * produce.record_bytes) as f64;
                    let cost = self.middle(peer, class, name, Metric::CpuUsPerRequest)?;
                    Some((bytes, cost))
                })
                .collect();
            line_through(&points)
        };
        let mut rows = String::new();
        for (peer, class, name) in [
            (Peer::Kafka, Durability::PageCache, "Kafka D1"),
            (Peer::Kafka, Durability::Flushed, "Kafka D2"),
            (Peer::Ringlog, Durability::Flushed, "Ringlog"),
        ] {
            if let Some((base, per_byte)) = cost(peer, class) {
                // Microseconds per byte are 1000 CPU seconds per 10^9 bytes.
                writeln!(rows, "| {name} | {base:.1} | {:.2} |", per_byte * 1e3)
                    .expect("writing to memory");
            }
        }
        if rows.is_empty() {
            return rows;
        }
        format!(
            "## Cost of a produce request\n\nThe line a + b x bytes that fits the broker's CPU of {} best (least \
             squares of relative errors). Bar for Ringlog: a ≤ {} us, b ≤ {} CPU-s/GB.\n\n\
             | broker | a, us per request | b, CPU-s per GB |\n|---|--:|--:|\n{rows}\n",
            COST_ROWS.join(", "),
            COST_BARS[0],
            COST_BARS[1],
        )
    }

    fn limits_table(&self) -> String {
        let mut text = format!(
            "## Limits of the machine in this run\n\nDirect writes to a file written before; what a flushed log asks of the \
             device (groups of 688 KiB into a journal, O_DSYNC, 3 at a time, and the same bytes once more into segments of \
             128 MiB, 256 KiB at a time by 4 writers), in bytes of records; and the loopback with a server that answers and \
             keeps nothing. Before and after the brokers. The bar \"the machine's limit\" is {:.0} % of \
             the lower of the fastest durable write and the loopback at that batch.\n\n| limit | MB/s |\n|---|--:|\n",
            LIMIT_SHARE * 100.0
        );
        let Some(first) = self.limits.first() else {
            return String::new();
        };
        for (index, limit) in first.device.iter().enumerate() {
            let all = self.limits.iter().filter_map(|l| l.device.get(index));
            let kind = match (limit.cached, limit.durable) {
                (true, _) => " to new pages of the page cache, not flushed",
                (false, true) => ", O_DSYNC",
                (false, false) => "",
            };
            let values = join(Metric::MbPerSecond, all.map(|l| l.mb_per_second));
            let (kib, depth) = (limit.write_bytes >> 10, limit.depth);
            writeln!(
                text,
                "| writes of {kib} KiB, {depth} at a time{kind} | {values} |"
            )
            .expect("writing to memory");
        }
        for (index, limit) in first.log.iter().enumerate() {
            let all = self.limits.iter().filter_map(|l| l.log.get(index));
            let all = all.filter_map(|l| l.figures.get(&Metric::MbPerSecond).copied());
            let blocks = if limit.is_new {
                "new files"
            } else {
                "files written before"
            };
            let values = join(Metric::MbPerSecond, all);
            writeln!(
                text,
                "| a flushed log without a broker, segments in {blocks} | {values} |"
            )
            .expect("writing to memory");
        }
        for limit in &first.loopback {
            let values = self.loopback_cells(&limit.workload, Metric::MbPerSecond);
            writeln!(text, "| loopback, {} | {values} |", limit.workload)
                .expect("writing to memory");
        }
        text + "\n" + &self.latency_limits()
    }

    /// What a request takes where nothing is kept, and what keeping it takes without a request.
    fn latency_limits(&self) -> String {
        let mut rows = String::new();
        let percentiles = [Metric::P50Ms, Metric::P99Ms, Metric::P999Ms];
        let device: Vec<_> = self
            .limits
            .iter()
            .filter_map(|l| l.device_latency.as_ref())
            .collect();
        if let Some(first) = device.first() {
            let cells = percentiles.map(|metric| {
                let figures = device
                    .iter()
                    .filter_map(|d| d.figures.get(&metric).copied());
                join(metric, figures)
            });
            let (kib, rate) = (first.write_bytes >> 10, first.per_second);
            writeln!(
                rows,
                "| {rate} writes of {kib} KiB per second, O_DSYNC | {} |",
                cells.join(" | ")
            )
            .expect("writing to memory");
        }
        for workload in WORKLOADS {
            let is_paced =
                matches!(workload.shape, Shape::Produce(p) if p.requests_per_second.is_some());
            let cells = percentiles.map(|metric| self.loopback_cells(workload.name, metric));
            if is_paced && cells.iter().all(|cell| !cell.is_empty()) {
                writeln!(
                    rows,
                    "| loopback, {} | {} |",
                    workload.name,
                    cells.join(" | ")
                )
                .expect("writing to memory");
            }
        }
        if rows.is_empty() {
            return rows;
        }
        format!(
            "Latency in ms of a flushed write by itself, and of a request to a server that answers and keeps nothing. A \
             flushed broker does both, one after the other.\n\n| limit | p50 | p99 | p99.9 |\n|---|--:|--:|--:|\n{rows}\n"
        )
    }

    fn loopback_cells(&self, workload: &str, metric: Metric) -> String {
        let all = self.limits.iter();
        join(metric, all.filter_map(|l| l.of_loopback(workload, metric)))
    }

    /// What failed, what was noisy, what the loads noticed.
    fn doubts(&self) -> String {
        let mut lines = String::new();
        let mut noisy = 0;
        for window in &self.windows {
            let name = format!(
                "{} {:?} {}, round {}",
                window.peer.name(),
                window.durability,
                window.workload,
                window.round + 1
            );
            if let Some(failure) = &window.failure {
                writeln!(lines, "- {name} failed: {failure}").expect("writing to memory");
            }
            for note in window.loaded.iter().flat_map(|loaded| &loaded.notes) {
                writeln!(lines, "- {name}: {note}").expect("writing to memory");
            }
            if window.noise.is_noisy() {
                noisy += 1;
                writeln!(
                    lines,
                    "- {name} is noisy: other programs used {:.0} % of a core, {:.0} % were stolen",
                    window.noise.others_percent, window.noise.stolen_percent
                )
                .expect("writing to memory");
            }
        }
        format!(
            "## Doubts\n\n{noisy} of {} windows were noisy.\n\n{lines}",
            self.windows.len()
        )
    }
}

/// Values of one figure, in order.
fn join(metric: Metric, values: impl Iterator<Item = f64>) -> String {
    let cells: Vec<String> = values.map(|value| metric.format(value)).collect();
    cells.join(", ")
}

fn cell(metric: Metric, value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| metric.format(value))
}

fn verdicts(bars: impl Iterator<Item = Bar>, against: Against) -> (String, String) {
    let (mut words, mut met) = (Vec::new(), Vec::new());
    for bar in bars {
        words.push(bar.text(against));
        met.push(match bar.is_met(against) {
            Some(true) => "yes".to_owned(),
            Some(false) => match bar.is_out_of_reach(against) {
                None => "**no**".to_owned(),
                Some(idle) => format!(
                    "**no**: a server that keeps nothing takes {}",
                    bar.metric().format(idle)
                ),
            },
            None => "not measured".to_owned(),
        });
    }
    (words.join("; "), met.join("; "))
}

/// `(a, b)` of the line `a + b x` with the least sum of squared relative errors; `None` of fewer than three points.
fn line_through(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    if points.len() < 3 || points.iter().any(|(_, y)| *y <= 0.0) {
        return None;
    }
    // Weighted by 1 / y², because every point is known to the same share of itself.
    let sum = |term: fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| term(*x, *y) / (y * y)).sum()
    };
    let (ones, xs, ys) = (sum(|_, _| 1.0), sum(|x, _| x), sum(|_, y| y));
    let (squares, products) = (sum(|x, _| x * x), sum(|x, y| x * y));
    let determinant = ones * squares - xs * xs;
    if determinant <= 0.0 {
        return None;
    }
    let slope = (ones * products - xs * ys) / determinant;
    Some(((ys - slope * xs) / ones, slope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::{DeviceLimit, Loaded, LoopbackLimit, Noise};
    use crate::workloads::Figures;

    fn window(peer: Peer, durability: Durability, round: usize, rate: f64) -> Window {
        let loaded = Loaded {
            figures: Figures::from([(Metric::MbPerSecond, rate)]),
            ..Loaded::default()
        };
        Window {
            round,
            peer,
            durability,
            workload: "64x1KiB".to_owned(),
            loaded: Some(loaded),
            failure: None,
            noise: Noise::default(),
        }
    }

    #[test]
    fn rows_show_the_ratio_of_pairs_and_the_verdict() {
        let (cache, flushed) = (Durability::PageCache, Durability::Flushed);
        let windows = [
            window(Peer::Kafka, cache, 0, 300.0),
            window(Peer::Ringlog, flushed, 0, 960.0),
            window(Peer::Ringlog, flushed, 1, 1100.0),
            window(Peer::Kafka, cache, 1, 320.0),
            window(Peer::Kafka, flushed, 0, 150.0),
        ];
        let results = Results {
            windows: windows.iter().collect(),
            limits: Vec::new(),
        };
        let table = results.table(cache);
        let row = table.lines().find(|line| line.contains("| MB/s |"));
        let row = row.unwrap();
        assert!(row.contains("| 310 | 1 030 | 3.32 [3.20, 3.44] |"), "{row}");
        assert!(row.contains("≥ 1 000; ≥ 3 x | yes; yes |"), "{row}");
        let table = results.table(flushed);
        let row = table.lines().find(|line| line.contains("| MB/s |"));
        assert!(row.unwrap().contains("yes; **no** |"), "{row:?}");
    }

    #[test]
    fn the_limit_is_the_lower_of_device_and_loopback() {
        let limits = Limits {
            device: vec![DeviceLimit {
                write_bytes: 1 << 20,
                depth: 1,
                durable: true,
                cached: false,
                mb_per_second: 1200.0,
            }],
            device_latency: None,
            log: Vec::new(),
            loopback: vec![LoopbackLimit {
                workload: "256x1KiB".to_owned(),
                figures: Figures::from([(Metric::MbPerSecond, 2000.0)]),
            }],
        };
        let results = Results {
            windows: Vec::new(),
            limits: vec![&limits],
        };
        let named = |name| Workload::named(name).unwrap();
        assert_eq!(results.limit(named("256x1KiB")), Some(1200.0));
        assert_eq!(results.limit(named("900x1KiB")), None);
        assert!(results.limits_table().contains("writes of 1024 KiB"));
    }

    #[test]
    fn a_line_is_found_again() {
        let points = [1e3, 1e4, 1e5, 1e6].map(|x| (x, 8.0 + 0.0005 * x));
        let (base, slope) = line_through(&points).unwrap();
        assert!((base - 8.0).abs() < 1e-6 && (slope - 0.0005).abs() < 1e-9);
        assert_eq!(line_through(&points[..2]), None);
    }
}
