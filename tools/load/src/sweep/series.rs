//! One line of a chart: its points, those that say nothing about the broker, and the words of each.

use super::analysis::Summary;
use super::record::Figures;
use super::words;

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its number in the section's legend.
    pub number: usize,
    /// Where it goes, in order.
    pub points: Vec<(f64, f64)>,
    /// Points with a ring around them.
    pub ringed: Vec<(f64, f64)>,
    /// Points that say nothing about the broker: shown in grey and joined to nothing.
    pub apart: Vec<(f64, f64)>,
    /// What is said of a point when it is pointed at.
    pub spots: Vec<((f64, f64), String)>,
}

impl Series {
    /// A line of measured points: those that mean something in order, the others apart, each with its words.
    pub(super) fn of<'a>(
        number: usize,
        measured: impl IntoIterator<Item = (&'a Summary, &'a Figures, (f64, f64))>,
    ) -> Series {
        let mut series = Series {
            number,
            points: Vec::new(),
            ringed: Vec::new(),
            apart: Vec::new(),
            spots: Vec::new(),
        };
        for (summary, figures, place) in measured {
            match figures.invalid {
                None => series.points.push(place),
                Some(_) => series.apart.push(place),
            }
            series.spots.push((place, spoken(summary, figures)));
        }
        series
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.apart.is_empty()
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().chain(&self.apart).copied()
    }
}

/// A point in words.
fn spoken(summary: &Summary, figures: &Figures) -> String {
    let latency = &figures.latency_ms;
    let mut text = format!(
        "{}: {}, p50 {}, p99 {}, p99.9 {}",
        summary.point,
        words::megabytes_per_second(figures.mb_per_second),
        words::milliseconds(latency.p50),
        words::milliseconds(latency.p99),
        words::milliseconds(latency.p999)
    );
    if let Some(rate) = summary.point.rate {
        text += &format!(", {} records/s offered", words::compact(rate as f64));
    }
    if let Some(reason) = &figures.invalid {
        text += &format!("; not the broker's: {reason}");
    }
    text
}
