//! The seconds of a load, merged over its cores while it runs.
//!
//! Pure. Invariants: a second is told once, in order, when every core has counted it or the load has ended; what a core
//! counts late is added to the next second instead of being lost.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core_state::Tick;
use crate::tally::Tally;

/// One second of a load over all cores.
#[derive(Debug, Default)]
pub struct Second {
    /// Its number since sending began.
    pub number: u64,
    /// How long it was.
    pub length: Duration,
    /// Whether it belongs to the warm-up.
    pub warming: bool,
    /// The counts of all cores.
    pub tally: Tally,
    /// How many ticks it is made of.
    ticks: usize,
}

/// Collects ticks.
#[derive(Debug)]
pub struct Seconds {
    cores: usize,
    open: BTreeMap<u64, Second>,
    next: u64,
}

impl Seconds {
    /// For a load of so many cores, at least one.
    pub fn new(cores: usize) -> Seconds {
        Seconds {
            cores: cores.max(1),
            open: BTreeMap::new(),
            next: 0,
        }
    }

    /// Takes a tick; the second that is complete with it, if one is.
    pub fn add(&mut self, tick: &Tick) -> Option<Second> {
        let number = tick.second.max(self.next);
        let second = self.open.entry(number).or_default();
        second.number = number;
        second.length = second.length.max(tick.length);
        second.warming |= tick.warming;
        second.tally.merge(&tick.tally);
        // Times before sending begins, and the end of a warm-up, cut a second in two: only whole ones count.
        second.ticks += usize::from(tick.is_whole);
        if second.ticks < self.cores {
            return None;
        }
        self.next = number + 1;
        let later = self.open.split_off(&self.next);
        let complete = std::mem::replace(&mut self.open, later);
        let mut complete = complete.into_values();
        let mut sum = complete.next()?;
        for second in complete {
            sum.number = second.number;
            sum.length = sum.length.max(second.length);
            sum.tally.merge(&second.tally);
        }
        Some(sum)
    }

    /// What is left when every core has ended, in order.
    pub fn finish(self) -> impl Iterator<Item = Second> {
        self.open.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(second: u64, records: u64, is_whole: bool) -> Tick {
        Tick {
            second,
            length: Duration::from_secs(1),
            warming: false,
            is_whole,
            tally: Tally {
                records,
                ..Tally::default()
            },
        }
    }

    #[test]
    fn a_second_is_told_when_every_core_has_counted_it() {
        let mut seconds = Seconds::new(2);
        assert!(seconds.add(&tick(0, 1, true)).is_none());
        assert!(seconds.add(&tick(1, 10, true)).is_none());
        let first = seconds.add(&tick(0, 2, true)).unwrap();
        assert_eq!((first.number, first.tally.records), (0, 3));
        // Late: counted in the next one.
        assert!(seconds.add(&tick(0, 5, false)).is_none());
        let second = seconds.add(&tick(1, 20, true)).unwrap();
        assert_eq!((second.number, second.tally.records), (1, 35));
        assert!(seconds.add(&tick(2, 7, false)).is_none());
        let rest: Vec<u64> = seconds.finish().map(|s| s.tally.records).collect();
        assert_eq!(rest, [7]);
    }
}
