//! One coordinator with what its driver remembers: who waits for which reply, and which records are on their way.
//!
//! Owned by one shard. Nothing here awaits or performs: the callers look at what there is to do.
//! Invariant: the machine hears of appends in their order, whatever order the log answers in.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use coordinator::{
    AppendFailure, AppendId, GroupCoordinator, GroupReply, GroupRequest, GroupSettings, KeyValue,
    Now, Output, RequestToken,
};
use model::{MonotonicTime, Offset, TopicPartition};

use super::Listing;
use crate::message::{GroupQuestion, ReplyTo};

/// Where a reply goes.
pub(super) enum Destination {
    /// To whoever asked.
    Asker(ReplyTo<GroupQuestion>),
    /// Into the list of all groups of the shard.
    Listing(Rc<RefCell<Option<Listing>>>),
}

/// Records that the machine wants in the log as one unit.
pub(super) struct PendingAppend {
    pub(super) id: AppendId,
    pub(super) records: Vec<KeyValue>,
}

impl PendingAppend {
    /// Size of its records in a batch, about.
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().map(record_bytes).sum()
    }
}

/// Size of a record in a batch, about: key, value and a dozen bytes around them.
pub(super) fn record_bytes((key, value): &KeyValue) -> usize {
    key.len() + value.as_ref().map_or(0, bytes::Bytes::len) + 12
}

/// What a batch in flight is about.
pub(super) enum Purpose {
    /// Units of the machine, each with the offset of its first record.
    Appends(Vec<(AppendId, Offset)>),
    /// The whole state was written again from this offset on: what lies before is not needed any more.
    Rewrite {
        /// First offset of the new state.
        start: Offset,
    },
}

struct InFlight {
    number: u64,
    purpose: Purpose,
    outcome: Option<Result<(), AppendFailure>>,
}

struct State {
    machine: GroupCoordinator,
    waiting: BTreeMap<RequestToken, Destination>,
    token_last: u64,
    pending: VecDeque<PendingAppend>,
    in_flight: VecDeque<InFlight>,
    batch_last: u64,
    /// Bytes that a load would have to read now.
    load_bytes: usize,
    /// The state is written again when there is more than this to load.
    rewrite_at: usize,
}

/// The coordinator of one partition.
pub(super) struct Hosted {
    pub(super) id: TopicPartition,
    /// It is in the appender's queue.
    pub(super) queued: Cell<bool>,
    /// The partition is not led here any more.
    closed: Cell<bool>,
    /// The whole log was replayed.
    loaded: Cell<bool>,
    state: RefCell<State>,
}

/// Bytes of log before the first rewrite: reading them takes a fraction of a second.
pub(super) const LOAD_BYTES_BEFORE_REWRITE: usize = 32 << 20;

/// The log may grow to this many times the live state before it is written again: a quarter of all writing at most.
const LOAD_BYTES_PER_LIVE_BYTE: usize = 4;

impl Hosted {
    pub(super) fn new(id: TopicPartition, settings: GroupSettings) -> Rc<Hosted> {
        Rc::new(Hosted {
            id,
            queued: Cell::new(false),
            closed: Cell::new(false),
            loaded: Cell::new(false),
            state: RefCell::new(State {
                machine: GroupCoordinator::new(settings),
                waiting: BTreeMap::new(),
                token_last: 0,
                pending: VecDeque::new(),
                in_flight: VecDeque::new(),
                batch_last: 0,
                load_bytes: 0,
                rewrite_at: LOAD_BYTES_BEFORE_REWRITE,
            }),
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn handle(&self, now: Now, request: GroupRequest, destination: Destination) {
        let mut state = self.state.borrow_mut();
        state.token_last += 1;
        let token = RequestToken(state.token_last);
        state.waiting.insert(token, destination);
        state.machine.handle(now, token, request);
    }

    /// Whether something was due.
    pub(super) fn handle_timeout(&self, now: Now) -> bool {
        let machine = &mut self.state.borrow_mut().machine;
        let due = machine
            .next_timeout()
            .is_some_and(|timeout| timeout <= now.monotonic);
        if due {
            machine.handle_timeout(now);
        }
        due
    }

    pub(super) fn timeout(&self) -> Option<MonotonicTime> {
        self.state.borrow().machine.next_timeout()
    }

    /// Applies a record of the log while loading.
    pub(super) fn replay(&self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let replayed = self.state.borrow_mut().machine.replay(key, value);
        if let Err(error) = replayed {
            tracing::warn!(partition = %self.id, %error, "a record of the offsets topic is skipped");
        }
    }

    pub(super) fn finish_loading(&self, now: Now) {
        self.loaded.set(true);
        self.state.borrow_mut().machine.finish_loading(now);
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.get()
    }

    pub(super) fn committed_topics(&self) -> BTreeSet<Arc<str>> {
        self.state.borrow().machine.committed_topics()
    }

    /// Topics were deleted: the offsets that were committed for them go, too.
    pub(super) fn topics_deleted(&self, now: Now, topics: &BTreeSet<Arc<str>>) {
        let machine = &mut self.state.borrow_mut().machine;
        machine.topics_deleted(now, topics);
    }

    /// Whether deletions of offsets are on their way to the log.
    pub(super) fn has_deletions_in_flight(&self) -> bool {
        self.state.borrow().machine.has_deletions_in_flight()
    }

    /// Bytes were read or appended that the next load will read.
    pub(super) fn add_load_bytes(&self, bytes: usize) {
        self.state.borrow_mut().load_bytes += bytes;
    }

    pub(super) fn resign(&self, now: Now) {
        self.closed.set(true);
        let mut state = self.state.borrow_mut();
        state.machine.resign(now);
        state.pending.clear();
        state.in_flight.clear();
    }

    /// Takes the replies that are due; records for the log are kept for the appender.
    pub(super) fn take_replies(&self) -> Vec<(Destination, GroupReply)> {
        let mut state = self.state.borrow_mut();
        let mut replies = Vec::new();
        while let Some(output) = state.machine.poll_output() {
            match output {
                Output::Persist { append, records } => state.pending.push_back(PendingAppend {
                    id: append,
                    records,
                }),
                Output::Reply { request, reply } => {
                    let destination = state.waiting.remove(&request);
                    let destination = destination.expect("a request is answered once");
                    replies.push((destination, reply));
                }
            }
        }
        replies
    }

    /// Whether the appender has something to do. A due rewrite waits until nothing is in flight, and then goes first.
    pub(super) fn has_work_for_log(&self) -> bool {
        let state = self.state.borrow();
        !state.pending.is_empty() && (!state.is_rewrite_due() || state.in_flight.is_empty())
    }

    /// Whether the state is to be written again before anything else.
    pub(super) fn is_rewrite_due(&self) -> bool {
        self.state.borrow().is_rewrite_due()
    }

    /// Takes as many units as fit into a batch, at least one if there is one.
    pub(super) fn take_pending(&self, bytes_max: usize) -> Vec<PendingAppend> {
        let mut state = self.state.borrow_mut();
        let mut taken: Vec<PendingAppend> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = state.pending.front() {
            bytes += next.bytes();
            if !taken.is_empty() && bytes > bytes_max {
                break;
            }
            taken.extend(state.pending.pop_front());
        }
        taken
    }

    /// A batch is on its way into the log; returns its number.
    pub(super) fn sent(&self, purpose: Purpose) -> u64 {
        let mut state = self.state.borrow_mut();
        state.batch_last += 1;
        let number = state.batch_last;
        state.in_flight.push_back(InFlight {
            number,
            purpose,
            outcome: None,
        });
        number
    }

    /// What became of a batch. The machine is told about it and those behind it that were ready earlier, in order.
    /// Returns the new start of the log, if the state was written again.
    pub(super) fn finished(
        &self,
        now: Now,
        number: u64,
        outcome: Result<(), AppendFailure>,
    ) -> Option<Offset> {
        let mut state = self.state.borrow_mut();
        let batch = state.in_flight.iter_mut().find(|b| b.number == number)?;
        batch.outcome = Some(outcome);
        let mut new_start = None;
        while let Some(front) = state.in_flight.front()
            && let Some(outcome) = front.outcome
        {
            match state.in_flight.pop_front().map(|batch| batch.purpose) {
                Some(Purpose::Appends(units)) => {
                    for (append, offset) in units {
                        let result = outcome.map(|()| offset);
                        state.machine.persisted(now, append, result);
                    }
                }
                Some(Purpose::Rewrite { start }) if outcome.is_ok() => new_start = Some(start),
                Some(Purpose::Rewrite { .. }) | None => {}
            }
        }
        new_start
    }

    /// The whole durable state as records.
    pub(super) fn snapshot(&self) -> Vec<KeyValue> {
        use coordinator::records::{group_key, group_value, offset_key, offset_value};
        let state = self.state.borrow();
        let mut records: Vec<KeyValue> = Vec::new();
        for (id, group) in state.machine.durable_groups() {
            if let Some(metadata) = group.metadata() {
                records.push((group_key(id), Some(group_value(metadata))));
            }
            for (topic, partition, offset) in group.offsets() {
                let key = offset_key(id, topic, partition);
                records.push((key, Some(offset_value(offset))));
            }
        }
        records
    }

    /// The state was written again in `live_bytes`, of `load_bytes` that are to be read until the log starts there.
    pub(super) fn rewritten(&self, live_bytes: usize) {
        let mut state = self.state.borrow_mut();
        state.load_bytes = live_bytes;
        let allowed = live_bytes.saturating_mul(LOAD_BYTES_PER_LIVE_BYTE);
        state.rewrite_at = allowed.max(LOAD_BYTES_BEFORE_REWRITE);
    }

    /// The state could not be written again: not before the log has grown once more.
    pub(super) fn postpone_rewrite(&self) {
        let mut state = self.state.borrow_mut();
        state.rewrite_at = state.load_bytes.saturating_add(LOAD_BYTES_BEFORE_REWRITE);
    }
}

impl State {
    fn is_rewrite_due(&self) -> bool {
        self.load_bytes > self.rewrite_at
    }
}
