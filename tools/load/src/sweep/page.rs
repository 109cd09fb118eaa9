//! The report: one HTML file that needs nothing else, and what stands beside it.
//!
//! Invariants: the page refers to nothing on a network and runs no script; every text that came from outside (names,
//! command line, errors) is escaped; the data that made it is inside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::analysis::Analysis;
use super::canvas::{self, DrawError, Ink, Marker};
use super::charts::{self, HEIGHT, PNG_HEAD, Section};
use super::recommend::{Recommendation, recommendations};
use super::record::{Header, Measurement};
use super::tables;
use super::words;

const STYLE: &str = include_str!("report.css");
/// The page.
pub const PAGE_FILE: &str = "report.html";
/// The data, as it also stands in the page.
pub const DATA_FILE: &str = "sweep.json";
/// Where the pictures are.
pub const CHARTS_FOLDER: &str = "charts";

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A chart.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data.
    #[error("the data cannot be written: {0}")]
    Data(#[from] serde_json::Error),
}

/// What `sweep.json` holds.
#[derive(Serialize)]
struct Data<'a> {
    complete: bool,
    header: &'a Header,
    recommendations: Vec<String>,
    knees: Vec<serde_json::Value>,
    ratios: Vec<serde_json::Value>,
    throughput_spread: Option<f64>,
    p99_spread: Option<f64>,
    measurements: &'a [Measurement],
}

/// Writes the page, the data and the pictures into a folder that is there. Answers with the page's path.
pub fn write(analysis: &Analysis, folder: &Path) -> Result<PathBuf, PageError> {
    let put = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|source| PageError::Io {
            path: path.to_owned(),
            source,
        })
    };
    let page = folder.join(PAGE_FILE);
    put(&page, &html(analysis)?)?;
    put(&folder.join(DATA_FILE), &data(analysis, true)?)?;
    let pictures = folder.join(CHARTS_FOLDER);
    fs::create_dir_all(&pictures).map_err(|source| PageError::Io {
        path: pictures.clone(),
        source,
    })?;
    for section in charts::sections(analysis) {
        for chart in &section.charts {
            let path = pictures.join(format!("{}.png", chart.file));
            canvas::png(&chart.shapes_alone(&section), HEIGHT + PNG_HEAD, &path)?;
        }
    }
    Ok(page)
}

fn data(analysis: &Analysis, pretty: bool) -> Result<String, PageError> {
    let targets = &analysis.header.plan.targets;
    let sentences = (0..targets.len()).flat_map(|target| {
        let name = &targets[target].name;
        let found = recommendations(analysis, target).into_iter();
        found.map(move |r| format!("{name}: {}", r.sentence()))
    });
    let knees = analysis.knees.iter().map(|found| {
        serde_json::json!({
            "target": targets[found.target].name,
            "batch_bytes": found.batch_bytes,
            "linger_us": found.linger_us,
            "records_per_second": found.knee.rate,
            "broke_at_records_per_second": found.knee.broke.map(|(rate, _)| rate),
            "broke_because": found.knee.broke.map(|(_, why)| why),
        })
    });
    let ratios = analysis.comparisons.iter().map(|comparison| {
        serde_json::json!({
            "target": targets[comparison.target].name,
            "over": targets[0].name,
            "batch_bytes": comparison.batch_bytes,
            "throughput": comparison.throughput,
            "p99": comparison.p99,
        })
    });
    let data = Data {
        complete: analysis.is_complete(),
        header: &analysis.header,
        recommendations: sentences.collect(),
        knees: knees.collect(),
        ratios: ratios.collect(),
        throughput_spread: analysis.throughput_spread,
        p99_spread: analysis.p99_spread,
        measurements: &analysis.measurements,
    };
    let text = match pretty {
        true => serde_json::to_string_pretty(&data)?,
        false => serde_json::to_string(&data)?,
    };
    Ok(text)
}

/// The page as text.
pub fn html(analysis: &Analysis) -> Result<String, PageError> {
    let names: Vec<String> = analysis
        .header
        .plan
        .targets
        .iter()
        .map(|t| escaped(&t.name))
        .collect();
    let title = format!("Sweep of {}", names.join(" and "));
    let mut body = String::new();
    let mut put = |text: &str| body.push_str(text);
    put(&head(analysis, &title));
    put(&advice(analysis));
    for section in charts::sections(analysis) {
        put(&chart_section(&section)?);
    }
    put(&tables::knees(analysis));
    put(&tables::points(analysis));
    put(&tables::failures(analysis));
    put(&method(analysis));
    // A closing tag inside the data would end the element early.
    let data = data(analysis, false)?
        .replace("</", "<\\/")
        .replace("<!--", "<\\u0021--");
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <script type=\"application/json\" id=\"sweep-data\">{data}</script>\n</body>\n</html>\n"
    ))
}

/// Safe inside an element and inside quotes.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

fn head(analysis: &Analysis, title: &str) -> String {
    let header = &analysis.header;
    let mut text = format!(
        "<header>\n<h1>{title}</h1>\n<p class=\"sub\">{} · {} runs of {} each · {} records, acks {}</p>\n",
        words::date(header.started),
        analysis.measurements.len(),
        words::length(Duration::from_millis(header.plan.measure_ms)),
        words::bytes(header.plan.fixed.record_bytes),
        escaped(&header.plan.fixed.acks),
    );
    if !analysis.is_complete() {
        text.push_str(&format!(
            "<p class=\"incomplete\" role=\"note\"><b>Incomplete.</b> The sweep ended early; up to {} runs are missing. \
             <code>ringlog sweep --resume</code> with this folder goes on with it.</p>\n",
            analysis.missing_runs
        ));
    }
    text.push_str("</header>\n");
    text
}

fn advice(analysis: &Analysis) -> String {
    let targets = &analysis.header.plan.targets;
    let mut text = "<section id=\"recommendation\">\n<h2>Recommendation</h2>\n".to_owned();
    for (target, named) in targets.iter().enumerate() {
        if targets.len() > 1 {
            text.push_str(&format!("<h3>{}</h3>\n", escaped(&named.name)));
        }
        text.push_str("<ul class=\"advice\">\n");
        for recommendation in recommendations(analysis, target) {
            text.push_str(&advice_item(&recommendation));
        }
        text.push_str("</ul>\n");
    }
    text.push_str("</section>\n");
    text
}

fn advice_item(recommendation: &Recommendation) -> String {
    let sentence = capital(&recommendation.sentence());
    // The last part of the sentence is what it promises.
    let (Some(detail), Some((words, figure))) =
        (recommendation.detail(), sentence.rsplit_once(": "))
    else {
        return format!(
            "<li class=\"none\"><span>{}</span></li>\n",
            escaped(&sentence)
        );
    };
    format!(
        "<li><span>{}: <b>{}</b></span><small>{}</small></li>\n",
        escaped(words),
        escaped(figure),
        escaped(&detail)
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn chart_section(section: &Section) -> Result<String, PageError> {
    let mut text = format!(
        "<section class=\"charts-section\">\n<h2>{}</h2>\n<p class=\"lead\">{}</p>\n",
        escaped(&section.title),
        escaped(&section.lead)
    );
    if section.legend.len() > 1 {
        text.push_str("<ul class=\"legend\">\n");
        for (number, label) in section.legend.iter().enumerate() {
            text.push_str(&format!("<li>{}{}</li>\n", swatch(number), escaped(label)));
        }
        text.push_str("</ul>\n");
    }
    text.push_str("<div class=\"charts\">\n");
    for chart in &section.charts {
        let title = format!("{}: {}", section.title, chart.title);
        let svg = canvas::svg(&chart.shapes(), HEIGHT, &title)?;
        text.push_str(&format!(
            "<figure><figcaption>{}</figcaption>{svg}</figure>\n",
            escaped(&chart.title)
        ));
    }
    text.push_str("</div>\n</section>\n");
    Ok(text)
}

/// The sign of a series for a legend, the same as on the charts.
fn swatch(number: usize) -> String {
    let inner = match Marker::of_series(number) {
        Marker::Circle | Marker::Ring => "<circle cx=\"7\" cy=\"7\" r=\"5.5\"/>",
        Marker::Square => "<rect x=\"2\" y=\"2\" width=\"10\" height=\"10\"/>",
        Marker::Triangle => "<path d=\"M7 1l6 11.5H1z\"/>",
        Marker::Diamond => "<path d=\"M7 .5L13.5 7 7 13.5.5 7z\"/>",
    };
    format!(
        "<svg viewBox=\"0 0 14 14\" aria-hidden=\"true\" style=\"fill:var({})\">{inner}</svg>",
        Ink::Series(number).variable()
    )
}

/// What was measured with and on, name and value.
fn setting(analysis: &Analysis) -> Vec<(String, String)> {
    let header = &analysis.header;
    let (plan, machine, fixed) = (&header.plan, &header.machine, &header.plan.fixed);
    let mut lines = Vec::new();
    let mut line = |name: &'static str, value: String| lines.push((name.to_owned(), value));
    line(
        "machine",
        format!(
            "{}, {} CPUs, {}",
            machine.cpu,
            machine.cpus,
            words::bytes(machine.memory_bytes)
        ),
    );
    line("system", machine.kernel.clone());
    line("disks", machine.disks.clone());
    line(
        "generator",
        format!(
            "ringlog {}, {} connections, CPUs {}",
            header.version,
            fixed.connections,
            fixed.cores.as_deref().unwrap_or("not pinned")
        ),
    );
    for (target, broker) in plan.targets.iter().zip(&header.brokers) {
        let value = format!("{} – {broker}", target.bootstrap);
        lines.push((target.name.clone(), value));
    }
    lines
}

/// What was sent and how often, name and value.
fn runs(analysis: &Analysis) -> Vec<(String, String)> {
    let plan = &analysis.header.plan;
    let fixed = &plan.fixed;
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    let configs: Vec<String> = fixed
        .topic_configs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    line(
        "topics",
        format!(
            "a new one for each run, {} partitions, replication factor {}{}{}",
            fixed.partitions,
            if fixed.replication_factor < 0 {
                "by default".to_owned()
            } else {
                fixed.replication_factor.to_string()
            },
            if configs.is_empty() { "" } else { ", " },
            configs.join(", ")
        ),
    );
    line(
        "records",
        format!(
            "{} bytes, acks {}, compression {}{}",
            fixed.record_bytes,
            fixed.acks,
            fixed.compression,
            if fixed.idempotent { ", idempotent" } else { "" }
        ),
    );
    line(
        "runs",
        format!(
            "{} warm-up, then {} measured; {} repetitions in alternating order",
            words::length(Duration::from_millis(plan.warmup_ms)),
            words::length(Duration::from_millis(plan.measure_ms)),
            plan.repetitions
        ),
    );
    if let (Some(throughput), Some(p99)) = (analysis.throughput_spread, analysis.p99_spread) {
        line(
            "noise",
            format!(
                "repetitions of one point differ by {:.1} % in throughput and {:.1} % in p99 (median)",
                throughput * 100.0,
                p99 * 100.0
            ),
        );
    }
    lines
}

fn method(analysis: &Analysis) -> String {
    let header = &analysis.header;
    let lines = setting(analysis).into_iter().chain(runs(analysis));
    let lines = lines.filter(|(_, value)| !value.is_empty());
    let mut text = "<section>\n<h2>How it was measured</h2>\n<dl>\n".to_owned();
    for (name, value) in lines {
        text.push_str(&format!(
            "<dt>{}</dt><dd>{}</dd>\n",
            escaped(&name),
            escaped(&value)
        ));
    }
    text.push_str(&format!(
        "<dt>command</dt><dd><code>{}</code></dd>\n</dl>\n\
         <p class=\"foot\">Points without an offered rate are sent as fast as answers come: their latency is that of a full pipeline and does not show what a pause would do to records that should have been sent meanwhile. Points at a rate count from the time each request was due. The data is in this page (element <code>sweep-data</code>), in {DATA_FILE} and as pictures in {CHARTS_FOLDER}.</p>\n</section>\n",
        escaped(&header.command)
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::analysis::tests::analysis;

    #[test]
    fn the_page_needs_nothing_and_holds_everything() {
        let analysis = analysis(&["a", "b"], usize::MAX);
        let page = html(&analysis).unwrap();
        for network in ["http://", "https://", "@import", "url(", "src="] {
            assert!(!page.contains(network), "{network}");
        }
        assert_eq!(page.matches("<figure>").count(), 16);
        let rows = page.matches("<tr>").count();
        let heads = page.matches("<thead>").count();
        assert_eq!(heads, 3);
        assert_eq!(
            rows,
            heads + analysis.summaries.len() + analysis.knees.len()
        );
        for (target, name) in ["a", "b"].iter().enumerate() {
            assert!(page.contains(&format!("<h3>{name}</h3>")));
            for recommendation in recommendations(&analysis, target) {
                let best = recommendation.best.unwrap();
                assert!(page.contains(&format!("use {}: <b>", best.point)));
            }
        }
        assert!(!page.contains("Incomplete"));
    }

    #[test]
    fn names_from_outside_cannot_break_out() {
        let mut analysis = analysis(&["a"], 6);
        let hostile = "</script><script>alert('x')</script>";
        analysis.header.plan.targets[0].name = hostile.to_owned();
        analysis.header.command = hostile.to_owned();
        analysis.measurements[0].error = Some(hostile.to_owned());
        let page = html(&analysis).unwrap();
        assert_eq!(
            page.matches("<script").count() - page.matches("<script>alert").count(),
            1
        );
        let before_data = page.split("<script type").next().unwrap();
        assert!(!before_data.contains("<script"));
        assert_eq!(page.matches("</script>").count(), 1);
    }

    #[test]
    fn an_early_end_is_said_and_the_data_can_be_read_back() {
        let analysis = analysis(&["a"], 6);
        let page = html(&analysis).unwrap();
        assert!(page.contains("Incomplete."));
        let embedded = page.split("id=\"sweep-data\">").nth(1).unwrap();
        let embedded = embedded.split("</script>").next().unwrap();
        let data: serde_json::Value = serde_json::from_str(embedded).unwrap();
        assert_eq!(data["complete"], false);
        assert_eq!(data["measurements"].as_array().unwrap().len(), 6);
        let header: Header = serde_json::from_value(data["header"].clone()).unwrap();
        assert_eq!(header, analysis.header);
    }

    #[test]
    fn a_sweep_without_a_single_run_still_has_a_page() {
        let page = html(&analysis(&["a"], 0)).unwrap();
        assert!(page.contains("nothing met it") && page.contains("Incomplete."));
    }
}
