//! The line that a demo prints for each second of a load: a small bar and three figures.

use load::report::grouped;
use load::seconds::Second;

use crate::commands::top::bar;
use crate::stdio::Paint;

/// Columns of the bar.
const BAR_WIDTH: usize = 16;
/// A bar of the first second leaves so much room for a better one.
const HEADROOM: f64 = 1.25;

/// The bars of one load: all to the same scale, which the first second sets.
#[derive(Debug, Default)]
pub struct Bars {
    full: Option<f64>,
}

impl Bars {
    /// The line of a second; `None` for one in which nothing was answered, or that is too short for a rate.
    pub fn line(&mut self, second: &Second, paint: Paint) -> Option<String> {
        let seconds = second.length.as_secs_f64();
        let tally = &second.tally;
        if tally.requests == 0 || seconds < 0.5 {
            return None;
        }
        let rate = tally.records as f64 / seconds;
        let full = *self.full.get_or_insert(rate * HEADROOM);
        let bar = bar(rate / full, BAR_WIDTH);
        // The bar is padded before it is painted: colours have no width.
        let bar = paint.bar(&format!("{bar:<BAR_WIDTH$}"));
        Some(format!(
            "    {:>2} s {bar} {:>11} records/s {:>7.1} MB/s  p99 {:>6.2} ms",
            second.number + 1,
            grouped(rate as u64),
            tally.batch_bytes as f64 / seconds / 1e6,
            tally.latency_ms(0.99),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use load::Tally;

    use super::*;

    fn second(number: u64, records: u64, millis: u64) -> Second {
        let mut second = Second::default();
        second.number = number;
        second.length = Duration::from_millis(millis);
        second.tally = Tally {
            records,
            batch_bytes: records * 1000,
            requests: records / 64,
            ..Tally::default()
        };
        second.tally.latency.record(2_500_000).unwrap();
        second
    }

    #[test]
    fn bars_have_the_scale_of_the_first_second_and_lines_fit_a_terminal() {
        let mut bars = Bars::default();
        let mut line = |second: &Second| bars.line(second, Paint::NONE);
        assert_eq!(
            line(&second(0, 800_000, 1000)).unwrap(),
            "     1 s ████████████▊        800 000 records/s   800.0 MB/s  p99   2.50 ms"
        );
        assert_eq!(
            line(&second(1, 400_000, 1000)).unwrap(),
            "     2 s ██████▍              400 000 records/s   400.0 MB/s  p99   2.50 ms"
        );
        // Better than the scale allows: full.
        let best = line(&second(99, 9_999_999, 1000)).unwrap();
        assert!(best.contains(&"█".repeat(BAR_WIDTH)), "{best}");
        assert!(best.chars().count() <= 80, "{best}");
        // Half a second has the rate of a whole one.
        assert!(
            line(&second(2, 400_000, 500))
                .unwrap()
                .contains("800 000 records/s")
        );
        assert_eq!(line(&second(3, 10, 100)), None);
        assert_eq!(line(&second(3, 0, 1000)), None);
    }
}
