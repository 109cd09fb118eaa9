//! The tables of a sweep's page.
//!
//! Pure. A column that says the same in every row, and may be left out, is: a phone has no room for it.

use super::analysis::{Analysis, Summary};
use super::page::escaped;
use super::words;

/// A column: its heading, whether it holds words rather than numbers, whether it goes when all its cells are the same.
type Column = (&'static str, bool, bool);

/// What stands where there is nothing to say.
const NOTHING: &str = "–";

const POINT_COLUMNS: [Column; 15] = [
    ("target", true, true),
    ("batch", false, false),
    ("linger", false, true),
    ("in flight", false, false),
    ("offered rec/s", false, true),
    ("MB/s", false, false),
    ("records/s", false, false),
    ("requests/s", false, false),
    ("p50 ms", false, false),
    ("p99 ms", false, false),
    ("p99.9 ms", false, false),
    ("max ms", false, false),
    ("spread", false, true),
    ("runs", false, true),
    ("remarks", true, true),
];

/// A table in a box that scrolls by itself.
fn table(id: &str, columns: &[Column], rows: &[Vec<String>]) -> String {
    let shown: Vec<(usize, &Column)> = columns
        .iter()
        .enumerate()
        .filter(|(index, (_, _, optional))| {
            let first = rows.first().and_then(|row| row.get(*index));
            let same = rows.iter().all(|row| row.get(*index) == first);
            !(*optional && same)
        })
        .collect();
    let class = |words: bool| if words { " class=\"t\"" } else { "" };
    let mut text =
        format!("<div class=\"scroll\" tabindex=\"0\">\n<table id=\"{id}\">\n<thead><tr>");
    for (_, (heading, words, _)) in &shown {
        text.push_str(&format!(
            "<th scope=\"col\"{}>{}</th>",
            class(*words),
            escaped(heading)
        ));
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        text.push_str("<tr>");
        for (index, (_, words, _)) in &shown {
            let cell = row.get(*index).map_or("", String::as_str);
            text.push_str(&format!("<td{}>{}</td>", class(*words), escaped(cell)));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody>\n</table>\n</div>\n");
    text
}

/// The knees, if any were looked for.
pub fn knees(analysis: &Analysis) -> String {
    let plan = &analysis.header.plan;
    let Some(limits) = plan.knee.filter(|_| !analysis.knees.is_empty()) else {
        return String::new();
    };
    let mb =
        |rate: u64| words::megabytes_per_second(rate as f64 * plan.fixed.record_bytes as f64 / 1e6);
    let rows = analysis.knees.iter().map(|found| {
        let knee = found.knee;
        vec![
            plan.targets[found.target].name.clone(),
            words::bytes(found.batch_bytes),
            linger(found.linger_us),
            knee.rate.map_or_else(|| "none found".to_owned(), mb),
            knee.rate
                .map_or_else(|| NOTHING.to_owned(), |rate| words::compact(rate as f64)),
            match knee.broke {
                Some((rate, why)) => format!("{}: {}", mb(rate), why.words()),
                None => "not seen: it may do more".to_owned(),
            },
        ]
    });
    let columns = [
        ("target", true, true),
        ("batch", false, false),
        ("linger", false, true),
        ("knee", false, false),
        ("records/s", false, false),
        ("broke at", true, false),
    ];
    format!(
        "<section>\n<h2>Knees</h2>\n<p class=\"lead\">The highest offered rate whose p99 stays at or below {} while at least {} % of it is achieved, by bisection.</p>\n{}</section>\n",
        words::milliseconds(limits.p99_ms_max),
        words::number(limits.achieved_min * 100.0),
        table("knees", &columns, &rows.collect::<Vec<_>>())
    )
}

/// Every point of the grid, and every step of the searches.
pub fn points(analysis: &Analysis) -> String {
    let rows = |searched: bool| -> Vec<Vec<String>> {
        let wanted = analysis.summaries.iter().filter(|s| s.searched == searched);
        wanted.map(|s| point_row(analysis, s)).collect()
    };
    let (grid, steps) = (rows(false), rows(true));
    let mut text = format!(
        "<section>\n<h2>All points</h2>\n<p class=\"lead\">Medians of the repetitions of each point; the spread is how far their throughputs lie apart.</p>\n{}",
        table("points", &POINT_COLUMNS, &grid)
    );
    if !steps.is_empty() {
        text.push_str(&format!(
            "<details>\n<summary>Steps of the searches for the knees: {}</summary>\n{}</details>\n",
            steps.len(),
            table("steps", &POINT_COLUMNS, &steps)
        ));
    }
    text.push_str("</section>\n");
    text
}

/// Runs that failed, if any did.
pub fn failures(analysis: &Analysis) -> String {
    let failed = analysis.measurements.iter().filter_map(|m| {
        let name = analysis.header.plan.targets[m.job.target].name.clone();
        Some(vec![name, m.job.point.to_string(), m.error.clone()?])
    });
    let rows: Vec<Vec<String>> = failed.collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        ("target", true, false),
        ("point", true, false),
        ("why", true, false),
    ];
    format!(
        "<section>\n<h2>Runs that failed</h2>\n{}</section>\n",
        table("failures", &columns, &rows)
    )
}

fn linger(us: Option<u64>) -> String {
    match us {
        None => NOTHING.to_owned(),
        Some(0) => "at once".to_owned(),
        Some(us) => words::micros(us),
    }
}

fn point_row(analysis: &Analysis, summary: &Summary) -> Vec<String> {
    let point = summary.point;
    let rate = point.rate.map(|rate| words::compact(rate as f64));
    let mut cells = vec![
        analysis.header.plan.targets[summary.target].name.clone(),
        words::bytes(point.batch_bytes),
        linger(point.linger_us),
        point.in_flight.to_string(),
        rate.unwrap_or_else(|| "max".to_owned()),
    ];
    let mut remarks = Vec::new();
    match &summary.figures {
        Some(figures) => {
            let latency = &figures.latency_ms;
            cells.extend([
                words::number(figures.mb_per_second),
                words::compact(figures.records_per_second),
                words::compact(figures.requests_per_second),
            ]);
            cells.extend([latency.p50, latency.p99, latency.p999, latency.max].map(words::number));
            if figures.achieved_share() < 0.99 {
                let share = words::number(figures.achieved_share() * 100.0);
                remarks.push(format!("{share} % of the rate achieved"));
            }
            if figures.errors > 0 {
                remarks.push(format!("{} requests failed", figures.errors));
            }
            remarks.extend(figures.invalid.iter().map(|why| format!("invalid: {why}")));
            remarks.extend(figures.note.clone());
        }
        None => cells.extend(std::iter::repeat_n(NOTHING.to_owned(), 7)),
    }
    if !summary.errors.is_empty() {
        remarks.push(format!("failed runs: {}", summary.errors.len()));
    }
    let spread = summary.throughput_range;
    cells.push(spread.map_or_else(
        || NOTHING.to_owned(),
        |share| format!("{:.1} %", share * 100.0),
    ));
    cells.push(summary.runs.to_string());
    cells.push(remarks.join("; "));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::analysis::tests::analysis;

    fn heads(table: &str) -> Vec<&str> {
        let cells = table.split("<th scope=\"col\"").skip(1);
        cells
            .filter_map(|cell| cell.split('>').nth(1)?.split('<').next())
            .collect()
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let one = analysis(&["a"], usize::MAX);
        assert_eq!(
            heads(&knees(&one)),
            ["batch", "knee", "records/s", "broke at"]
        );
        let two = analysis(&["a", "b"], usize::MAX);
        assert_eq!(heads(&knees(&two))[0], "target");
        assert!(!heads(&points(&two)).contains(&"linger"));
    }

    #[test]
    fn every_row_has_every_column() {
        let mut analysis = analysis(&["a", "b"], usize::MAX);
        analysis.summaries[0].figures = None;
        analysis.summaries[0].errors = vec!["refused".to_owned()];
        for summary in &analysis.summaries {
            assert_eq!(point_row(&analysis, summary).len(), POINT_COLUMNS.len());
        }
        assert!(points(&analysis).contains("failed runs: 1"));
    }

    #[test]
    fn failures_are_shown_only_when_there_are_some() {
        let mut analysis = analysis(&["a"], 3);
        assert_eq!(failures(&analysis), "");
        analysis.measurements[1].error = Some("a <b> c".to_owned());
        assert!(failures(&analysis).contains("a &lt;b&gt; c"));
    }
}
