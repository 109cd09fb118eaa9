//! Two sweeps beside each other: what has changed at the points that both have measured.
//!
//! Pure. A difference that is smaller than what repetitions of one point lay apart is no difference.

use super::analysis::Summary;
use super::plan::Point;
use super::record::Figures;

/// One point of two sweeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Which target, by its name in both.
    pub target: String,
    /// What was run.
    pub point: Point,
    /// Throughput before and after, in MB/s.
    pub mb_per_second: (f64, f64),
    /// p99 before and after, in milliseconds.
    pub p99_ms: (f64, f64),
    /// How far the throughput of repetitions lay apart, the larger of both sweeps; `None` with one repetition each.
    pub range: Option<f64>,
}

impl Compared {
    /// Throughput after over before.
    pub fn throughput_ratio(&self) -> f64 {
        self.mb_per_second.1 / self.mb_per_second.0
    }

    /// p99 after over before.
    pub fn p99_ratio(&self) -> f64 {
        self.p99_ms.1 / self.p99_ms.0
    }

    /// Whether the throughput differs by more than repetitions do; not known without them.
    pub fn is_distinct(&self) -> Option<bool> {
        Some((self.throughput_ratio() - 1.0).abs() > self.range?)
    }
}

/// A sweep's targets by name, and its summaries.
pub type Sweep<'a> = (&'a [String], &'a [Summary]);

/// Points of the grid that both have measured, in the order of the first, and how many only one of them has.
pub fn compare(before: Sweep<'_>, after: Sweep<'_>) -> (Vec<Compared>, usize) {
    let (mut both, mut alone) = (Vec::new(), 0);
    let other: Vec<(&str, &Summary, &Figures)> = usable(after).collect();
    for (target, summary, figures) in usable(before) {
        let same = other
            .iter()
            .find(|(name, s, _)| *name == target && s.point == summary.point);
        let Some((_, later, then)) = same else {
            alone += 1;
            continue;
        };
        let ranges = summary
            .throughput_range
            .into_iter()
            .chain(later.throughput_range);
        both.push(Compared {
            target: target.to_owned(),
            point: summary.point,
            mb_per_second: (figures.mb_per_second, then.mb_per_second),
            p99_ms: (figures.latency_ms.p99, then.latency_ms.p99),
            range: ranges.reduce(f64::max),
        });
    }
    let missing = other.len() - both.len();
    (both, alone + missing)
}

/// Points of the grid that say something about a broker.
fn usable<'a>(
    (targets, summaries): Sweep<'a>,
) -> impl Iterator<Item = (&'a str, &'a Summary, &'a Figures)> {
    let grid = summaries.iter().filter(|summary| !summary.searched);
    grid.filter_map(move |summary| {
        let figures = summary.figures.as_ref()?;
        let usable = figures.invalid.is_none() && figures.requests > 0;
        usable.then_some((targets[summary.target].as_str(), summary, figures))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::analysis::tests::analysis;

    #[test]
    fn points_of_both_are_compared_and_the_others_counted() {
        let before = analysis(&["a"], usize::MAX);
        let mut after = before.clone();
        let grid = before.summaries.iter().filter(|s| !s.searched).count();
        for summary in &mut after.summaries {
            let figures = summary.figures.as_mut().unwrap();
            figures.mb_per_second *= 2.0;
            figures.latency_ms.p99 /= 4.0;
        }
        let names = ["a".to_owned()];
        let compare_with =
            |after: &[Summary]| compare((&names, &before.summaries), (&names, after));
        let (both, alone) = compare_with(&after.summaries);
        assert_eq!((both.len(), alone), (grid, 0));
        for compared in &both {
            assert!((compared.throughput_ratio() - 2.0).abs() < 1e-9);
            assert!((compared.p99_ratio() - 0.25).abs() < 1e-9);
            assert_eq!(
                compared.is_distinct(),
                compared.range.map(|range| range < 1.0)
            );
        }
        // One is not the broker's, one is of another broker.
        after.summaries.retain(|summary| !summary.searched);
        let figures = after.summaries[0].figures.as_mut().unwrap();
        figures.invalid = Some("late".to_owned());
        let (both, alone) = compare_with(&after.summaries);
        assert_eq!((both.len(), alone), (grid - 1, 1));
        let others = ["b".to_owned()];
        let (both, alone) = compare((&names, &before.summaries), (&others, &after.summaries));
        assert_eq!((both.len(), alone), (0, grid + grid - 1));
    }
}
