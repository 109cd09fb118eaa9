//! What packets meet between two nodes: cuts, delays, losses. Each direction has its own.
//!
//! Owned by the network. As under TCP, a loss is a delay: what is lost is sent again, and what was sent behind it waits
//! for it. Nothing is drawn for what no rule asks for, so a rule on one path leaves the traces without it as they are.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::random::Generator;

/// Bounds of the delay within a node, in nanoseconds.
const LOCAL_DELAY: (u64, u64) = (5_000, 40_000);

/// Bounds of the delay between two nodes, unless told otherwise, in nanoseconds.
const DELAY: (u64, u64) = (30_000, 600_000);

/// One in so many packets takes so many times as long.
const STRAGGLER_SHARE: u64 = 128;
const STRAGGLER_FACTOR: u64 = 8;

/// First wait before a lost packet is sent again, doubled each time (Linux's least retransmission timeout), its bound,
/// and how often in a row one packet may be lost.
const RETRANSMIT_FIRST: u64 = 200_000_000;
const RETRANSMIT_MAX: u64 = 10_000_000_000;
const LOSSES_MAX: u32 = 8;

/// How one direction between two nodes differs from the others. `PathRule::default()` is no difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathRule {
    /// Least and greatest delay; `None`: as everywhere.
    pub delay: Option<(Duration, Duration)>,
    /// Packets that are lost, of a million.
    pub loss_per_million: u32,
}

/// The paths of one simulation.
pub(crate) struct Paths {
    cuts: RefCell<BTreeSet<(usize, usize)>>,
    rules: RefCell<BTreeMap<(usize, usize), PathRule>>,
    /// Between nodes, where no rule says otherwise; in nanoseconds.
    delay: Cell<(u64, u64)>,
}

impl Paths {
    pub(crate) fn new() -> Paths {
        Paths {
            cuts: RefCell::default(),
            rules: RefCell::default(),
            delay: Cell::new(DELAY),
        }
    }

    /// Whether nothing gets through.
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        from != to && self.cuts.borrow().contains(&(from, to))
    }

    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.cuts.borrow_mut().insert((from, to));
    }

    /// Whether there was a cut.
    pub(crate) fn heal(&self, from: usize, to: usize) -> bool {
        self.cuts.borrow_mut().remove(&(from, to))
    }

    /// Undoes every cut.
    pub(crate) fn heal_all(&self) {
        self.cuts.borrow_mut().clear();
    }

    pub(crate) fn set_delay(&self, least: Duration, greatest: Duration) {
        self.delay.set((nanos(least), nanos(greatest)));
    }

    pub(crate) fn set_rule(&self, from: usize, to: usize, rule: PathRule) {
        let mut rules = self.rules.borrow_mut();
        if rule == PathRule::default() {
            rules.remove(&(from, to));
        } else {
            rules.insert((from, to), rule);
        }
    }

    pub(crate) fn clear_rules(&self) {
        self.rules.borrow_mut().clear();
    }

    /// How long one packet is on its way over a path that is open, in nanoseconds.
    pub(crate) fn transit(&self, random: &Generator, from: usize, to: usize) -> u64 {
        if from == to {
            let (least, greatest) = LOCAL_DELAY;
            return random.between(least, greatest);
        }
        let rule = self.rules.borrow().get(&(from, to)).copied();
        let rule = rule.unwrap_or_default();
        let (least, greatest) = match rule.delay {
            Some((least, greatest)) => (nanos(least), nanos(greatest)),
            None => self.delay.get(),
        };
        let mut transit = random.between(least, greatest);
        if random.one_in(STRAGGLER_SHARE) {
            transit = transit.saturating_mul(STRAGGLER_FACTOR);
        }
        if rule.loss_per_million > 0 {
            transit = transit.saturating_add(lost(random, rule.loss_per_million));
        }
        transit
    }
}

/// How long a packet takes longer because it is lost now and then.
fn lost(random: &Generator, per_million: u32) -> u64 {
    let (mut wait, mut all) = (RETRANSMIT_FIRST, 0);
    for _ in 0..LOSSES_MAX {
        if !random.chance(per_million) {
            break;
        }
        all += wait;
        wait = RETRANSMIT_MAX.min(wait * 2);
    }
    all
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a delay is not centuries long")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    #[test]
    fn each_direction_has_its_own_rule() {
        let paths = Paths::new();
        let random = Generator::new(1, 1);
        let slow = PathRule {
            delay: Some((MICRO * 5_000, MICRO * 5_000)),
            ..PathRule::default()
        };
        paths.set_rule(0, 1, slow);
        for _ in 0..100 {
            assert!(paths.transit(&random, 0, 1) >= 5_000_000);
            assert!(paths.transit(&random, 1, 0) <= DELAY.1 * STRAGGLER_FACTOR);
            assert!(paths.transit(&random, 1, 1) <= LOCAL_DELAY.1);
        }
        paths.set_rule(0, 1, PathRule::default());
        assert!(paths.transit(&random, 0, 1) <= DELAY.1 * STRAGGLER_FACTOR);
    }

    #[test]
    fn a_loss_costs_a_retransmission_and_ends() {
        let random = Generator::new(1, 1);
        assert_eq!(lost(&random, 0), 0);
        // 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10 and 10 seconds.
        assert_eq!(lost(&random, 1_000_000), 32_600_000_000);
        let waits: Vec<u64> = (0..1_000).map(|_| lost(&random, 100_000)).collect();
        let hit = waits.iter().filter(|wait| **wait > 0).count();
        assert!((50..200).contains(&hit), "{hit} of 1000 were lost");
        assert!(
            waits
                .iter()
                .all(|wait| *wait == 0 || *wait >= RETRANSMIT_FIRST)
        );
    }

    #[test]
    fn cuts_are_one_way_and_never_within_a_node() {
        let paths = Paths::new();
        paths.cut(0, 1);
        paths.cut(2, 2);
        let cut = |from, to| paths.is_cut(from, to);
        assert!(cut(0, 1) && !cut(1, 0) && !cut(2, 2));
        assert!(paths.heal(0, 1) && !paths.heal(0, 1));
        assert!(!cut(0, 1));
    }
}
