//! The charts of a sweep: what is on them, and where it stands.
//!
//! Pure. Charts that are read against each other (one per quantile, one per target) share their axes. Invariant: what
//! a colour and a sign mean is the same on every chart of a section.

use super::analysis::{Analysis, Comparison, Summary};
use super::axis::Axis;
use super::canvas::{Anchor, Ink, Marker, Place, Shape};
use super::knee::{Broke, Knee};
use super::record::{Figures, Latency};
use super::series::Series;
use super::words;
use crate::statistics::Ratio;

/// Height of a chart on the page, in quarters of a CSS pixel.
pub const HEIGHT: u32 = 1_200;
/// What a PNG has above the chart: its title and legend.
pub const PNG_HEAD: u32 = 260;
/// Heights of words.
const WORDS: f64 = 68.0;
/// The plot's edges.
const LEFT: f64 = 205.0;
const RIGHT: f64 = 1_510.0;
const TOP: f64 = 120.0;
const BOTTOM: f64 = 1_010.0;
/// From the middle of a sign to its edge.
const SIGN: f64 = 19.0;

/// How much larger than its sign is the place where a point can be pointed at.
const SPOT: f64 = 1.6;

/// A rate that broke is drawn up to so many times the limit.
const BEYOND_LIMIT: f64 = 10.0;

/// What a chart shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Lines over two axes.
    Lines {
        /// To the right.
        x: Axis,
        /// Upward.
        y: Axis,
        /// The lines.
        series: Vec<Series>,
        /// A value of `y` that must not be passed, and what it is called.
        limit: Option<(f64, String)>,
    },
    /// Ratios with their intervals, one below the other.
    Ratios {
        /// To the right.
        x: Axis,
        /// What each row is, and its ratio.
        rows: Vec<(String, Option<Ratio>)>,
    },
}

/// One chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Its file's name, without ending.
    pub file: String,
    /// What the axis to the right counts, with its unit.
    pub x_label: String,
    /// What the axis upward counts, with its unit.
    pub y_label: String,
    /// What it shows.
    pub content: Content,
}

/// Charts that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// What to see there.
    pub lead: String,
    /// What each series is, by number.
    pub legend: Vec<String>,
    /// The charts.
    pub charts: Vec<Chart>,
}

type Quantile = (&'static str, &'static str, fn(&Latency) -> f64);

const QUANTILES: [Quantile; 3] = [
    ("p50", "p50", |l| l.p50),
    ("p99", "p99", |l| l.p99),
    ("p99.9", "p999", |l| l.p999),
];

/// Every section that has something to show.
pub fn sections(analysis: &Analysis) -> Vec<Section> {
    let all = [
        throughput_and_latency(analysis),
        rate_and_latency(analysis),
        side_by_side(analysis),
        ratios(analysis),
    ];
    all.into_iter()
        .filter(|section| !section.charts.is_empty())
        .collect()
}

/// Batch size and linger of each line, in the plan's order, with what the legend says.
fn groups(analysis: &Analysis) -> Vec<((u64, Option<u64>), String)> {
    let axes = &analysis.header.plan.axes;
    let mut groups = Vec::new();
    for &batch in &axes.batch_bytes {
        for &linger in &axes.linger_us {
            let label = match linger {
                None => words::bytes(batch),
                Some(0) => format!("{}, at once", words::bytes(batch)),
                Some(micros) => {
                    format!("{}, linger {}", words::bytes(batch), words::micros(micros))
                }
            };
            if !groups.iter().any(|(known, _)| *known == (batch, linger)) {
                groups.push(((batch, linger), label));
            }
        }
    }
    groups
}

fn legend(analysis: &Analysis) -> Vec<String> {
    let labels = groups(analysis).into_iter().map(|(_, label)| label);
    labels.collect()
}

fn answered(summary: &Summary, figures: &Figures) -> bool {
    summary.runs > 0 && figures.requests > 0
}

/// Lines of the grid: throughput to the right, a quantile upward.
fn grid_lines(analysis: &Analysis, target: usize, of: fn(&Latency) -> f64) -> Vec<Series> {
    let lines = groups(analysis)
        .into_iter()
        .enumerate()
        .map(|(number, (group, _))| {
            let grid = analysis.measured(target).filter(|(summary, figures)| {
                let point = summary.point;
                !summary.searched
                    && answered(summary, figures)
                    && (point.batch_bytes, point.linger_us) == group
            });
            let mut ordered: Vec<(&Summary, &Figures)> = grid.collect();
            ordered.sort_by_key(|(s, _)| (s.point.rate.unwrap_or(u64::MAX), s.point.in_flight));
            let placed = ordered
                .into_iter()
                .map(|(s, f)| (s, f, (f.mb_per_second, of(&f.latency_ms))));
            Series::of(number, placed)
        });
    lines.filter(|series| !series.is_empty()).collect()
}

/// Lines of the searches: offered rate to the right, a quantile upward, the knee ringed.
fn knee_lines(analysis: &Analysis, target: usize, of: fn(&Latency) -> f64) -> Vec<Series> {
    let bytes = analysis.header.plan.fixed.record_bytes as f64;
    let lines = groups(analysis)
        .into_iter()
        .enumerate()
        .map(|(number, (group, _))| {
            let found = analysis
                .knees
                .iter()
                .find(|k| k.target == target && (k.batch_bytes, k.linger_us) == group);
            let knee = found.map(|found| found.knee);
            let mut points: Vec<(u64, &Summary, &Figures)> = analysis
                .measured(target)
                .filter(|(s, f)| {
                    answered(s, f) && (s.point.batch_bytes, s.point.linger_us) == group
                })
                .filter(|(s, _)| s.searched || s.point.in_flight == in_flight_max(analysis))
                .filter_map(|(s, f)| {
                    let rate = s.point.rate?;
                    worth_showing(analysis, knee, rate, f).then_some((rate, s, f))
                })
                .collect();
            points.sort_by(|a, b| {
                let latency = of(&a.2.latency_ms).total_cmp(&of(&b.2.latency_ms));
                a.0.cmp(&b.0).then(latency)
            });
            let place = |rate: u64, f: &Figures| (rate as f64 * bytes / 1e6, of(&f.latency_ms));
            let ringed = knee_of_broker(knee);
            let at_knee = points.iter().filter(|(rate, _, f)| {
                f.invalid.is_none() && ringed.is_some_and(|knee| knee == *rate)
            });
            let at_knee = at_knee.map(|(rate, _, f)| place(*rate, f)).take(1);
            Series {
                ringed: at_knee.collect(),
                ..Series::of(
                    number,
                    points.iter().map(|(rate, s, f)| (*s, *f, place(*rate, f))),
                )
            }
        });
    lines.filter(|series| !series.is_empty()).collect()
}

/// The rate of a knee that is the broker's: where the generator could not keep up, the broker's may lie anywhere above.
fn knee_of_broker(knee: Option<Knee>) -> Option<u64> {
    let knee = knee?;
    let is_generators = matches!(knee.broke, Some((_, Broke::Generator)));
    knee.rate.filter(|_| !is_generators)
}

/// Rates up to the one that broke; that one too, unless it is so far off that the rest would shrink to a line.
fn worth_showing(analysis: &Analysis, knee: Option<Knee>, rate: u64, figures: &Figures) -> bool {
    let broke = knee
        .and_then(|k| k.broke)
        .map_or(u64::MAX, |(rate, _)| rate);
    let limit = analysis
        .header
        .plan
        .knee
        .map_or(f64::INFINITY, |k| k.p99_ms_max);
    rate < broke || (rate == broke && figures.latency_ms.p99 <= limit * BEYOND_LIMIT)
}

fn in_flight_max(analysis: &Analysis) -> u64 {
    let values = analysis.header.plan.axes.in_flight.iter();
    values.copied().max().unwrap_or(1)
}

type Lines = fn(&Analysis, usize, fn(&Latency) -> f64) -> Vec<Series>;

/// One chart per target and quantile, all with the same axes.
fn by_quantile(
    analysis: &Analysis,
    lines: Lines,
    file: &str,
    x_label: &str,
    limit: Option<f64>,
) -> Vec<Chart> {
    let targets = &analysis.header.plan.targets;
    let mut drawn = Vec::new();
    for (target, named) in targets.iter().enumerate() {
        for (quantile, short, of) in QUANTILES {
            let title = match targets.len() {
                1 => quantile.to_owned(),
                _ => format!("{} · {quantile}", named.name),
            };
            let file = format!("{file}-{}-{short}", file_word(&named.name));
            let limit = limit.filter(|_| quantile == "p99");
            drawn.push((title, file, quantile, lines(analysis, target, of), limit));
        }
    }
    let places = || {
        drawn
            .iter()
            .flat_map(|d| d.3.iter().flat_map(Series::places))
    };
    if places().next().is_none() {
        return Vec::new();
    }
    let x = Axis::fitting(places().map(|p| p.0));
    let y = Axis::log(places().map(|p| p.1).chain(limit));
    let charts = drawn
        .into_iter()
        .map(|(title, file, quantile, series, limit)| Chart {
            title,
            file,
            x_label: x.labelled(x_label),
            y_label: y.labelled(&format!("{quantile} latency, ms")),
            content: Content::Lines {
                x: x.clone(),
                y: y.clone(),
                series,
                limit: limit.map(|ms| (ms, format!("limit {}", words::milliseconds(ms)))),
            },
        });
    charts.collect()
}

fn throughput_and_latency(analysis: &Analysis) -> Section {
    let plan = &analysis.header.plan;
    let lead = if plan.axes.in_flight.len() > 1 && plan.has_closed_loop() {
        let counts: Vec<String> = plan.axes.in_flight.iter().map(u64::to_string).collect();
        format!(
            "Each line is a batch size; along it {} requests are in flight per connection. Right is more, low is sooner.",
            counts.join(", ")
        )
    } else {
        "Each line is a batch size. Right is more, low is sooner.".to_owned()
    };
    Section {
        title: "Throughput and latency".to_owned(),
        lead,
        legend: legend(analysis),
        charts: by_quantile(analysis, grid_lines, "throughput", "throughput, MB/s", None),
    }
}

fn rate_and_latency(analysis: &Analysis) -> Section {
    let limit = analysis.header.plan.knee.map(|knee| knee.p99_ms_max);
    let lead = match limit {
        Some(ms) => format!(
            "Records are sent on a fixed schedule, and latency counts from the time each was due. A ring marks the knee: the highest rate tried that kept p99 at or below {}; where the generator ended the search there is none, because the broker's lies higher.",
            words::milliseconds(ms)
        ),
        None => {
            "Records are sent on a fixed schedule, and latency counts from the time each was due."
                .to_owned()
        }
    };
    Section {
        title: "Latency against offered rate".to_owned(),
        lead,
        legend: legend(analysis),
        charts: by_quantile(analysis, knee_lines, "rate", "offered rate, MB/s", limit),
    }
}

/// Targets on one chart, a chart per batch size.
fn side_by_side(analysis: &Analysis) -> Section {
    let targets = &analysis.header.plan.targets;
    let mut section = Section {
        title: "Side by side".to_owned(),
        lead: "The same p99 curves with one line per target and one chart per batch size."
            .to_owned(),
        legend: targets.iter().map(|target| target.name.clone()).collect(),
        charts: Vec::new(),
    };
    if targets.len() < 2 {
        return section;
    }
    let lines: Vec<Vec<Series>> = (0..targets.len())
        .map(|target| grid_lines(analysis, target, |latency| latency.p99))
        .collect();
    let places = || lines.iter().flatten().flat_map(Series::places);
    let (x, y) = (
        Axis::fitting(places().map(|p| p.0)),
        Axis::log(places().map(|p| p.1)),
    );
    for (group, (_, label)) in groups(analysis).into_iter().enumerate() {
        let of_group = lines.iter().enumerate().filter_map(|(target, series)| {
            let series = series.iter().find(|s| s.number == group)?;
            Some(Series {
                number: target,
                ..series.clone()
            })
        });
        let series: Vec<Series> = of_group.collect();
        if series.is_empty() {
            continue;
        }
        section.charts.push(Chart {
            file: format!("side-by-side-{}", file_word(&label)),
            title: label,
            x_label: x.labelled("throughput, MB/s"),
            y_label: y.labelled("p99 latency, ms"),
            content: Content::Lines {
                x: x.clone(),
                y: y.clone(),
                series,
                limit: None,
            },
        });
    }
    section
}

fn ratios(analysis: &Analysis) -> Section {
    let targets = &analysis.header.plan.targets;
    let mut section = Section {
        title: "Ratios".to_owned(),
        lead: "Median over pairs of runs that followed each other, with its 95 % bootstrap interval. Grey shows no difference: the interval crosses 1, or there are fewer than six pairs.".to_owned(),
        legend: Vec::new(),
        charts: Vec::new(),
    };
    type Part = (
        &'static str,
        &'static str,
        &'static str,
        fn(&Comparison) -> Option<Ratio>,
    );
    let parts: [Part; 2] = [
        ("throughput", "ratio-throughput", "more is better", |c| {
            c.throughput
        }),
        ("p99", "ratio-p99", "less is better", |c| c.p99),
    ];
    for (target, named) in targets.iter().enumerate().skip(1) {
        for (what, file, better, of) in parts {
            let compared = analysis.comparisons.iter().filter(|c| c.target == target);
            let rows: Vec<(String, Option<Ratio>)> = compared
                .map(|c| {
                    (
                        c.batch_bytes.map_or_else(|| "all".to_owned(), words::bytes),
                        of(c),
                    )
                })
                .collect();
            let values: Vec<f64> = rows
                .iter()
                .filter_map(|r| r.1)
                .flat_map(|r| [r.low, r.high])
                .collect();
            if values.is_empty() {
                continue;
            }
            section.charts.push(Chart {
                title: format!("{what}: {} over {}", named.name, targets[0].name),
                file: format!("{file}-{}", file_word(&named.name)),
                x_label: format!("ratio, {better}"),
                y_label: "batch".to_owned(),
                content: Content::Ratios {
                    x: Axis::log(values.into_iter().chain([0.8, 1.25])),
                    rows,
                },
            });
        }
    }
    section
}

/// Letters, digits and dashes of a name.
fn file_word(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty());
    words.collect::<Vec<&str>>().join("-")
}

impl Chart {
    /// As shapes on `HEIGHT`.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes = Vec::new();
        match &self.content {
            Content::Lines {
                x,
                y,
                series,
                limit,
            } => {
                self.frame(x, LEFT, RIGHT, &mut shapes);
                upward(y, &mut shapes);
                let place = |&(right, up): &(f64, f64)| -> Place {
                    (right_of(x, right, LEFT, RIGHT), height_of(y, up))
                };
                if let Some((value, name)) = limit {
                    limit_line(height_of(y, *value), name, &mut shapes);
                }
                for line in series {
                    line_shapes(line, &place, &mut shapes);
                }
            }
            Content::Ratios { x, rows } => {
                let (left, right) = (LEFT + 70.0, RIGHT - 130.0);
                self.frame(x, left, right, &mut shapes);
                ratio_shapes(x, rows, left, right, &mut shapes);
            }
        }
        shapes
    }

    /// As shapes on `HEIGHT + PNG_HEAD`, with title and legend, for a picture that stands alone.
    pub fn shapes_alone(&self, section: &Section) -> Vec<Shape> {
        let mut shapes = vec![words_at(
            &format!("{}: {}", section.title, self.title),
            (60.0, 80.0),
            Anchor::Start,
            Ink::Text,
            WORDS * 1.25,
        )];
        // Two rows hold what fits; a legend is at most a few words per entry.
        let columns = 4;
        for (number, label) in section.legend.iter().enumerate().take(2 * columns) {
            let left = 80.0 + (number % columns) as f64 * 380.0;
            let down = 165.0 + (number / columns) as f64 * 75.0;
            shapes.push(sign(number, (left, down)));
            shapes.push(words_at(
                label,
                (left + 40.0, down),
                Anchor::Start,
                Ink::Muted,
                WORDS * 0.9,
            ));
        }
        let lowered = self
            .shapes()
            .into_iter()
            .map(|shape| lowered(shape, f64::from(PNG_HEAD)));
        shapes.extend(lowered);
        shapes
    }

    /// The axis to the right with its marks, and what both axes count.
    fn frame(&self, x: &Axis, left: f64, right: f64, shapes: &mut Vec<Shape>) {
        let vertical = matches!(self.content, Content::Ratios { .. });
        for &tick in x.ticks() {
            let at = right_of(x, tick, left, right);
            if vertical {
                let (ink, width) = if tick == 1.0 {
                    (Ink::Axis, 6)
                } else {
                    (Ink::Grid, 4)
                };
                shapes.push(line(vec![(at, TOP), (at, BOTTOM)], ink, width));
            } else {
                shapes.push(line(vec![(at, BOTTOM), (at, BOTTOM + 16.0)], Ink::Axis, 4));
            }
            shapes.push(words_at(
                &words::compact(tick),
                (at, BOTTOM + 60.0),
                Anchor::Middle,
                Ink::Muted,
                WORDS,
            ));
        }
        let middle = (left + right) / 2.0;
        shapes.push(words_at(
            &self.x_label,
            (middle, BOTTOM + 140.0),
            Anchor::Middle,
            Ink::Text,
            WORDS,
        ));
        shapes.push(words_at(
            &self.y_label,
            (20.0, 50.0),
            Anchor::Start,
            Ink::Text,
            WORDS,
        ));
    }
}

/// The axis upward, whose marks are lines across.
fn upward(y: &Axis, shapes: &mut Vec<Shape>) {
    for &tick in y.ticks() {
        let at = height_of(y, tick);
        shapes.push(line(vec![(LEFT, at), (RIGHT, at)], Ink::Grid, 4));
        shapes.push(words_at(
            &words::compact(tick),
            (LEFT - 24.0, at),
            Anchor::End,
            Ink::Muted,
            WORDS,
        ));
    }
    shapes.push(line(vec![(LEFT, BOTTOM), (RIGHT, BOTTOM)], Ink::Axis, 4));
}

fn limit_line(at: f64, name: &str, shapes: &mut Vec<Shape>) {
    shapes.push(Shape::Line {
        places: vec![(LEFT, at), (RIGHT, at)],
        ink: Ink::Limit,
        width: 5,
        dashed: true,
    });
    // In the corner above the chart, where no line can run through it.
    shapes.push(words_at(
        name,
        (RIGHT, 50.0),
        Anchor::End,
        Ink::Limit,
        WORDS,
    ));
}

fn line_shapes(series: &Series, place: &impl Fn(&(f64, f64)) -> Place, shapes: &mut Vec<Shape>) {
    let places: Vec<Place> = series.points.iter().map(place).collect();
    if places.len() > 1 {
        shapes.push(line(places.clone(), Ink::Series(series.number), 9));
    }
    shapes.extend(places.into_iter().map(|at| sign(series.number, at)));
    shapes.extend(series.apart.iter().map(|point| Shape::Sign {
        at: place(point),
        marker: Marker::of_series(series.number),
        ink: Ink::Axis,
        radius: SIGN,
    }));
    shapes.extend(series.ringed.iter().map(|point| Shape::Sign {
        at: place(point),
        marker: Marker::Ring,
        ink: Ink::Series(series.number),
        radius: SIGN * 2.1,
    }));
    shapes.extend(series.spots.iter().map(|(point, text)| Shape::Spot {
        at: place(point),
        radius: SIGN * SPOT,
        text: text.clone(),
    }));
}

fn ratio_shapes(
    x: &Axis,
    rows: &[(String, Option<Ratio>)],
    left: f64,
    right: f64,
    shapes: &mut Vec<Shape>,
) {
    let step = (BOTTOM - TOP) / rows.len().max(1) as f64;
    // Many rows need smaller words.
    let size = WORDS.min(step * 0.8);
    for (row, (name, ratio)) in rows.iter().enumerate() {
        let down = TOP + (row as f64 + 0.5) * step;
        let ink = if name == "all" { Ink::Text } else { Ink::Muted };
        shapes.push(words_at(name, (left - 24.0, down), Anchor::End, ink, size));
        let Some(ratio) = ratio else {
            continue;
        };
        let series = if ratio.is_distinct() {
            Ink::Series(0)
        } else {
            Ink::Muted
        };
        let at = |value: f64| right_of(x, value, left, right);
        shapes.push(line(
            vec![(at(ratio.low), down), (at(ratio.high), down)],
            series,
            14,
        ));
        shapes.push(Shape::Sign {
            at: (at(ratio.median), down),
            marker: Marker::Diamond,
            ink: series,
            radius: SIGN * 1.2,
        });
        let value = words::number((ratio.median * 100.0).round() / 100.0);
        shapes.push(words_at(
            &value,
            (RIGHT + 60.0, down),
            Anchor::End,
            ink,
            size,
        ));
    }
}

fn sign(number: usize, at: Place) -> Shape {
    Shape::Sign {
        at,
        marker: Marker::of_series(number),
        ink: Ink::Series(number),
        radius: SIGN,
    }
}

fn line(places: Vec<Place>, ink: Ink, width: u32) -> Shape {
    Shape::Line {
        places,
        ink,
        width,
        dashed: false,
    }
}

fn words_at(text: &str, at: Place, anchor: Anchor, ink: Ink, size: f64) -> Shape {
    Shape::Words {
        text: text.to_owned(),
        at,
        anchor,
        ink,
        size,
    }
}

fn right_of(axis: &Axis, value: f64, left: f64, right: f64) -> f64 {
    left + axis.place(value) * (right - left)
}

fn height_of(axis: &Axis, value: f64) -> f64 {
    BOTTOM - axis.place(value) * (BOTTOM - TOP)
}

fn lowered(shape: Shape, by: f64) -> Shape {
    let down = |(right, height): Place| (right, height + by);
    match shape {
        Shape::Line {
            places,
            ink,
            width,
            dashed,
        } => Shape::Line {
            places: places.into_iter().map(down).collect(),
            ink,
            width,
            dashed,
        },
        Shape::Sign {
            at,
            marker,
            ink,
            radius,
        } => Shape::Sign {
            at: down(at),
            marker,
            ink,
            radius,
        },
        Shape::Words {
            text,
            at,
            anchor,
            ink,
            size,
        } => Shape::Words {
            text,
            at: down(at),
            anchor,
            ink,
            size,
        },
        Shape::Box { from, to, ink } => Shape::Box {
            from: down(from),
            to: down(to),
            ink,
        },
        Shape::Spot { at, radius, text } => Shape::Spot {
            at: down(at),
            radius,
            text,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::analysis::tests::analysis;
    use crate::sweep::canvas::WIDTH;

    #[test]
    fn one_target_has_two_sections_and_more_targets_four() {
        let one = sections(&analysis(&["a"], usize::MAX));
        assert_eq!(one.len(), 2);
        assert!(
            one.iter()
                .all(|s| s.charts.len() == 3 && s.legend.len() == 2)
        );
        let two = sections(&analysis(&["a", "b"], usize::MAX));
        let counts: Vec<usize> = two.iter().map(|s| s.charts.len()).collect();
        assert_eq!(counts, [6, 6, 2, 2]);
        let mut files: Vec<&str> = two
            .iter()
            .flat_map(|s| &s.charts)
            .map(|c| c.file.as_str())
            .collect();
        files.sort_unstable();
        files.dedup();
        assert_eq!(files.len(), 16, "two charts have one file name");
    }

    #[test]
    fn every_knee_is_ringed_and_its_line_ends_behind_it() {
        let analysis = analysis(&["a"], usize::MAX);
        let rate = &sections(&analysis)[1];
        for chart in &rate.charts {
            let Content::Lines { series, limit, .. } = &chart.content else {
                panic!("not lines");
            };
            assert_eq!(series.len(), 2);
            assert_eq!(limit.is_some(), chart.title == "p99");
            for line in series {
                assert_eq!(line.ringed.len(), 1);
                let behind = line.points.iter().filter(|p| p.0 > line.ringed[0].0);
                assert_eq!(behind.count(), 1);
            }
        }
    }

    #[test]
    fn what_is_not_the_brokers_is_grey_says_why_and_has_no_ring() {
        let mut analysis = analysis(&["a"], usize::MAX);
        let late = analysis
            .summaries
            .iter_mut()
            .find(|summary| !summary.searched);
        let figures = late.and_then(|summary| summary.figures.as_mut());
        figures.unwrap().invalid = Some("the generator fell behind".to_owned());
        let before = sections(&analysis)[1].charts[0].clone();
        for found in &mut analysis.knees {
            let (rate, _) = found.knee.broke.unwrap();
            found.knee.broke = Some((rate, Broke::Generator));
        }
        let sections = sections(&analysis);
        let lines = |chart: &Chart| match &chart.content {
            Content::Lines { series, .. } => series.clone(),
            Content::Ratios { .. } => panic!("not lines"),
        };
        let grid = lines(&sections[0].charts[0]);
        let apart: Vec<_> = grid.iter().flat_map(|s| s.apart.clone()).collect();
        assert_eq!(apart.len(), 1);
        let said = grid
            .iter()
            .flat_map(|s| &s.spots)
            .find(|(at, _)| *at == apart[0]);
        assert!(
            said.unwrap()
                .1
                .ends_with("not the broker's: the generator fell behind")
        );
        let grey = sections[0].charts[0].shapes();
        let is_grey = |shape: &&Shape| matches!(shape, Shape::Sign { ink: Ink::Axis, .. });
        assert_eq!(grey.iter().filter(is_grey).count(), 1);
        assert!(lines(&before).iter().all(|line| line.ringed.len() == 1));
        assert!(
            lines(&sections[1].charts[0])
                .iter()
                .all(|line| line.ringed.is_empty())
        );
        // Every point has its words, and axes say what they are.
        assert!(
            grid.iter()
                .all(|s| s.spots.len() == s.points.len() + s.apart.len())
        );
        assert!(sections[0].charts[0].y_label.ends_with("ms (log)"));
    }

    #[test]
    fn everything_stands_on_the_picture() {
        let inside = |(right, down): &Place, height: f64| {
            (0.0..=f64::from(WIDTH)).contains(right) && (0.0..=height).contains(down)
        };
        for section in sections(&analysis(&["a", "b", "c"], usize::MAX)) {
            for chart in &section.charts {
                let height = f64::from(HEIGHT + PNG_HEAD);
                for shape in chart.shapes_alone(&section) {
                    let fits = match &shape {
                        Shape::Line { places, .. } => places.iter().all(|p| inside(p, height)),
                        Shape::Sign { at, .. }
                        | Shape::Words { at, .. }
                        | Shape::Spot { at, .. } => inside(at, height),
                        Shape::Box { from, to, .. } => inside(from, height) && inside(to, height),
                    };
                    assert!(fits, "{}: {shape:?}", chart.title);
                }
            }
        }
    }

    #[test]
    fn nothing_measured_draws_nothing() {
        assert!(sections(&analysis(&["a", "b"], 0)).is_empty());
        assert_eq!(sections(&analysis(&["a", "b"], 1)).len(), 2);
    }
}
