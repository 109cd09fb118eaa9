//! Keeps the log from being told the same refusal again and again.
//!
//! One shard. Invariant: a broker's refusal for one reason is told once, until a connection with that broker succeeds.

use std::cell::RefCell;
use std::collections::BTreeSet;

use model::BrokerId;

/// Refusals that are remembered. Beyond them nothing more is told: a flood of made-up numbers fills neither log nor memory.
const REMEMBERED_MAX: usize = 256;

/// Who refused whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Us,
    Them,
}

#[derive(Default)]
pub(crate) struct Told {
    refusals: RefCell<BTreeSet<(BrokerId, By, u8)>>,
}

impl Told {
    /// Whether to tell it now.
    pub(crate) fn is_new(&self, node: BrokerId, by: By, reason: u8) -> bool {
        let mut refusals = self.refusals.borrow_mut();
        refusals.len() < REMEMBERED_MAX && refusals.insert((node, by, reason))
    }

    /// All is well with that broker.
    pub(crate) fn forget(&self, node: BrokerId) {
        self.refusals.borrow_mut().retain(|(of, ..)| *of != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_until_all_is_well() {
        let told = Told::default();
        assert!(told.is_new(BrokerId(1), By::Us, 3));
        assert!(!told.is_new(BrokerId(1), By::Us, 3));
        assert!(told.is_new(BrokerId(1), By::Them, 3));
        assert!(told.is_new(BrokerId(2), By::Us, 3));
        told.forget(BrokerId(1));
        assert!(told.is_new(BrokerId(1), By::Us, 3));
        assert!(!told.is_new(BrokerId(2), By::Us, 3));
        let new = (0..1000).filter(|node| told.is_new(BrokerId(*node), By::Us, 9));
        assert_eq!(new.count(), REMEMBERED_MAX - 2);
    }
}
