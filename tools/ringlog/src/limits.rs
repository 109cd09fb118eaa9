//! What a limit of locked memory means for a broker, in words. Pure.

use uring::LockedPlan;

/// Connections of a broker whose rings are of this size: those that close at once must not be more than a ring has entries.
/// Full rings are deep enough for any number that comes up.
pub fn connections_max(locked: &LockedPlan) -> usize {
    match locked.has_small_rings() {
        true => locked.ring_depth,
        false => usize::MAX,
    }
}

/// What the limit does not allow, and what would be enough; `None` if it allows everything.
pub fn locked_sentence(locked: &LockedPlan, shards: usize) -> Option<String> {
    let advice = format!(
        "{} KiB would be enough for all of it (ulimit -l, LimitMEMLOCK= of a systemd unit)",
        locked.wanted_bytes.div_ceil(1024)
    );
    if locked.has_small_rings() {
        return Some(format!(
            "the limit of locked memory allows {shards} shards only small rings ({} entries): at most {} connections; {advice}",
            locked.ring_depth,
            connections_max(locked)
        ));
    }
    locked.has_small_slab().then(|| {
        format!(
            "the limit of locked memory allows {shards} shards their rings, but no registered memory for reads, which costs \
             them a little CPU time; {advice}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_limit_does_not_allow_is_said() {
        let plan = |ring_depth, io_memory_bytes| LockedPlan {
            ring_depth,
            io_memory_bytes,
            needed_bytes: 1 << 20,
            wanted_bytes: 7000 << 10,
        };
        let full = plan(4096, 2 << 20);
        assert_eq!(locked_sentence(&full, 2), None);
        assert_eq!(connections_max(&full), usize::MAX);
        let unregistered = locked_sentence(&plan(4096, 64 << 10), 2).unwrap();
        assert!(unregistered.contains("7000 KiB"), "{unregistered}");
        let small = plan(1024, 64 << 10);
        assert_eq!(connections_max(&small), 1024);
        let sentence = locked_sentence(&small, 16).unwrap();
        assert!(sentence.contains("at most 1024 connections"), "{sentence}");
        assert!(sentence.contains("16 shards"), "{sentence}");
    }
}
