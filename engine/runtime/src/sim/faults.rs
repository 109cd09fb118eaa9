//! The registry of faults: what may go wrong, where, how often.
//!
//! A fault is switched on by a [`FaultRule`]; without rules the machine is perfect, apart from the random delays that
//! it always has.

use std::cell::RefCell;
use std::path::Path;

use super::random::Generator;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A read fails with EIO.
    ReadError,
    /// A write fails with EIO; any part of it may have reached the device.
    WriteError,
    /// A flush fails with EIO. What it covered is durable or never will be, at random: a later flush that succeeds
    /// says nothing about it (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
    SyncError,
    /// Opening, renaming, removing or listing fails with EIO.
    MetadataError,
    /// Opening fails with EMFILE: the process has no descriptor left.
    NoDescriptors,
    /// A write or allocation fails with ENOSPC, whatever the capacity is.
    NoSpace,
    /// An operation takes 10 ms to 2 s.
    Slow,
    /// An operation does not complete until `Simulation::release_hung`, or never.
    Hang,
    /// A write stores one wrong bit.
    BitFlip,
    /// A write reports success and changes nothing.
    LostWrite,
    /// A write lands at another place of the same file.
    MisdirectedWrite,
    /// The locks of a killed process outlive it by 10 ms to 2 s.
    LateUnlock,
    /// A connection is reset while it sends.
    ConnectionReset,
}

/// When a fault happens. Built in one expression: `FaultRule::new(Fault::WriteError).path("journal").times(1)`.
#[derive(Clone, Debug)]
pub struct FaultRule {
    fault: Fault,
    node: Option<usize>,
    path_part: Option<String>,
    per_million: u32,
    skip: u32,
    remaining: Option<u32>,
}

impl FaultRule {
    /// The fault at every chance, on every node and path.
    pub fn new(fault: Fault) -> FaultRule {
        FaultRule {
            fault,
            node: None,
            path_part: None,
            per_million: 1_000_000,
            skip: 0,
            remaining: None,
        }
    }

    /// On this node only.
    #[must_use]
    pub fn node(mut self, node: usize) -> FaultRule {
        self.node = Some(node);
        self
    }

    /// On paths that contain this text only.
    #[must_use]
    pub fn path(mut self, part: &str) -> FaultRule {
        self.path_part = Some(part.to_owned());
        self
    }

    /// With this probability, in millionths.
    #[must_use]
    pub fn per_million(mut self, per_million: u32) -> FaultRule {
        self.per_million = per_million;
        self
    }

    /// Spares the first `count` operations that match.
    #[must_use]
    pub fn after(mut self, count: u32) -> FaultRule {
        self.skip = count;
        self
    }

    /// At most so many times.
    #[must_use]
    pub fn times(mut self, count: u32) -> FaultRule {
        self.remaining = Some(count);
        self
    }
}

/// Names a rule that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(u64);

#[derive(Default)]
struct Registry {
    rules: Vec<(FaultId, FaultRule)>,
    next_id: u64,
    fired: u64,
}

/// The faults of one simulation.
#[derive(Default)]
pub struct Faults {
    registry: RefCell<Registry>,
}

impl Faults {
    /// Switches a fault on.
    pub fn add(&self, rule: FaultRule) -> FaultId {
        let mut registry = self.registry.borrow_mut();
        let id = FaultId(registry.next_id);
        registry.next_id += 1;
        registry.rules.push((id, rule));
        id
    }

    /// Switches a fault off.
    pub fn remove(&self, id: FaultId) {
        let mut registry = self.registry.borrow_mut();
        registry.rules.retain(|(other, _)| *other != id);
    }

    /// Switches off the faults of this node; those of every node stay.
    pub fn clear_node(&self, node: usize) {
        let mut registry = self.registry.borrow_mut();
        registry.rules.retain(|(_, rule)| rule.node != Some(node));
    }

    /// Switches all faults off.
    pub fn clear(&self) {
        self.registry.borrow_mut().rules.clear();
    }

    /// Faults that have happened so far.
    pub fn fired(&self) -> u64 {
        self.registry.borrow().fired
    }

    /// Whether `fault` happens to this operation.
    pub(crate) fn fires(
        &self,
        fault: Fault,
        node: usize,
        path: Option<&Path>,
        random: &Generator,
    ) -> bool {
        let mut registry = self.registry.borrow_mut();
        let Registry { rules, fired, .. } = &mut *registry;
        for (_, rule) in rules {
            let matches = rule.fault == fault
                && rule.node.is_none_or(|n| n == node)
                && rule.path_part.as_ref().is_none_or(|part| {
                    path.is_some_and(|path| path.to_string_lossy().contains(part.as_str()))
                });
            if !matches || rule.remaining == Some(0) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if random.chance(rule.per_million) {
                rule.remaining = rule.remaining.map(|count| count - 1);
                *fired += 1;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Fault, FaultRule, Faults, Generator};

    #[test]
    fn rules_choose_by_node_path_and_count() {
        let faults = Faults::default();
        let random = Generator::new(1, 1);
        let fires = |fault, node, path| faults.fires(fault, node, Some(Path::new(path)), &random);
        assert!(!fires(Fault::WriteError, 0, "/a"));
        let id = faults.add(
            FaultRule::new(Fault::WriteError)
                .node(1)
                .path("journal")
                .after(1)
                .times(2),
        );
        assert!(!fires(Fault::WriteError, 0, "/journal"));
        assert!(!fires(Fault::WriteError, 1, "/log"));
        assert!(!fires(Fault::ReadError, 1, "/journal"));
        assert!(
            !fires(Fault::WriteError, 1, "/journal"),
            "the first is spared"
        );
        assert!(fires(Fault::WriteError, 1, "/x/journal.0"));
        assert!(fires(Fault::WriteError, 1, "/journal"));
        assert!(!fires(Fault::WriteError, 1, "/journal"), "twice only");
        assert_eq!(faults.fired(), 2);
        faults.remove(id);
        assert!(!fires(Fault::WriteError, 1, "/journal"));
    }
}
