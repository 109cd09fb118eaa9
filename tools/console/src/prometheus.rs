//! A [`Document`] as Prometheus text, format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
//!
//! Base units: durations in seconds, sizes in bytes. Histograms have the same bounds at every scrape, powers of two of
//! their raw unit, because a bound that appears later would hide what it counted before. Histograms without values are
//! left out.

use std::fmt::Write as _;

use runtime::HistogramSnapshot;

use crate::document::{Document, Family, Kind, Number, Series, Unit, Value};

/// The content type of this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of durations: 2^10 ns (1 us) to 2^35 ns (34 s).
const SECONDS_BITS: std::ops::RangeInclusive<u32> = 10..=35;

/// Bounds of sizes and counts: 1 to 2^30.
const COUNT_BITS: std::ops::RangeInclusive<u32> = 0..=30;

/// Nanoseconds per second.
const NANOS: f64 = 1e9;

/// The text.
pub fn render(document: &Document) -> String {
    let series: usize = document.families.iter().map(|f| f.series.len()).sum();
    let mut out = String::with_capacity(4096 + series * 96);
    for family in &document.families {
        render_family(&mut out, family);
    }
    out
}

fn render_family(out: &mut String, family: &Family) {
    let mut shown = family.series.iter().filter(|series| !is_empty(series));
    let Some(first) = shown.next() else {
        return;
    };
    let name = family.name.as_str();
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let help = escape_help(&family.help);
    push(
        out,
        format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
    );
    for series in std::iter::once(first).chain(shown) {
        let labels = labels(series);
        match &series.value {
            Value::Number(value) => sample(out, name, &labels, *value),
            Value::Histogram(histogram) => {
                render_histogram(out, name, &labels, family.unit, &histogram.0);
            }
        }
    }
}

fn is_empty(series: &Series) -> bool {
    matches!(&series.value, Value::Histogram(histogram) if histogram.0.count() == 0)
}

fn render_histogram(
    out: &mut String,
    name: &str,
    labels: &str,
    unit: Unit,
    histogram: &HistogramSnapshot,
) {
    let (bits, scale) = match unit {
        Unit::Seconds => (SECONDS_BITS, NANOS),
        Unit::Bytes | Unit::Count => (COUNT_BITS, 1.0),
    };
    let comma = if labels.is_empty() { "" } else { "," };
    let mut within = histogram.cumulative_at_powers_of_two().peekable();
    let mut count = 0;
    for bits in bits {
        let bound = 1u64 << bits;
        // Past the largest value the iterator ends, and the last count it gave stands.
        while let Some((_, cumulative)) = within.next_if(|(upper, _)| *upper <= bound) {
            count = cumulative;
        }
        let le = bound as f64 / scale;
        push(
            out,
            format_args!("{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}\n"),
        );
    }
    let total = histogram.count();
    push(
        out,
        format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}\n"),
    );
    let sum = match unit {
        Unit::Seconds => Number::Real(histogram.sum_nanos() as f64 / NANOS),
        Unit::Bytes | Unit::Count => Number::Whole(histogram.sum_nanos()),
    };
    sample(out, &format!("{name}_sum"), labels, sum);
    sample(out, &format!("{name}_count"), labels, Number::Whole(total));
}

fn sample(out: &mut String, name: &str, labels: &str, value: Number) {
    let (open, close) = if labels.is_empty() {
        ("", "")
    } else {
        ("{", "}")
    };
    match value {
        Number::Whole(value) => push(out, format_args!("{name}{open}{labels}{close} {value}\n")),
        Number::Real(value) => push(out, format_args!("{name}{open}{labels}{close} {value}\n")),
    }
}

fn labels(series: &Series) -> String {
    let mut out = String::new();
    if let Some(shard) = series.shard {
        push(&mut out, format_args!("shard=\"{shard}\""));
    }
    for (name, value) in &series.labels {
        let comma = if out.is_empty() { "" } else { "," };
        push(
            &mut out,
            format_args!("{comma}{name}=\"{}\"", escape_label(value)),
        );
    }
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}

fn escape_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn escape_label(text: &str) -> String {
    escape_help(text).replace('"', "\\\"")
}
