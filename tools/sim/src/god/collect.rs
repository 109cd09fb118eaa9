//! Looks into a broker that runs: through its shards, from tasks of its own node.
//!
//! What is read from a log is read as for anybody, so a look may meet a disk that hangs; what could not be read in time
//! is not in the view. A look changes nothing but caches.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use model::record::Batches;
use model::{BrokerId, Offset, TopicPartition};
use runtime::sim::SimIo;
use runtime::{Io, TaskClass};
use shard::Shard;
use shard::partition::Partition;
use storage::ReadRequest;

use super::{
    Acknowledged, BatchMark, Holders, ImageMark, MetadataView, Place, Replica, ReplicaView,
};
use crate::cluster::{Broker, Start};
use crate::hash;
use crate::history::{Fate, History, TopicFate};

/// How long a look waits for what it reads.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it looks whether all is read.
const INTERVAL: Duration = Duration::from_micros(200);
/// Bytes of one read.
const READ_BYTES: usize = 256 << 10;

/// A broker that was looked at.
pub struct BrokerView {
    place: Place,
    replicas: Vec<Replica>,
    images: Vec<ImageMark>,
    holders: Vec<Holders>,
    is_complete: bool,
}

impl ReplicaView for BrokerView {
    fn place(&self) -> Place {
        self.place
    }

    fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl MetadataView for BrokerView {
    fn place(&self) -> Place {
        self.place
    }

    fn images(&self) -> &[ImageMark] {
        &self.images
    }

    fn controller(&self) -> Option<(i64, BrokerId)> {
        // The quorum is not wired yet: every broker decides for itself, without a term.
        None
    }

    fn holders(&self) -> &[Holders] {
        &self.holders
    }
}

/// What one shard has shown so far.
struct ShardSeen {
    image: ImageMark,
    holders: Vec<Holders>,
    replicas: Vec<Replica>,
    /// Every replica was read, and none changed its role meanwhile.
    is_complete: bool,
    is_done: bool,
}

/// Looks at a broker; nothing if it does not serve. `io` is where the look is waited for.
pub async fn look(broker: &Broker, io: &SimIo) -> Option<BrokerView> {
    if broker.progress() != Start::Done {
        return None;
    }
    let place = Place {
        node: broker.node(),
        broker: broker.id(),
        life: broker.lives(),
    };
    let mut shards = broker.shards();
    shards.sort_by_key(|shard| shard.id());
    let seen: Vec<Rc<RefCell<ShardSeen>>> = shards.into_iter().map(look_at_shard).collect();
    let deadline = io.now().plus(PATIENCE);
    while seen.iter().any(|seen| !seen.borrow().is_done) && io.now() < deadline {
        io.sleep(INTERVAL).await;
    }
    let mut view = BrokerView {
        place,
        replicas: Vec::new(),
        images: Vec::new(),
        holders: Vec::new(),
        is_complete: true,
    };
    for seen in seen {
        let mut seen = seen.borrow_mut();
        view.is_complete &= seen.is_done && seen.is_complete;
        view.images.push(seen.image);
        view.replicas.append(&mut seen.replicas);
        view.holders.append(&mut seen.holders);
    }
    Some(view)
}

/// Begins to read a shard's logs. Everything that needs no reading is seen at once.
fn look_at_shard(shard: Rc<Shard<SimIo>>) -> Rc<RefCell<ShardSeen>> {
    let (image, ids, holders) = {
        let image = shard.image();
        let hash = image.to_records().fold(hash::START, |hash, record| {
            hash::fold(hash, &record.encode())
        });
        let mark = ImageMark {
            shard: shard.id().0,
            end_offset: image.end_offset(),
            hash,
        };
        let mine = image.partitions().filter(|(id, state)| {
            state.has_replica(shard.options.broker) && shard.owner(*id) == shard.id()
        });
        let ids: Vec<TopicPartition> = mine.map(|(id, _)| id).collect();
        let holders = image.partitions().map(|(id, state)| Holders {
            partition: id,
            partition_epoch: state.partition_epoch,
            leader_epoch: state.leader_epoch,
            leader: state.leader,
            members: [&state.isr[..], state.eligible_leader_replicas()].concat(),
        });
        let is_first = shard.id().0 == 0;
        let holders = holders.filter(|_| is_first).collect();
        (mark, ids, holders)
    };
    let seen = Rc::new(RefCell::new(ShardSeen {
        image,
        holders,
        replicas: Vec::new(),
        is_complete: true,
        is_done: false,
    }));
    let told = seen.clone();
    // A task of the node: it ends with it, and so do the reads.
    shard.io.clone().spawn(TaskClass::Background, async move {
        for id in ids {
            let Some(partition) = shard.partition(id) else {
                continue;
            };
            match look_at_partition(&shard, &partition).await {
                Some(replica) => told.borrow_mut().replicas.push(replica),
                None => told.borrow_mut().is_complete = false,
            }
        }
        told.borrow_mut().is_done = true;
    });
    seen
}

/// One replica; nothing if it changed its role while it was read.
async fn look_at_partition(shard: &Shard<SimIo>, partition: &Partition) -> Option<Replica> {
    let log = &partition.log;
    let mut replica = Replica {
        partition: partition.id,
        log_start: log.log_start_offset(),
        log_end: log.log_end_offset(),
        durable_end: log.durable_end_offset(),
        high_watermark: partition.high_watermark(),
        leader_epoch: partition.leader_epoch(),
        leads: partition.leads(),
        batches: Vec::new(),
        read_to: log.log_start_offset(),
    };
    while replica.read_to < replica.log_end {
        let request = ReadRequest {
            from: replica.read_to,
            end: replica.log_end,
            bytes_max: READ_BYTES,
            at_least_one_batch: true,
        };
        // A fenced shard reads nothing from its disk, and a front that was deleted meanwhile is gone.
        let Ok(read) = shard.storage.read(log, request).await else {
            break;
        };
        if read.next_offset == replica.read_to {
            break;
        }
        for bytes in &read.batches {
            add_marks(&mut replica.batches, bytes);
        }
        replica.read_to = read.next_offset;
    }
    (partition.leader_epoch() == replica.leader_epoch).then_some(replica)
}

fn add_marks(marks: &mut Vec<BatchMark>, bytes: &[u8]) {
    for batch in Batches::new(bytes) {
        let (header, batch) = batch.expect("storage reads whole batches");
        marks.push(BatchMark {
            base: header.base_offset,
            last: Offset(header.next_offset().0 - 1),
            epoch: header.leader_epoch,
            hash: hash::of_batch(batch),
        });
    }
}

/// What clients have been told to be on every in-sync replica, of topics that nobody asked to delete.
pub fn acknowledged(history: &History) -> Vec<Acknowledged> {
    let facts = history.facts();
    let alive = facts.topics.iter();
    let alive: Vec<_> = alive
        .filter(|topic| topic.fate == TopicFate::Alive)
        .map(|topic| topic.id)
        .collect();
    let batches = facts.batches.values();
    let batches = batches.filter(|batch| batch.acks_all && alive.contains(&batch.partition.topic));
    batches
        .filter_map(|batch| match batch.fate {
            Fate::Acknowledged(base) => Some(Acknowledged {
                partition: batch.partition,
                base,
                last: Offset(base.0 + i64::from(batch.records) - 1),
                hash: batch.hash,
            }),
            Fate::Failed | Fate::Indeterminate => None,
        })
        .collect()
}
