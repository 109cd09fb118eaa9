//! Counters of one shard, and what several shards' counters add up to.
//!
//! A counter is a plain cell: no atomic, no lock, no name. The crate that counts gives names when it takes a
//! [`Snapshot`]; snapshots are `Send`, travel to whoever shows them and merge there.

use std::cell::Cell;
use std::collections::BTreeMap;

/// Counts up, for ever. Wraps after 2^64.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// What was added so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// An amount that goes up and down: connections, queued bytes.
#[derive(Debug, Default)]
pub struct Gauge(Cell<u64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.set(value);
    }

    /// Adds `count`, saturating.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().saturating_add(count));
    }

    /// Takes `count` away, saturating.
    pub fn subtract(&self, count: u64) {
        self.0.set(self.0.get().saturating_sub(count));
    }

    /// The amount now.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Named values at one moment. Names are in snake case with the unit last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    values: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    /// A snapshot without values.
    pub fn new() -> Snapshot {
        Snapshot::default()
    }

    /// Adds a value to what is under that name.
    pub fn add(&mut self, name: &'static str, value: u64) {
        let total = self.values.entry(name).or_default();
        *total = total.wrapping_add(value);
    }

    /// Adds all values of another shard's snapshot.
    pub fn merge(&mut self, other: &Snapshot) {
        for (name, value) in &other.values {
            self.add(name, *value);
        }
    }

    /// What changed since an earlier snapshot of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let values = self.values.iter().map(|(name, value)| {
            let before = earlier.get(name);
            (*name, value.wrapping_sub(before))
        });
        Snapshot {
            values: values.collect(),
        }
    }

    /// The value under a name; zero if there is none.
    pub fn get(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// Names and values in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.values.iter().map(|(name, value)| (*name, *value))
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Gauge, Snapshot};

    #[test]
    fn snapshots_of_shards_add_up() {
        let counter = Counter::default();
        counter.increment();
        counter.add(4);
        let gauge = Gauge::default();
        gauge.set(3);
        gauge.add(2);
        gauge.subtract(9);
        let mut first = Snapshot::new();
        first.add("requests", counter.get());
        first.add("connections", gauge.get());
        let mut total = first.clone();
        total.merge(&first);
        let values: Vec<_> = total.iter().collect();
        assert_eq!(values, [("connections", 0), ("requests", 10)]);
        assert_eq!(total.since(&first).get("requests"), 5);
        assert_eq!(total.get("unknown"), 0);
    }
}
