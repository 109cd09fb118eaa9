//! Locked memory: what executors need of RLIMIT_MEMLOCK, and how they do with less. Pure.
//!
//! The kernel counts two things against the limit, for all processes of a user together: the rings (from Linux 5.12 to
//! 6.13 it does not) and memory that is registered with them. glommio makes three rings per executor and registers its
//! slab with each; when registering fails it goes on without, but what it has registered by then is missing for the rings
//! of the next executor. So what all of them need is known before the first one starts.

use crate::error::StartError;
use crate::options::{IO_MEMORY_BYTES, RING_DEPTH, UringOptions};

/// glommio's rings per executor.
const RINGS: u64 = 3;
/// glommio does not start below this limit, whatever the kernel counts.
const GLOMMIO_LIMIT_MIN: u64 = 512 << 10;
/// glommio's smallest slab.
const SLAB_BYTES_MIN: usize = 64 << 10;
/// The smallest ring: with fewer entries, connections that close at once could cancel what is not theirs.
const RING_DEPTH_MIN: usize = 1024;
/// Bytes of a submission entry; of a completion entry, of which there are twice as many; of an index of the submission array.
const SUBMISSION_BYTES: u64 = 64;
const COMPLETION_BYTES: u64 = 16;
const INDEX_BYTES: u64 = 4;
/// What the kernel puts before the completion entries, rounded up.
const RING_HEADER_BYTES: u64 = 512;
const PAGE_BYTES: u64 = 4096;
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Rings of one or two entries by which it is asked what the kernel can do; their memory is given back late.
const PROBES_BYTES: u64 = 64 << 10;

/// How the kernel counts the memory of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingCharge {
    /// Not at all.
    None,
    /// By its pages.
    Pages,
    /// By pages, rounded up to a power of two (before Linux 5.12).
    PowerOfTwo,
}

/// What counts against the limit here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charges {
    /// Rings.
    pub rings: RingCharge,
    /// Whether registered memory counts. It does not for a process with CAP_IPC_LOCK.
    pub registered: bool,
    /// Whether any memory may lie in a huge page, of which the whole is counted.
    pub huge_pages: bool,
}

/// The size of each executor's rings and slab, and what all of them lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedPlan {
    /// Submission entries per ring.
    pub ring_depth: usize,
    /// Bytes of each executor's slab.
    pub io_memory_bytes: usize,
    /// What the limit must be for this plan, in bytes.
    pub needed_bytes: u64,
    /// What it must be for the plan that is best.
    pub wanted_bytes: u64,
}

impl LockedPlan {
    /// The best plan for so many executors below this limit; the settings of `options` are the most that is used.
    pub fn new(
        limit_bytes: u64,
        executors: usize,
        charges: Charges,
        options: &UringOptions,
    ) -> Result<LockedPlan, StartError> {
        let wanted = (options.ring_depth, options.io_memory_bytes);
        let small_slab = options.io_memory_bytes.min(SLAB_BYTES_MIN);
        let depths = [options.ring_depth, RING_DEPTH / 2, RING_DEPTH_MIN];
        let smaller = depths.map(|depth| (depth.min(options.ring_depth), small_slab));
        let wanted_bytes = needed(executors, charges, wanted);
        let mut needed_bytes = wanted_bytes;
        for shape in [wanted].into_iter().chain(smaller) {
            needed_bytes = needed(executors, charges, shape);
            if needed_bytes <= limit_bytes {
                return Ok(LockedPlan {
                    ring_depth: shape.0,
                    io_memory_bytes: shape.1,
                    needed_bytes,
                    wanted_bytes,
                });
            }
        }
        Err(StartError::Memlock {
            limit: limit_bytes,
            executors,
            needed: needed_bytes,
            wanted: wanted_bytes,
        })
    }

    /// Whether rings are smaller than they should be. A smaller slab costs little.
    pub fn has_small_rings(&self) -> bool {
        self.ring_depth < RING_DEPTH
    }

    /// Whether memory for reads is not registered as a whole.
    pub fn has_small_slab(&self) -> bool {
        self.io_memory_bytes < IO_MEMORY_BYTES
    }
}

/// The limit that so many executors of a shape (ring depth, slab) need.
fn needed(executors: usize, charges: Charges, (ring_depth, slab_bytes): (usize, usize)) -> u64 {
    let ring = ring_bytes(ring_depth as u64, charges.rings);
    // Small slabs are made of small pages, see `NoHugePages`.
    let may_be_huge = charges.huge_pages && slab_bytes > SLAB_BYTES_MIN;
    let slab = match (charges.registered, may_be_huge) {
        (false, _) => 0,
        (true, false) => (slab_bytes as u64).next_multiple_of(PAGE_BYTES),
        // It may begin and end in the middle of one.
        (true, true) => (slab_bytes as u64).next_multiple_of(HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES,
    };
    let probes = match charges.rings {
        RingCharge::None => 0,
        _ => PROBES_BYTES,
    };
    let all = executors as u64 * RINGS * (ring + slab) + probes;
    all.max(GLOMMIO_LIMIT_MIN)
}

/// What one ring counts as.
fn ring_bytes(depth: u64, charge: RingCharge) -> u64 {
    let depth = depth.next_power_of_two();
    let submissions = depth * SUBMISSION_BYTES;
    let rings = RING_HEADER_BYTES + 2 * depth * COMPLETION_BYTES + depth * INDEX_BYTES;
    let pages = |bytes: u64| bytes.next_multiple_of(PAGE_BYTES);
    match charge {
        RingCharge::None => 0,
        RingCharge::Pages => pages(submissions) + pages(rings),
        RingCharge::PowerOfTwo => {
            pages(submissions).next_power_of_two() + pages(rings).next_power_of_two()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Charges = Charges {
        rings: RingCharge::Pages,
        registered: true,
        huge_pages: false,
    };
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn plan(limit: u64, executors: usize, charges: Charges) -> Result<LockedPlan, StartError> {
        LockedPlan::new(limit, executors, charges, &UringOptions::default())
    }

    /// Measured on Linux 6.18 with a falling limit, and on the page.
    #[test]
    fn a_ring_counts_as_the_kernel_counts_it() {
        for (depth, bytes) in [(1, 8192), (1024, 106_496), (2048, 208_896), (4096, 413_696)] {
            assert_eq!(ring_bytes(depth, RingCharge::Pages), bytes, "{depth}");
        }
        assert_eq!(ring_bytes(4096, RingCharge::PowerOfTwo), 512 * KIB);
        assert_eq!(ring_bytes(4096, RingCharge::None), 0);
    }

    #[test]
    fn the_best_plan_that_the_limit_allows() {
        let no_rings = Charges {
            rings: RingCharge::None,
            ..ALL
        };
        let nothing = Charges {
            registered: false,
            ..no_rings
        };
        let huge = Charges {
            huge_pages: true,
            ..ALL
        };
        let full = Some((4096, 2 << 20));
        let unregistered = Some((4096, 64 << 10));
        // (limit, executors, charges, ring depth and slab)
        let table = [
            (u64::MAX, 1024, ALL, full),
            (8 * MIB, 1, ALL, full),
            (8 * MIB, 2, ALL, unregistered),
            (8 * MIB, 5, ALL, unregistered),
            (8 * MIB, 6, ALL, Some((2048, 64 << 10))),
            (8 * MIB, 10, ALL, Some((2048, 64 << 10))),
            (8 * MIB, 11, ALL, Some((1024, 64 << 10))),
            (8 * MIB, 16, ALL, Some((1024, 64 << 10))),
            (8 * MIB, 17, ALL, None),
            (1536 * KIB, 1, ALL, unregistered),
            (1024 * KIB, 1, ALL, Some((2048, 64 << 10))),
            (600 * KIB, 1, ALL, Some((1024, 64 << 10))),
            (512 * KIB, 1, ALL, None),
            (8 * MIB, 1, huge, unregistered),
            (14 * MIB, 1, huge, full),
            (8 * MIB, 1, no_rings, full),
            (8 * MIB, 2, no_rings, unregistered),
            (64 * KIB, 1, no_rings, None),
            (512 * KIB, 64, nothing, full),
            (511 * KIB, 1, nothing, None),
        ];
        for (limit, executors, charges, expected) in table {
            let found = plan(limit, executors, charges).ok();
            let shape = found.map(|plan| (plan.ring_depth, plan.io_memory_bytes));
            let name = format!("{limit} for {executors} with {charges:?}");
            assert_eq!(shape, expected, "{name}");
            if let Some(plan) = found {
                assert!(plan.needed_bytes <= limit && plan.needed_bytes <= plan.wanted_bytes);
            }
        }
    }

    #[test]
    fn what_is_refused_says_how_much_is_enough() {
        let error = plan(8 * MIB, 64, ALL).unwrap_err().to_string();
        assert!(error.contains("64 cores"), "{error}");
        let (least, best) = (
            needed(64, ALL, (1024, 64 << 10)),
            needed(64, ALL, (4096, 2 << 20)),
        );
        for kib in [least.div_ceil(KIB), best.div_ceil(KIB)] {
            assert!(error.contains(&kib.to_string()), "{error}");
            assert!(plan(kib * KIB, 64, ALL).is_ok());
        }
        assert!(plan(least - 1, 64, ALL).is_err());
    }

    #[test]
    fn who_asks_for_little_is_given_no_more() {
        let options = UringOptions {
            ring_depth: 1024,
            io_memory_bytes: 4096,
            ..UringOptions::default()
        };
        let plan = LockedPlan::new(8 * MIB, 1, ALL, &options).unwrap();
        assert_eq!((plan.ring_depth, plan.io_memory_bytes), (1024, 4096));
    }
}
