//! What was handed out to be written and is not durable yet, and the messages that wait for it.
//!
//! Pure. That a message waits is no matter of the driver's care: it gets the message only after it has said that the write
//! is durable.
//! Invariants: writes are numbered without a gap and become durable in order; messages that wait leave in order.

use std::collections::VecDeque;

use crate::effects::{HardState, WriteNumber};
use crate::message::Message;

/// Most writes under way: with more, messages of peers that ask for another are dropped.
pub(crate) const WRITES_MAX: usize = 128;
/// Most messages that wait for one write; more are dropped, as a network may do.
const WAITING_MAX: usize = 1024;

/// An entry by place and term.
pub(crate) type Id = (u64, u64);

/// One write that is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) number: WriteNumber,
    pub(crate) state: Option<HardState>,
    /// The last entry of the snapshot that it installs.
    pub(crate) install: Option<u64>,
    /// The last entry that it appends and that no later write has cut off.
    pub(crate) last: Option<Id>,
    /// The first that it appends.
    pub(crate) first: u64,
    pub(crate) bytes: usize,
    waiting: Vec<Message>,
}

/// The writes under way.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    latest: WriteNumber,
    pending: VecDeque<Pending>,
    bytes: usize,
}

/// What a write asks for, as far as it matters here.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) state: Option<HardState>,
    pub(crate) install: Option<u64>,
    pub(crate) first: u64,
    pub(crate) last: Option<Id>,
    pub(crate) bytes: usize,
}

impl Writes {
    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Count of writes under way.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The write that must become durable first.
    pub(crate) fn oldest(&self) -> Option<WriteNumber> {
        self.pending.front().map(|pending| pending.number)
    }

    /// Bytes of entries under way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a write; returns its number.
    pub(crate) fn add(&mut self, asked: Asked) -> WriteNumber {
        self.latest.0 += 1;
        self.bytes += asked.bytes;
        self.pending.push_back(Pending {
            number: self.latest,
            state: asked.state,
            install: asked.install,
            first: asked.first,
            last: asked.last,
            bytes: asked.bytes,
            waiting: Vec::new(),
        });
        self.latest
    }

    /// The log goes on behind `keep` from here: what writes under way add behind it does not count when they are durable.
    /// Otherwise an entry that is cut off and later written once more would count as durable before it is. `None` if
    /// nothing of the log stays.
    pub(crate) fn clip(&mut self, keep: Option<Id>) {
        for pending in &mut self.pending {
            let Some((last, _)) = pending.last else {
                continue;
            };
            match keep {
                Some((index, _)) if last <= index => {}
                Some((index, term)) if pending.first <= index => pending.last = Some((index, term)),
                _ => pending.last = None,
            }
        }
    }

    /// A message that may leave only when everything under way is durable. Gives it back if nothing is.
    pub(crate) fn hold(&mut self, message: Message) -> Option<Message> {
        let Some(pending) = self.pending.back_mut() else {
            return Some(message);
        };
        if pending.waiting.len() < WAITING_MAX {
            pending.waiting.push(message);
        }
        None
    }

    /// Takes the next write that is durable now that everything up to `number` is.
    ///
    /// Panics on a number that was never given.
    pub(crate) fn next_durable(&mut self, number: WriteNumber) -> Option<(Pending, Vec<Message>)> {
        assert!(number <= self.latest, "{number:?} was never handed out");
        if self.pending.front()?.number > number {
            return None;
        }
        let mut pending = self.pending.pop_front().expect("looked at above");
        self.bytes -= pending.bytes;
        let waiting = std::mem::take(&mut pending.waiting);
        Some((pending, waiting))
    }

    /// Forgets everything: nothing will become durable any more.
    pub(crate) fn abandon(&mut self) {
        self.pending.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appends(first: u64, last: Id) -> Asked {
        Asked {
            first,
            last: Some(last),
            bytes: 10,
            ..Asked::default()
        }
    }

    #[test]
    fn what_a_later_write_cuts_off_does_not_count() {
        // (kept, last that counts of a write that appends 6 to 8 in term 2)
        let table = [
            (Some((8, 2)), Some((8, 2))),
            (Some((9, 3)), Some((8, 2))),
            (Some((6, 2)), Some((6, 2))),
            (Some((5, 1)), None),
            (None, None),
        ];
        for (keep, expected) in table {
            let mut writes = Writes::default();
            let number = writes.add(appends(6, (8, 2)));
            writes.clip(keep);
            let (pending, _) = writes.next_durable(number).unwrap();
            assert_eq!(pending.last, expected, "{keep:?}");
            assert!(writes.is_empty() && writes.bytes() == 0);
        }
    }

    #[test]
    fn writes_become_durable_in_order() {
        let mut writes = Writes::default();
        for index in 1..=3 {
            writes.add(appends(index, (index, 1)));
        }
        assert_eq!((writes.len(), writes.bytes()), (3, 30));
        let mut durable = Vec::new();
        while let Some((pending, _)) = writes.next_durable(WriteNumber(2)) {
            durable.push(pending.number.0);
        }
        assert_eq!((durable, writes.len()), (vec![1, 2], 1));
    }

    #[test]
    #[should_panic(expected = "never handed out")]
    fn nothing_is_durable_that_was_not_asked_for() {
        Writes::default().next_durable(WriteNumber(1));
    }
}
