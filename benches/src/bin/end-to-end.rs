//! `end-to-end [FILTER]`: a broker on one core, loads on another, and what each request costs the broker.

use std::process::ExitCode;

use clap::Parser;
use ringlog_benches::drive::{DriveError, Measured, Peer, Rig, RigOptions, Stop, Task};
use ringlog_benches::workloads::{Durability, Figures, Metric, Workload};

/// Measures a Ringlog broker from outside: throughput, latency, CPU, system calls, device bytes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only the workload of that name, or all that have it in their names.
    filter: Option<String>,
    /// Lists the workloads.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    rig: RigOptions,
}

/// Columns of the table of loads.
const COLUMNS: [Metric; 16] = [
    Metric::MbPerSecond,
    Metric::RequestsPerSecond,
    Metric::P50Ms,
    Metric::P99Ms,
    Metric::P999Ms,
    Metric::CpuSecondsPerGb,
    Metric::CpuUsPerRequest,
    Metric::CpuUsPerRecord,
    Metric::SyscallsPerRequest,
    Metric::EntersPerRequest,
    Metric::PuntsPerRequest,
    Metric::DeviceWritesPerByte,
    Metric::DeviceReadsPerByte,
    Metric::SwitchesPerRequest,
    Metric::StagesPercent,
    Metric::GeneratorPercent,
];
const CELL_WIDTH: usize = 12;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("end-to-end: {failed} workloads failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("end-to-end: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything chosen; how many failed.
fn run(arguments: &Arguments) -> Result<usize, DriveError> {
    let chosen = Workload::chosen(arguments.filter.as_deref());
    if arguments.list || chosen.is_empty() {
        for workload in Workload::chosen(None) {
            println!("{:<17} {}", workload.name, workload.what);
        }
        return Ok(usize::from(!arguments.list));
    }
    let rig = Rig::new(&arguments.rig, Stop::on_signals()?)?;
    let (mut failed, mut counted) = (0, true);
    println!("{}", header());
    for workload in chosen {
        let task = Task {
            workload,
            peer: Peer::Ringlog,
            durability: Durability::Flushed,
            counting: true,
        };
        match rig.measure_alone(&task) {
            Ok(measured) => {
                counted &= is_counted(&measured.loaded.figures);
                print_rows(workload, &measured);
            }
            Err(error) if error.is_interrupted() => return Err(error),
            Err(error) => {
                failed += 1;
                println!("{:<17} FAILED: {error}", workload.name);
            }
        }
    }
    if !counted {
        println!(
            "-: system calls were not counted: `perf` is missing, or not allowed to watch the broker"
        );
    }
    Ok(failed)
}

/// A load without counted system calls.
fn is_counted(figures: &Figures) -> bool {
    !figures.contains_key(&Metric::RequestsPerSecond)
        || figures.contains_key(&Metric::SyscallsPerRequest)
}

fn header() -> String {
    let mut line = format!("{:<17}", "workload");
    for metric in COLUMNS {
        line += &format!(" {:>CELL_WIDTH$}", metric.title());
    }
    line
}

fn print_rows(workload: &Workload, measured: &Measured) {
    let figures = &measured.loaded.figures;
    if figures.contains_key(&Metric::RequestsPerSecond) {
        let mut line = format!("{:<17}", workload.name);
        for metric in COLUMNS {
            let cell = figures.get(&metric).map(|value| metric.format(*value));
            line += &format!(" {:>CELL_WIDTH$}", cell.unwrap_or_else(|| "-".to_owned()));
        }
        println!("{line}");
    } else {
        let cells = figures.iter();
        let cells =
            cells.map(|(metric, value)| format!("{} {}", metric.title(), metric.format(*value)));
        let cells: Vec<String> = cells.collect();
        println!("{:<17} {}", workload.name, cells.join(", "));
    }
    for note in &measured.loaded.notes {
        println!("{:<17}   {note}", "");
    }
    if measured.noise.is_noisy() {
        let noise = measured.noise;
        println!(
            "{:<17}   noisy: other programs used {:.0} % of a core, {:.0} % were stolen",
            "", noise.others_percent, noise.stolen_percent
        );
    }
}
