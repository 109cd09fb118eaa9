//! One axis of a chart: which values are marked and where a value stands.
//!
//! Pure. Invariants: the range is not empty; ticks lie inside it, in rising order, at most `LOG_TICKS_MAX`.

/// Most marks of one axis: more would touch each other on a phone.
pub const TICKS_MAX: usize = 6;
/// The same for a logarithmic axis, whose marks are short numbers.
pub const LOG_TICKS_MAX: usize = 8;
/// Largest over smallest value up to which an axis from 0 shows both.
const LINEAR_RATIO_MAX: f64 = 20.0;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
}

/// A range of values with its marks.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

/// Multiples of a power of ten that a logarithmic axis may mark, from coarse to fine.
const MULTIPLES: [&[f64]; 3] = [
    &[1.0],
    &[1.0, 2.0, 5.0],
    &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
];

impl Axis {
    /// A label with what the axis is, if that is not what one expects.
    pub fn labelled(&self, label: &str) -> String {
        match self.scale {
            Scale::Linear => label.to_owned(),
            Scale::Log => format!("{label} (log)"),
        }
    }

    /// From 0 to a round number at or above the largest value.
    pub fn linear(values: impl IntoIterator<Item = f64>) -> Axis {
        let largest = usable(values).fold(0.0, f64::max);
        let largest = if largest > 0.0 { largest } else { 1.0 };
        let step = nice_step(largest / (TICKS_MAX - 1) as f64);
        let steps = (largest / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=steps as u32).map(|n| f64::from(n) * step).collect();
        Axis {
            scale: Scale::Linear,
            low: 0.0,
            high: steps * step,
            ticks,
        }
    }

    /// Between round numbers around the values, which are positive.
    pub fn log(values: impl IntoIterator<Item = f64>) -> Axis {
        let values: Vec<f64> = usable(values).filter(|v| *v > 0.0).collect();
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().copied().fold(0.0, f64::max);
        if values.is_empty() {
            return Axis::log([1.0, 10.0]);
        }
        let around = |multiples: &[f64]| -> Vec<f64> {
            let first = smallest.log10().floor() as i32;
            let last = largest.log10().ceil() as i32 + 1;
            let all = (first..=last)
                .flat_map(|power| multiples.iter().map(move |m| round(m * 10f64.powi(power))));
            let all: Vec<f64> = all.collect();
            let from = all.iter().rposition(|v| *v <= smallest).unwrap_or(0);
            let to = all.iter().position(|v| *v >= largest);
            let to = to.unwrap_or(all.len() - 1).max(from + 1);
            all[from..=to].to_vec()
        };
        // The finest marks that fit. A wide range ends at 1, 2 or 5 all the same, and has powers of ten marked, every
        // second or third of them if need be.
        let mut finest = MULTIPLES[1..].iter().rev().map(|m| around(m));
        let fitting = finest.find(|t| t.len() <= LOG_TICKS_MAX);
        let ends = around(MULTIPLES[1]);
        let (low, high, ticks) = match fitting {
            Some(ticks) => (ticks[0], ticks[ticks.len() - 1], ticks),
            None => (ends[0], ends[ends.len() - 1], around(MULTIPLES[0])),
        };
        let inside: Vec<f64> = ticks
            .into_iter()
            .filter(|t| (low..=high).contains(t))
            .collect();
        let every = inside.len().div_ceil(LOG_TICKS_MAX);
        Axis {
            scale: Scale::Log,
            low,
            high,
            ticks: inside.into_iter().step_by(every).collect(),
        }
    }

    /// Logarithmic if a linear axis would press most values against its low end, linear otherwise.
    pub fn fitting(values: impl IntoIterator<Item = f64>) -> Axis {
        let values: Vec<f64> = usable(values).collect();
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().copied().fold(0.0, f64::max);
        if smallest > 0.0 && largest / smallest > LINEAR_RATIO_MAX {
            return Axis::log(values);
        }
        Axis::linear(values)
    }

    /// Marked values.
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// Where a value stands: 0 is the low end, 1 the high one. Values beyond stand at the end.
    pub fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => {
                (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
            }
        };
        if place.is_nan() {
            0.0
        } else {
            place.clamp(0.0, 1.0)
        }
    }
}

fn usable(values: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f64> {
    values.into_iter().filter(|v| v.is_finite())
}

/// 1, 2, 2.5 or 5 times a power of ten, at least `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let multiples = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fit = multiples
        .iter()
        .find(|m| **m * power >= step * (1.0 - 1e-9));
    fit.unwrap_or(&10.0) * power
}

/// Without the dust that powers of ten leave.
fn round(value: f64) -> f64 {
    let scale = 10f64.powf(3.0 - value.log10().floor());
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_axes_start_at_zero_and_end_round() {
        for (largest, ticks) in [
            (410.0, &[0.0, 100.0, 200.0, 300.0, 400.0, 500.0][..]),
            (1.0, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (9.0, &[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
        ] {
            let axis = Axis::linear([largest, largest / 3.0]);
            let close = axis
                .ticks()
                .iter()
                .zip(ticks)
                .all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(close && axis.ticks().len() == ticks.len(), "{axis:?}");
        }
    }

    #[test]
    fn log_axes_mark_round_numbers() {
        for (values, ticks) in [
            ([0.4, 12.0], &[0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0][..]),
            ([3.0, 7.0], &[3.0, 4.0, 5.0, 7.0]),
            (
                [3.0, 240.0],
                &[2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0],
            ),
            ([0.03, 900.0], &[0.1, 1.0, 10.0, 100.0, 1_000.0]),
        ] {
            let axis = Axis::log(values);
            assert_eq!(axis.ticks(), ticks, "{values:?}");
            assert!(axis.low <= values[0] && values[1] <= axis.high, "{axis:?}");
        }
    }

    #[test]
    fn an_axis_fits_its_values() {
        assert_eq!(Axis::fitting([100.0, 400.0]).scale, Scale::Linear);
        assert_eq!(Axis::fitting([1.0, 400.0]).scale, Scale::Log);
        assert_eq!(Axis::fitting([0.0, 400.0]).scale, Scale::Linear);
    }

    #[test]
    fn places() {
        let axis = Axis::log([1.0, 100.0]);
        assert!((axis.place(10.0) - 0.5).abs() < 1e-9);
        assert_eq!((axis.place(0.0), axis.place(1e9)), (0.0, 1.0));
        assert_eq!(Axis::linear([10.0]).place(5.0), 0.5);
    }

    #[test]
    fn any_values_make_an_axis() {
        for values in [
            vec![],
            vec![0.0],
            vec![f64::NAN],
            vec![5.0],
            vec![1e-9, 1e12],
            vec![1.0, 1.0],
        ] {
            for axis in [Axis::linear(values.clone()), Axis::log(values.clone())] {
                assert!(axis.low < axis.high, "{values:?} {axis:?}");
                assert!(
                    (1..=LOG_TICKS_MAX).contains(&axis.ticks().len()),
                    "{axis:?}"
                );
                assert!(axis.ticks().is_sorted());
                assert!(axis.place(1.0).is_finite());
            }
        }
    }
}
