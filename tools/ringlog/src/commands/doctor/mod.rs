//! `ringlog doctor`: whether this machine is one that a broker runs well on, and what to change.
//!
//! What is found out with system calls is gathered here and in `disk.rs`; what it means is decided in `checks.rs`.

mod checks;
mod disk;
mod finding;
mod mounts;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::CommandError;
use super::broker::BrokerArgs;
use super::table::{Format, print_json};
use crate::memory::descriptor_limit;
use crate::node;
use crate::stdio::outln;
use checks::{CHECKS, Patient};
use finding::{Finding, Verdict};

/// Arguments of `ringlog doctor`: those of the broker that is to run here.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Do not write to the data directory: direct I/O and the time of a flush stay unknown
    #[arg(long)]
    no_writes: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What was found, as JSON.
#[derive(Serialize)]
struct Report {
    verdict: Verdict,
    findings: Vec<Finding>,
}

/// Runs the command.
pub fn run(args: DoctorArgs) -> Result<(), CommandError> {
    let config = args.broker.to_config()?;
    let cpus = node::cpus(&config).map_err(CommandError::Node)?;
    let directory = PathBuf::from(&config.data_dir);
    let patient = Patient {
        read: &|path: &Path| std::fs::read_to_string(path).ok(),
        locked: uring::locked_plan(cpus.len(), &uring::UringOptions::default()),
        cpus,
        allowed_cpus: uring::allowed_cpus()?,
        locked_limit: uring::locked_limit()?,
        descriptor_limit: descriptor_limit(),
        disk: disk::examine(&directory, !args.no_writes)
            .map_err(|error| CommandError::io(directory.display().to_string(), error))?,
        config: &config,
    };
    let findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&patient)).collect();
    let worst = findings.iter().map(|finding| finding.verdict).max();
    let report = Report {
        verdict: worst.unwrap_or(Verdict::Good),
        findings,
    };
    match args.format {
        Format::Json => print_json(&report)?,
        Format::Text => print(&report)?,
    }
    match report.verdict {
        Verdict::Bad => Err(CommandError::Failed(
            "a broker does not run here, or not safely: see what is marked bad".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn print(report: &Report) -> Result<(), CommandError> {
    for finding in &report.findings {
        outln!("{finding}")?;
    }
    let count = |verdict| {
        let findings = report.findings.iter();
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    outln!(
        "{} good, {} to know, {} to change, {} bad",
        count(Verdict::Good),
        count(Verdict::Note),
        count(Verdict::Change),
        count(Verdict::Bad)
    )
}
