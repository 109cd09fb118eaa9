//! An overview as plain aligned text, and the pieces that the screen shows, too.

use std::fmt::Write as _;

use console::overview::{Api, Stage, Topic};
use console::{Overview, Replication};

use super::units::{age, bytes, count, known, nanos, percent};

/// Topics in the text.
const TOPICS_SHOWN: usize = 20;

/// Columns of a bar of 100 %.
const BAR_WIDTH: usize = 30;

/// Lines of a label and a sentence that say most of it.
pub fn summary(overview: &Overview) -> Vec<(&'static str, String)> {
    let flow = &overview.produced;
    let (device, groups) = (&overview.device, &overview.groups);
    let batch = match (flow.records_per_batch, flow.bytes_per_batch) {
        (Some(records), Some(size)) => {
            format!("  ({} records, {} each)", count(records), bytes(size))
        }
        _ => String::new(),
    };
    let per_produced = device.write_bytes_per_produced;
    let mut summary = vec![
        (
            "in",
            format!(
                "{}/s  {} records/s  {} batches/s{batch}",
                bytes(flow.bytes),
                count(flow.records),
                count(flow.batches),
            ),
        ),
        (
            "out",
            format!(
                "{}  reads from memory of recent batches {}  cache hits {}",
                known(overview.fetched_bytes, |rate| format!("{}/s", bytes(rate))),
                known(overview.tail_read_share, percent),
                known(overview.cache_hit_rate, percent)
            ),
        ),
        (
            "groups",
            format!(
                "{}/s  p50 {} / {} batches  p99 {} / {}",
                count(groups.rate),
                bytes(groups.bytes.p50 as f64),
                count(groups.batches.p50 as f64),
                bytes(groups.bytes.p99 as f64),
                count(groups.batches.p99 as f64),
            ),
        ),
        (
            "device",
            format!(
                "{} written  {} per byte in  {} flushes  {} read",
                known(device.write_bytes, |rate| format!("{}/s", bytes(rate))),
                known(per_produced, |ratio| format!("{ratio:.2}")),
                known(device.flushes, |rate| format!("{}/s", count(rate))),
                known(device.read_bytes, |rate| format!("{}/s", bytes(rate))),
            ),
        ),
        ("clients", clients(overview)),
        ("broker", broker(overview)),
    ];
    summary.extend(
        overview
            .replication
            .as_ref()
            .map(|it| ("cluster", cluster(it))),
    );
    summary
}

fn cluster(replication: &Replication) -> String {
    let mut line = format!(
        "broker {}  leads {} of {} replicas  {} under-replicated  lag {}",
        replication.broker_id.as_deref().unwrap_or("?"),
        count(replication.leads),
        count(replication.replicas),
        count(replication.under_replicated),
        count(replication.follower_lag),
    );
    if let Some(controlled) = &replication.controller {
        push(
            &mut line,
            &format!(
                "  controller of {} brokers, {} fenced  {} of {} partitions offline",
                count(controlled.brokers),
                count(controlled.fenced),
                count(controlled.offline),
                count(controlled.partitions),
            ),
        );
    }
    line
}

/// A sentence in lines of so many columns at most, broken where two blanks are; a piece that is longer stays whole.
pub fn wrapped(sentence: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in sentence.split("  ") {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + piece.chars().count() <= width => {
                line.push_str("  ");
                line.push_str(piece);
            }
            _ => lines.push(piece.to_owned()),
        }
    }
    lines
}

/// A text in so many columns at most: what is left out is an ellipsis in the middle, since names differ at their ends.
pub fn shortened(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let begin: String = text.chars().take(kept.div_ceil(2)).collect();
    let end: String = text.chars().skip(count - kept / 2).collect();
    match width {
        0 => String::new(),
        _ => format!("{begin}…{end}"),
    }
}

fn clients(overview: &Overview) -> String {
    let connections = &overview.connections;
    let refused = connections.refused.filter(|refused| *refused > 0.0);
    let mut line = format!(
        "{} connections  {}/s new  {} requests/s",
        known(connections.open, count),
        known(connections.accepted, count),
        known(overview.requests, count),
    );
    if let Some(refused) = refused {
        push(&mut line, &format!("  {}/s refused", count(refused)));
    }
    if let Some((error, rate)) = overview.errors.first() {
        push(&mut line, &format!("  {}/s {error}", count(*rate)));
    }
    line
}

fn broker(overview: &Overview) -> String {
    let (health, process) = (&overview.health, &overview.process);
    let mut line = format!(
        "{} CPUs  {}  {} stalls",
        known(process.cpus, |cpus| format!("{cpus:.2}")),
        known(process.resident_bytes, bytes),
        known(health.stalls.map(|stalls| stalls as f64), count),
    );
    if let Some(longest) = health.longest_stall.filter(|longest| *longest > 0) {
        push(&mut line, &format!(" (longest {})", nanos(longest as f64)));
    }
    push(
        &mut line,
        &format!(
            "  mailboxes {}  waiting {}",
            known(health.mailbox_depth, count),
            known(health.purgatory, count)
        ),
    );
    line
}

fn push(line: &mut String, more: &str) {
    line.push_str(more);
}

/// What is wrong, if something is.
pub fn alarms(overview: &Overview) -> Vec<String> {
    let mut alarms = Vec::new();
    if !overview.silent_shards.is_empty() {
        let shards: Vec<String> = overview.silent_shards.iter().map(u16::to_string).collect();
        alarms.push(format!("no answer from shard {}", shards.join(", ")));
    }
    if overview
        .health
        .fenced_shards
        .is_some_and(|count| count > 0.0)
    {
        alarms.push("a write failed: a shard acknowledges nothing until a restart".to_owned());
    }
    if let Some(replication) = &overview.replication {
        let refused = replication.under_min_isr;
        if refused > 0.0 {
            alarms.push(format!(
                "{} partitions refuse acks=all: too few replicas are in sync",
                count(refused)
            ));
        }
        let offline = replication.controller.map_or(0.0, |it| it.offline);
        if offline > 0.0 {
            alarms.push(format!("{} partitions have no leader", count(offline)));
        }
    }
    alarms
}

/// Who is shown.
pub fn title(overview: &Overview, address: &str) -> String {
    let address = address.strip_prefix("http://").unwrap_or(address);
    format!(
        "ringlog {}  {address}  up {}  {} of {} shards",
        overview.version,
        age(overview.uptime_seconds),
        overview.shards - overview.silent_shards.len().min(overview.shards),
        overview.shards,
    )
}

/// Header of [`api_row`].
pub const API_HEADER: [&str; 7] = ["API", "REQ/S", "MEAN", "P50", "P99", "P99.9", "MAX"];

/// An API in columns.
pub fn api_row(api: &Api) -> [String; 7] {
    [
        api.name.clone(),
        count(api.requests),
        nanos(api.time.mean),
        nanos(api.time.p50 as f64),
        nanos(api.time.p99 as f64),
        nanos(api.time.p999 as f64),
        nanos(api.time.max as f64),
    ]
}

/// Header of [`stage_row`].
pub const STAGE_HEADER: [&str; 4] = ["STAGE", "SHARE", "P50", "P99"];

/// A stage in columns.
pub fn stage_row(stage: &Stage) -> [String; 4] {
    [
        stage.name.clone(),
        percent(stage.share),
        nanos(stage.time.p50 as f64),
        nanos(stage.time.p99 as f64),
    ]
}

/// A share of `width` columns, filled from the left in eighths.
pub fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(EIGHTHS[eighths % 8]);
    bar
}

/// Header of [`topic_row`].
pub const TOPIC_HEADER: [&str; 5] = ["TOPIC", "BYTES/S", "RECORDS/S", "REC/BATCH", "BATCH"];

/// A topic in columns.
pub fn topic_row(topic: &Topic) -> [String; 5] {
    let flow = &topic.produced;
    [
        topic.name.clone(),
        bytes(flow.bytes),
        count(flow.records),
        known(flow.records_per_batch, count),
        known(flow.bytes_per_batch, bytes),
    ]
}

/// The whole overview.
pub fn render(overview: &Overview, address: &str) -> String {
    let mut out = String::new();
    line(&mut out, &title(overview, address));
    for alarm in alarms(overview) {
        line(&mut out, &format!("ALARM: {alarm}"));
    }
    line(&mut out, &format!("over {:.1} s\n", overview.seconds));
    for (label, sentence) in summary(overview) {
        line(&mut out, &format!("{label:<8} {sentence}"));
    }
    line(&mut out, "");
    let gauges = overview.occupancy.iter().map(|gauge| {
        [
            gauge.name.to_owned(),
            percent(gauge.ratio()),
            bytes(gauge.used),
            bytes(gauge.capacity),
        ]
    });
    columns(
        &mut out,
        ["LIMIT", "USED", "BYTES", "OF"],
        gauges.collect(),
        &[],
    );
    columns(
        &mut out,
        API_HEADER,
        overview.apis.iter().map(api_row).collect(),
        &[],
    );
    for api in overview.apis.iter().filter(|api| !api.stages.is_empty()) {
        line(&mut out, &format!("stages of {}", api.name));
        let rows = api.stages.iter().map(stage_row).collect();
        let bars: Vec<String> = api.stages.iter().map(|s| bar(s.share, BAR_WIDTH)).collect();
        columns(&mut out, STAGE_HEADER, rows, &bars);
    }
    let topics = overview.topics.iter().take(TOPICS_SHOWN);
    columns(&mut out, TOPIC_HEADER, topics.map(topic_row).collect(), &[]);
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

/// Rows under a header, the first column to the left, the others to the right, with something more at the end of each.
pub fn columns<const N: usize>(
    out: &mut String,
    header: [&str; N],
    rows: Vec<[String; N]>,
    ends: &[String],
) {
    if rows.is_empty() {
        return;
    }
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([header[column].chars().count()])
            .max()
            .unwrap_or(0)
    });
    let header = header.map(str::to_owned);
    let no_end = String::new();
    let ends = std::iter::once(&no_end).chain(ends.iter().chain(std::iter::repeat(&no_end)));
    for (row, end) in std::iter::once(&header).chain(&rows).zip(ends) {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        line(out, format!("{}  {end}", cells.join("  ")).trim_end());
    }
    line(out, "");
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a string takes any text");
}
