//! What clients did and saw during one run, and everything that can be judged the moment it is seen.
//!
//! Shared by the tasks of the client node and the scenario, never by the broker. Each operation is acknowledged, failed
//! or *indeterminate*: a request without an answer may have happened, or may still (reliability.md 1.3).
//! Invariants: a violation, once noted, stays; offsets and contents that a client has seen are never forgotten.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};

use model::{ErrorCode, Offset, PartitionIndex, ProducerId, TopicId, TopicPartition};

use crate::payload::{BatchId, RecordId};

/// The names of topics that expire begin so: only the course that made them writes to them.
pub const EXPIRING: &str = "expires-";
/// Violations kept in words; more are only counted.
const VIOLATIONS_MAX: usize = 12;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No answer yet, or none at all.
    Indeterminate,
    /// Acknowledged, at this base offset.
    Acknowledged(Offset),
    /// Refused, with nothing written.
    Failed,
}

/// A batch that was sent.
#[derive(Clone, Debug)]
pub struct SentBatch {
    /// Where to.
    pub partition: TopicPartition,
    /// Records in it.
    pub records: u32,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Of its bytes: see [`crate::hash::of_batch`].
    pub hash: u64,
    /// Batches of one producer and stream keep their order: a connection, or the life of an idempotent producer.
    pub stream: u64,
    /// Whether an acknowledgement says that every in-sync replica has it, or only that the leader does.
    pub acks_all: bool,
    /// How it ended.
    pub fate: Fate,
    /// Where its first record was seen.
    pub seen_at: Option<Offset>,
}

/// What is known of a partition.
#[derive(Clone, Debug, Default)]
pub struct SeenPartition {
    /// Records that were read, by offset.
    pub records: BTreeMap<Offset, RecordId>,
    /// The highest high watermark that a client was told.
    pub high_watermark: Offset,
    /// The highest offset that somebody asked to delete up to.
    pub start_max: Offset,
}

/// Whether a topic must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicFate {
    /// Created, and nobody asked to delete it.
    Alive,
    /// Deletion was asked for; no answer so far.
    Deleting,
    /// Deletion was acknowledged.
    Deleted,
}

/// A topic of the workload.
#[derive(Clone, Debug)]
pub struct KnownTopic {
    /// Unique in the run: names are never used twice.
    pub name: String,
    /// Given by the broker.
    pub id: TopicId,
    /// Partitions.
    pub partitions: i32,
    /// Whether it must be there.
    pub fate: TopicFate,
}

/// Offsets that a group committed for one partition.
#[derive(Clone, Debug, Default)]
pub struct Commits {
    /// Acknowledged last.
    pub acknowledged: Option<Offset>,
    /// Without an answer: may count at any time.
    pub indeterminate: BTreeSet<Offset>,
}

/// How much happened, to know that a run tested something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// Batches refused.
    pub failed: u64,
    /// Batches without an answer.
    pub indeterminate: u64,
    /// Idempotent batches sent again.
    pub retried: u64,
    /// Records read, again and again.
    pub records_read: u64,
    /// Fetches answered within an incremental session.
    pub session_fetches: u64,
    /// Offsets committed.
    pub commits: u64,
    /// Topics deleted.
    pub topics_deleted: u64,
    /// Lives of the broker that ended.
    pub stops: u64,
    /// Among them, those that ended before recovery did.
    pub stops_in_recovery: u64,
    /// Faults that fenced a shard.
    pub fences: u64,
    /// How often the disk was full to the last.
    pub full: u64,
    /// Snapshots of the metadata log.
    pub metadata_snapshots: u64,
    /// What a nemesis did.
    pub harms: u64,
    /// How often somebody looked into a broker.
    pub looks: u64,
}

impl Tallies {
    /// Adds up.
    pub fn add(&mut self, other: &Tallies) {
        let pairs = [
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.failed, other.failed),
            (&mut self.indeterminate, other.indeterminate),
            (&mut self.retried, other.retried),
            (&mut self.records_read, other.records_read),
            (&mut self.session_fetches, other.session_fetches),
            (&mut self.commits, other.commits),
            (&mut self.topics_deleted, other.topics_deleted),
            (&mut self.stops, other.stops),
            (&mut self.stops_in_recovery, other.stops_in_recovery),
            (&mut self.fences, other.fences),
            (&mut self.full, other.full),
            (&mut self.metadata_snapshots, other.metadata_snapshots),
            (&mut self.harms, other.harms),
            (&mut self.looks, other.looks),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}

/// What happened.
#[derive(Default)]
pub struct Facts {
    /// Every batch that was sent.
    pub batches: BTreeMap<BatchId, SentBatch>,
    /// Every partition that was heard of.
    pub partitions: BTreeMap<TopicPartition, SeenPartition>,
    /// Every topic whose creation was acknowledged.
    pub topics: Vec<KnownTopic>,
    /// By group and partition.
    pub commits: BTreeMap<(String, TopicPartition), Commits>,
    /// Ids that idempotent producers were given.
    pub producer_ids: BTreeSet<ProducerId>,
    /// Counts.
    pub tallies: Tallies,
}

/// See the module's text.
#[derive(Default)]
pub struct History {
    facts: RefCell<Facts>,
    violations: RefCell<Vec<String>>,
    violation_count: Cell<u64>,
    stopping: Cell<bool>,
    held: Cell<bool>,
    last_refusal: RefCell<String>,
    working: Cell<usize>,
}

impl History {
    /// What happened so far. Not to be held across an await.
    pub fn facts(&self) -> Ref<'_, Facts> {
        self.facts.borrow()
    }

    /// The same, to be added to.
    pub fn facts_mut(&self) -> RefMut<'_, Facts> {
        self.facts.borrow_mut()
    }

    /// Notes that a promise was broken.
    pub fn violation(&self, what: String) {
        self.violation_count.set(self.violation_count.get() + 1);
        let mut violations = self.violations.borrow_mut();
        if violations.len() < VIOLATIONS_MAX {
            violations.push(what);
        }
    }

    /// The promises that were broken; the first ones.
    pub fn violations(&self) -> Vec<String> {
        self.violations.borrow().clone()
    }

    /// How many there were.
    pub fn violation_count(&self) -> u64 {
        self.violation_count.get()
    }

    /// Whether clients should finish what they have begun and end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Tells clients to finish.
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// Makes clients of the workload pause before their next round, or lets them go on.
    pub fn hold(&self, held: bool) {
        self.held.set(held);
    }

    /// Whether they pause.
    pub fn is_held(&self) -> bool {
        self.held.get()
    }

    /// Notes a refusal after which a batch is sent again.
    pub fn refused(&self, what: String) {
        *self.last_refusal.borrow_mut() = what;
    }

    /// The last one: what a client that never ends is likely to wait for.
    pub fn last_refusal(&self) -> String {
        self.last_refusal.borrow().clone()
    }

    /// A client task begins.
    pub fn begin(&self) {
        self.working.set(self.working.get() + 1);
    }

    /// A client task has ended.
    pub fn end(&self) {
        self.working.set(self.working.get() - 1);
    }

    /// Client tasks that have not ended.
    pub fn working(&self) -> usize {
        self.working.get()
    }

    /// A batch is about to be sent for the first time.
    pub fn sent(&self, id: BatchId, batch: SentBatch) {
        let previous = self.facts_mut().batches.insert(id, batch);
        assert!(previous.is_none(), "batch ids are unique");
    }

    /// A batch is sent for the leader alone to acknowledge, or nobody.
    pub fn relies_on_leader(&self, id: BatchId) {
        let mut facts = self.facts_mut();
        let batch = facts.batches.get_mut(&id).expect("it is noted first");
        batch.acks_all = false;
    }

    /// A batch was answered.
    pub fn settle(&self, id: BatchId, fate: Fate) {
        let mut facts = self.facts_mut();
        match fate {
            Fate::Acknowledged(_) => facts.tallies.acknowledged += 1,
            Fate::Failed => facts.tallies.failed += 1,
            Fate::Indeterminate => facts.tallies.indeterminate += 1,
        }
        let batch = facts
            .batches
            .get_mut(&id)
            .expect("settled after it was sent");
        batch.fate = fate;
    }

    /// Whether somebody asked to delete the topic of a partition.
    pub fn may_be_deleted(&self, id: TopicId) -> bool {
        let facts = self.facts();
        let topic = facts.topics.iter().find(|topic| topic.id == id);
        topic.is_none_or(|topic| topic.fate != TopicFate::Alive)
    }

    /// Partitions of the topics that nobody asked to delete.
    pub fn alive(&self) -> Vec<(String, TopicPartition)> {
        let facts = self.facts();
        let alive = facts
            .topics
            .iter()
            .filter(|topic| topic.fate == TopicFate::Alive);
        alive
            .flat_map(|topic| {
                (0..topic.partitions).map(|index| {
                    let partition = PartitionIndex(index);
                    (
                        topic.name.clone(),
                        TopicPartition {
                            topic: topic.id,
                            partition,
                        },
                    )
                })
            })
            .collect()
    }

    /// Those of them that the workload writes to.
    pub fn writable(&self) -> Vec<(String, TopicPartition)> {
        let mut alive = self.alive();
        alive.retain(|(topic, _)| !topic.starts_with(EXPIRING));
        alive
    }

    /// A broker says that a partition does not exist: fine only if somebody asked for its deletion.
    pub fn unknown(&self, partition: TopicPartition, code: i16, what: &str) {
        if !self.may_be_deleted(partition.topic) {
            let code = ErrorCode::from_code(code);
            self.violation(format!(
                "{what}: {partition} is unknown ({code:?}) but was never deleted"
            ));
        }
    }

    /// The high watermark that a request must not be answered below: the highest that anyone was told before it was
    /// sent.
    pub fn high_watermark_floor(&self, partition: TopicPartition) -> Offset {
        let facts = self.facts();
        facts
            .partitions
            .get(&partition)
            .map_or(Offset::ZERO, |seen| seen.high_watermark)
    }

    /// The highest offset that somebody asked to delete up to: a log starts there or below.
    pub fn start_max(&self, partition: TopicPartition) -> Offset {
        let facts = self.facts();
        facts
            .partitions
            .get(&partition)
            .map_or(Offset::ZERO, |seen| seen.start_max)
    }

    /// A client was told a high watermark, in answer to a request sent when `floor` was the highest known.
    pub fn saw_high_watermark(&self, partition: TopicPartition, told: Offset, floor: Offset) {
        if told < floor {
            self.violation(format!(
                "{partition}: the high watermark went back from {floor} to {told}"
            ));
        }
        let mut facts = self.facts_mut();
        let seen = facts.partitions.entry(partition).or_default();
        seen.high_watermark = seen.high_watermark.max(told);
    }

    /// A client read a record.
    pub fn saw_record(
        &self,
        partition: TopicPartition,
        offset: Offset,
        id: RecordId,
        bytes: usize,
    ) {
        if let Err(what) = self.place_record(partition, offset, id, bytes) {
            self.violation(format!("{partition} at {offset}: {what}"));
        }
    }

    fn place_record(
        &self,
        partition: TopicPartition,
        offset: Offset,
        id: RecordId,
        bytes: usize,
    ) -> Result<(), String> {
        let mut facts = self.facts_mut();
        facts.tallies.records_read += 1;
        let seen = facts.partitions.entry(partition).or_default();
        let before = *seen.records.entry(offset).or_insert(id);
        if before != id {
            return Err(format!("{id:?} where {before:?} was read before"));
        }
        let Some(batch) = facts.batches.get_mut(&id.batch) else {
            return Err(format!("{id:?} was never sent"));
        };
        if batch.partition != partition || id.index >= batch.records || bytes != batch.value_bytes {
            return Err(format!("{id:?} is not as it was sent: {batch:?}"));
        }
        let base = Offset(offset.0 - i64::from(id.index));
        match batch.fate {
            Fate::Failed => return Err(format!("{id:?} was refused, and is there")),
            Fate::Acknowledged(acknowledged) if acknowledged != base => {
                return Err(format!(
                    "{id:?} was acknowledged at base {acknowledged}, is at {base}"
                ));
            }
            Fate::Acknowledged(_) | Fate::Indeterminate => {}
        }
        match *batch.seen_at.get_or_insert(base) {
            known if known == base => Ok(()),
            known => Err(format!("{id:?} is twice there, at base {known} and {base}")),
        }
    }
}
