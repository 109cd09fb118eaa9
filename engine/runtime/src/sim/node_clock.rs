//! The clocks of one node: a monotonic one with a rate and a start of its own, and a wall clock that somebody sets.
//!
//! Pure arithmetic on world time, which is the simulation's own and the same for all. Invariants: the monotonic clock
//! never goes back, whatever is done to its rate; a node whose clocks nobody touched shows world time.

use std::cell::Cell;

/// The largest drift in millionths: a hundred times what a poor quartz does, so that a timeout compared between two
/// nodes without a margin is found out.
pub const CLOCK_DRIFT_PPM_MAX: i32 = 50_000;

const MILLION: u64 = 1_000_000;

/// The clocks of one node.
pub(crate) struct NodeClock {
    /// World time and monotonic time when the rate was set last.
    set_at: Cell<(u64, u64)>,
    drift_ppm: Cell<i32>,
    wall_offset_ms: Cell<i64>,
}

impl NodeClock {
    pub(crate) fn new(world_nanos: u64) -> NodeClock {
        NodeClock {
            set_at: Cell::new((world_nanos, world_nanos)),
            drift_ppm: Cell::new(0),
            wall_offset_ms: Cell::new(0),
        }
    }

    /// Nanoseconds of this node per million of the world's.
    fn rate(&self) -> u64 {
        MILLION
            .checked_add_signed(i64::from(self.drift_ppm.get()))
            .expect("a drift is bounded")
    }

    /// What the monotonic clock shows at a world time that is not before the last change.
    pub(crate) fn monotonic(&self, world_nanos: u64) -> u64 {
        let (world, local) = self.set_at.get();
        assert!(world_nanos >= world, "world time does not go back");
        let passed = u128::from(world_nanos - world) * u128::from(self.rate());
        narrow(u128::from(local) + passed / u128::from(MILLION))
    }

    /// The first world time at which the monotonic clock shows `local` or more, if nobody changes its rate.
    pub(crate) fn world_time(&self, local: u64) -> u64 {
        let (world, set) = self.set_at.get();
        // What it has shown before the last change was at that time at the latest.
        let Some(left) = local.checked_sub(set) else {
            return world;
        };
        let left = (u128::from(left) * u128::from(MILLION)).div_ceil(u128::from(self.rate()));
        narrow(u128::from(world) + left)
    }

    /// Changes the rate from now on.
    pub(crate) fn set_drift(&self, world_nanos: u64, drift_ppm: i32) {
        assert!(
            drift_ppm.abs() <= CLOCK_DRIFT_PPM_MAX,
            "a drift of {drift_ppm} millionths is none that clocks have"
        );
        self.set_at.set((world_nanos, self.monotonic(world_nanos)));
        self.drift_ppm.set(drift_ppm);
    }

    /// Puts the monotonic clock forward.
    pub(crate) fn put_forward(&self, world_nanos: u64, nanos: u64) {
        let shown = self.monotonic(world_nanos);
        let shown = shown.checked_add(nanos).expect("clocks run for centuries");
        self.set_at.set((world_nanos, shown));
    }

    pub(crate) fn wall_offset_ms(&self) -> i64 {
        self.wall_offset_ms.get()
    }

    pub(crate) fn set_wall_offset_ms(&self, offset_ms: i64) {
        self.wall_offset_ms.set(offset_ms);
    }
}

/// A time beyond the end of time is that end: who sleeps for ever asks for one.
fn narrow(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{CLOCK_DRIFT_PPM_MAX, NodeClock};

    #[test]
    fn an_untouched_clock_shows_world_time() {
        let clock = NodeClock::new(5);
        for world in [5, 6, 1_000_000_007, u64::MAX] {
            assert_eq!(clock.monotonic(world), world);
            assert_eq!(clock.world_time(world), world);
        }
    }

    #[test]
    fn a_drifting_clock_is_early_or_late_and_never_goes_back() {
        let clock = NodeClock::new(0);
        let mut shown = 0;
        for (second, drift) in [(1_u64, 50_000), (2, -50_000), (3, 0), (4, 1), (5, -1)] {
            clock.set_drift(second * 1_000_000_000, drift);
            let now = clock.monotonic(second * 1_000_000_000);
            assert!(now > shown, "{now} after {shown}");
            shown = now;
        }
        // One second each at 1, 1.05, 0.95, 1 and 1.000001.
        assert_eq!(shown, 5_000_001_000);
    }

    #[test]
    fn world_time_is_the_first_that_shows_it() {
        for drift in [-CLOCK_DRIFT_PPM_MAX, -1, 0, 7, CLOCK_DRIFT_PPM_MAX] {
            let clock = NodeClock::new(100);
            clock.set_drift(100, drift);
            for local in [100, 101, 12_345, 1_000_000_000] {
                let world = clock.world_time(local);
                assert!(clock.monotonic(world) >= local, "{drift} {local}");
                assert!(
                    world == 100 || clock.monotonic(world - 1) < local,
                    "{drift} {local}"
                );
            }
        }
    }

    #[test]
    fn what_was_put_forward_stays_so() {
        let clock = NodeClock::new(0);
        clock.put_forward(10, 1_000);
        assert_eq!(clock.monotonic(10), 1_010);
        assert_eq!(clock.world_time(500), 10, "it was shown by then");
        assert_eq!(clock.world_time(1_020), 20);
    }

    #[test]
    #[should_panic(expected = "is none that clocks have")]
    fn a_drift_has_a_bound() {
        NodeClock::new(0).set_drift(0, CLOCK_DRIFT_PPM_MAX + 1);
    }
}
