//! The check of what would hold others up: compressed batches, and large ones.
//!
//! Done by the shard that took the request, in the task of its connection, before the request goes on to the shards
//! that own its partitions. So the order of one connection's requests stays what it was, in every partition: the next
//! one is not looked at before this one has gone on. And the owners' queues never stand still behind one client.
//!
//! A batch that needs little is checked at once, in memory kept for that. Any other waits for its share of
//! [`MEMORY_BYTES`] and is then checked in slices, one slice of one batch in a round of the executor
//! ([`BatchChecks::turn`]), however many there are: whoever does something else waits for one slice.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use indexmap::IndexMap;
use model::TopicId;
use model::record::{
    BatchCheck, CheckedBatch, DecompressionScratch, HEADER_LEN, ValidationError, ValidationRules,
};
use runtime::{Budget, Io};

use crate::metadata_cache::MetadataCache;
use crate::partition_rules::PartitionRules;
use crate::partitions::Partitions;
use crate::request::{Checked, Produce};

/// A batch whose check takes no more than this is checked at once: some 2 ms of the slowest codec.
const AT_ONCE_BYTES_MAX: usize = 1 << 20;
/// Memory that this may need: a zstd window of 8 MiB.
const AT_ONCE_MEMORY_BYTES_MAX: usize = 10 << 20;
/// Work between two looks at whether others want to run.
const SLICE_BYTES: usize = 64 << 10;
/// Memory of all checks in slices. One that needs more (zstd with a window of 128 MiB) has it alone.
const MEMORY_BYTES: usize = 64 << 20;
/// Requests of uncompressed records up to this are checked where they are appended.
const UNCHECKED_BYTES_MAX: usize = 1 << 20;
/// Where a batch says how it is compressed: the low byte of its attributes.
const CODEC_PLACE: usize = 22;
const CODEC_MASK: u8 = 7;

/// What one shard's checks share.
pub(crate) struct BatchChecks<I: Io> {
    io: I,
    cache: Rc<MetadataCache>,
    partitions: Rc<Partitions<I>>,
    /// What one request may decompress to, in bytes.
    request_decompressed_bytes_max: u64,
    memory: Rc<Budget>,
    /// Held over a slice and the others' turn behind it.
    turn: Rc<Budget>,
    at_once: RefCell<DecompressionScratch>,
    /// Rules of topics whose partitions other shards own; forgotten when any topic changes.
    rules: RefCell<IndexMap<TopicId, Rc<PartitionRules>>>,
}

/// Whether the records of a request are checked before it goes to the owners of its partitions.
fn is_checked_early(produce: &Produce) -> bool {
    let is_compressed = |records: &Bytes| {
        let attributes = records.get(CODEC_PLACE);
        attributes.is_some_and(|byte| byte & CODEC_MASK != 0)
    };
    let mut parts = produce.partitions.iter();
    parts.any(|part| is_compressed(&part.records)) || produce.bytes() > UNCHECKED_BYTES_MAX
}

impl<I: Io> BatchChecks<I> {
    pub(crate) fn new(
        io: I,
        cache: Rc<MetadataCache>,
        partitions: Rc<Partitions<I>>,
        request_decompressed_bytes_max: u64,
    ) -> BatchChecks<I> {
        BatchChecks {
            io,
            cache,
            partitions,
            request_decompressed_bytes_max,
            memory: Budget::new(MEMORY_BYTES),
            turn: Budget::new(1),
            at_once: RefCell::default(),
            rules: RefCell::default(),
        }
    }

    /// A topic was configured or deleted.
    pub(crate) fn forget_rules(&self) {
        self.rules.borrow_mut().clear();
    }

    /// Checks the records of a request if that may take long. Whoever keeps an order among requests awaits this before
    /// the next one.
    pub(crate) async fn check(&self, produce: &mut Produce) {
        if !is_checked_early(produce) {
            return;
        }
        let limit = self.request_decompressed_bytes_max;
        let mut left = limit;
        let zstd_allowed = produce.zstd_allowed;
        for part in &mut produce.partitions {
            let rules = self.rules_of(part.id);
            let validation = ValidationRules {
                zstd_allowed,
                ..rules.validation
            };
            let records = part.records.clone();
            let bound = RequestBound { left, limit };
            let result = self.check_batch(&records, &validation, &rules, bound).await;
            part.checked = match result {
                Ok((mut checked, decompressed_bytes)) => {
                    left = left
                        .checked_sub(decompressed_bytes)
                        .expect("the check stops at what is left");
                    part.records = match checked.recompressed.take() {
                        Some(batch) => batch,
                        None => records,
                    };
                    Checked::Good(Box::new(checked))
                }
                Err(error) => Checked::Refused(Box::new(error)),
            };
            self.io.yield_if_needed().await;
        }
    }

    async fn check_batch(
        &self,
        records: &[u8],
        validation: &ValidationRules,
        rules: &PartitionRules,
        bound: RequestBound,
    ) -> Result<(CheckedBatch, u64), ValidationError> {
        let now = self.io.wall_clock();
        let mut check = BatchCheck::begin(records, validation, rules.recompress, now)?;
        check.bound_request(bound.left, bound.limit);
        let memory_bytes = check.memory_bytes()?;
        if memory_bytes <= AT_ONCE_MEMORY_BYTES_MAX {
            let mut scratch = self.at_once.borrow_mut();
            if let Some(checked) = check.step(AT_ONCE_BYTES_MAX, &mut scratch)? {
                let decompressed_bytes = check.decompressed_bytes();
                check.restart(&mut scratch);
                return Ok((checked, decompressed_bytes));
            }
            // What was done is done again: less than what it would cost to hold its memory without a bound.
            check.restart(&mut scratch);
        }
        let _memory = self.memory.reserve(memory_bytes).await;
        let mut scratch = DecompressionScratch::new();
        loop {
            let _turn = self.turn.reserve(1).await;
            let checked = check.step(SLICE_BYTES, &mut scratch)?;
            if let Some(checked) = checked {
                return Ok((checked, check.decompressed_bytes()));
            }
            self.io.yield_if_needed().await;
        }
    }

    /// The rules of a partition of any shard. One that is not known is refused by the shard that would own it.
    fn rules_of(&self, id: model::TopicPartition) -> Rc<PartitionRules> {
        if let Some(partition) = self.partitions.get(id) {
            return partition.rules();
        }
        if let Some(rules) = self.rules.borrow().get(&id.topic) {
            return rules.clone();
        }
        let topic = self.cache.image().topic_by_id(id.topic).cloned();
        let Some(topic) = topic else {
            return Rc::new(PartitionRules::unknown());
        };
        let rules = Rc::new(self.partitions.topic_rules(&topic));
        self.rules.borrow_mut().insert(id.topic, rules.clone());
        rules
    }
}

/// What the batches of one request may still decompress to.
#[derive(Clone, Copy)]
struct RequestBound {
    left: u64,
    limit: u64,
}

const _: () = assert!(CODEC_PLACE < HEADER_LEN);
