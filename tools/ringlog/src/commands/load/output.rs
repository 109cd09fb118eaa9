//! How reports are printed, and what makes a command fail.

use load::Report;
use load::report::grouped;

use super::args::ReportFormat;
use crate::commands::CommandError;
use crate::commands::table::{print_json, print_table};
use crate::stdio::outln;

/// Prints one report; an error if the load did not go well, so that scripts notice, also when nobody reads the report.
pub fn finish(report: &Report, format: ReportFormat) -> Result<(), CommandError> {
    let printed = match format {
        ReportFormat::Json => print_json(report),
        ReportFormat::Csv => outln!("{}\n{}", Report::csv_header(), report.csv_row()),
        ReportFormat::Text => {
            let rows = report.rows().into_iter();
            let rows = rows.map(|(name, value)| vec![name, value]);
            print_table(&[], rows.collect(), &[])
        }
    };
    outcome(report)?;
    printed
}

/// Prints the reports of a ramp, a line each.
pub fn finish_ramp(reports: &[Report], format: ReportFormat) -> Result<(), CommandError> {
    let printed = match format {
        ReportFormat::Json => print_json(&serde_json::json!({ "steps": reports })),
        ReportFormat::Csv => outln!("{}", Report::csv_header()).and_then(|()| {
            reports
                .iter()
                .try_for_each(|report| outln!("{}", report.csv_row()))
        }),
        ReportFormat::Text => print_ramp(reports),
    };
    reports.iter().try_for_each(outcome)?;
    printed
}

fn print_ramp(reports: &[Report]) -> Result<(), CommandError> {
    let header = [
        "offered/s",
        "achieved/s",
        "ratio",
        "MB/s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "p99.99 ms",
        "max ms",
        "mean ms",
        "lag p99 ms",
        "errors",
        "valid",
    ];
    let row = |report: &Report| {
        let latency = &report.latency_ms;
        let ms = |value: f64| format!("{value:.3}");
        vec![
            grouped(report.offered_records_per_second.unwrap_or(0.0) as u64),
            grouped(report.records_per_second as u64),
            format!("{:.2} %", report.achieved_ratio.unwrap_or(0.0) * 100.0),
            format!("{:.1}", report.mb_per_second),
            ms(latency.p50),
            ms(latency.p90),
            ms(latency.p99),
            ms(latency.p999),
            ms(latency.p9999),
            ms(latency.max),
            ms(latency.mean),
            ms(report.send_lag_ms.as_ref().map_or(0.0, |lag| lag.p99)),
            grouped(report.errors),
            if report.valid { "yes" } else { "no" }.to_owned(),
        ]
    };
    let right: Vec<usize> = (0..header.len()).collect();
    print_table(&header, reports.iter().map(row).collect(), &right)?;
    outln!("open loop: latency counts from the intended time")?;
    for report in reports {
        let offered = grouped(report.offered_records_per_second.unwrap_or(0.0) as u64);
        for reason in report.invalid_reasons.iter().chain(&report.warnings) {
            outln!("{offered}/s: {reason}")?;
        }
    }
    Ok(())
}

/// An error if a load did not go well.
fn outcome(report: &Report) -> Result<(), CommandError> {
    if let Some(fatal) = &report.fatal {
        return Err(CommandError::Failed(format!("given up: {fatal}")));
    }
    if let Some(findings) = report.verification.as_ref().filter(|f| !f.is_clean()) {
        return Err(CommandError::Violated(format!(
            "verification found {} violations",
            findings.violations()
        )));
    }
    if report.errors > 0 {
        return Err(CommandError::Failed(format!(
            "{} requests failed",
            report.errors
        )));
    }
    if report.mode != "consume" && report.requests == 0 {
        return Err(CommandError::Failed(
            "nothing was produced in the measured time".to_owned(),
        ));
    }
    if let Some(findings) = report.verification.as_ref().filter(|f| f.verified == 0) {
        return Err(CommandError::Failed(match findings.records {
            0 => "there was nothing to verify: no record was read".to_owned(),
            records => format!(
                "there was nothing to verify: none of {records} records has a stamp of `load produce --verify`; their \
                 checksums and offsets are right"
            ),
        }));
    }
    if !report.valid {
        return Err(CommandError::Failed(format!(
            "the run is not valid: {}",
            report.invalid_reasons.join("; ")
        )));
    }
    Ok(())
}
