//! One core's share of the broker.
//!
//! Lives on one executor for the life of the process. Everything it holds belongs to it alone; other shards reach it
//! by message. Its long-lived tasks: the dispatcher of its inbox, two kinds of workers for requests that must wait
//! (remote produce and reads), the tick, and on shard 0 the controller.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use metadata::MetadataImage;
use metadata::controller::BrokerRegistrationRequest;
use model::config::BrokerConfig;
use model::record::DecompressionScratch;
use model::{BrokerId, ErrorCode, Offset, ShardId, TopicPartition};
use runtime::{Io, Oneshot, Signal, TaskClass};
use storage::{CommitListener, CommitTimes, Log, Storage};

use crate::batch_check::BatchChecks;
use crate::coordinator_host::CoordinatorHost;
use crate::message::{Envelope, ShardReply, ShardRequest};
use crate::metrics::Counters;
use crate::partition::{AcknowledgeTarget, Partition};
use crate::partition_table::PartitionTable;
use crate::peer::Peers;
use crate::producer_ids::ProducerIds;
use crate::purgatory::{Ending, Finished, Purgatory};
use crate::quorum_driver::QuorumDriver;
use crate::reply::{ReplySlot, ReplyTo};
use crate::request::{FetchTimes, Produce, Watch};
use crate::timers::Timers;
use crate::watch::RemoteWatches;
use crate::work_queue::WorkQueue;

/// Tasks that carry out reads which may wait for the device, for other shards.
const READ_WORKERS: usize = 32;

/// Identity and settings of a shard.
#[derive(Clone)]
pub struct ShardOptions {
    /// Which shard this is.
    pub shard: ShardId,
    /// The broker it is part of.
    pub broker: BrokerId,
    /// Identity of the cluster, from `meta.properties`.
    pub cluster_id: Arc<str>,
    /// What the broker tells the cluster about itself.
    pub registration: Arc<BrokerRegistrationRequest>,
    /// The broker's configuration.
    pub config: Arc<BrokerConfig>,
    /// Where and how to store.
    pub storage: storage::StorageOptions,
}

/// A read that another shard asked for.
pub(crate) struct RemoteRead {
    pub(crate) request: ShardRequest,
    pub(crate) reply: ReplyTo,
}

/// One core's share of the broker.
pub struct Shard<I: Io> {
    /// The machine.
    pub io: I,
    /// Identity and settings.
    pub options: ShardOptions,
    /// The partition logs.
    pub storage: Storage<I>,
    pub(crate) partitions: RefCell<PartitionTable>,
    pub(crate) image: RefCell<MetadataImage>,
    pub(crate) purgatory: RefCell<Purgatory>,
    /// Deadlines of long polls.
    pub timers: Timers,
    pub(crate) peers: Rc<Peers>,
    pub(crate) scratch: RefCell<DecompressionScratch>,
    pub(crate) checks: BatchChecks,
    pub(crate) reads: Rc<WorkQueue<RemoteRead>>,
    pub(crate) produces: Rc<WorkQueue<(Produce, ReplyTo)>>,
    pub(crate) remote_watches: RemoteWatches,
    pub(crate) quorum: QuorumDriver,
    pub(crate) coordinators: CoordinatorHost,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) fenced: Cell<bool>,
    pub(crate) counters: Counters,
    /// Set when the broker is registered and clients may come; not on shard 0, which registers it.
    pub(crate) serve: Rc<Oneshot<()>>,
}

impl<I: Io> Shard<I> {
    /// This shard's number.
    pub fn id(&self) -> ShardId {
        self.options.shard
    }

    /// Shards of this broker.
    pub fn shard_count(&self) -> u16 {
        self.peers.shard_count()
    }

    /// The shard of this broker that serves a partition.
    pub fn owner(&self, partition: TopicPartition) -> ShardId {
        crate::partition_table::owner(partition, self.shard_count())
    }

    /// The cluster, as far as this shard has heard. Do not hold it across an await.
    pub fn image(&self) -> std::cell::Ref<'_, MetadataImage> {
        self.image.borrow()
    }

    /// A partition that this shard serves.
    pub fn partition(&self, id: TopicPartition) -> Option<Rc<Partition>> {
        self.partitions.borrow().get(id)
    }

    /// Asks a shard (maybe this one). The answer becomes part `part` of `slot`.
    pub fn submit(
        self: &Rc<Self>,
        to: ShardId,
        request: ShardRequest,
        slot: &Rc<ReplySlot>,
        part: usize,
    ) {
        if to == self.id() {
            self.handle(request, ReplyTo::Local(slot.clone(), part));
        } else {
            self.peers.request(to, request, slot.clone(), part);
        }
    }

    /// Asks one shard and waits for its answer.
    pub async fn call(self: &Rc<Self>, to: ShardId, request: ShardRequest) -> ShardReply {
        let slot = ReplySlot::new(1, Signal::new());
        self.submit(to, request, &slot, 0);
        slot.wait().await.pop().expect("one part was asked for")
    }

    /// Asks every shard and waits for all answers, in shard order.
    pub async fn call_all(self: &Rc<Self>, request: impl Fn() -> ShardRequest) -> Vec<ShardReply> {
        let count = self.shard_count();
        let slot = ReplySlot::new(usize::from(count), Signal::new());
        for shard in 0..count {
            self.submit(ShardId(shard), request(), &slot, usize::from(shard));
        }
        slot.wait().await
    }

    /// Carries out a request that was addressed to this shard.
    pub(crate) fn handle(self: &Rc<Self>, request: ShardRequest, reply: ReplyTo) {
        match request {
            ShardRequest::Produce(produce) => self.produces.push((produce, reply)),
            ShardRequest::Watch(watch) => self.watch_remote(&watch, reply),
            ShardRequest::EpochEnds(asked) => {
                let ends = asked.iter().map(|end| self.epoch_end(end)).collect();
                self.peers.answer(reply, ShardReply::EpochEnds(ends));
            }
            ShardRequest::PartitionSizes => {
                let sizes = self.partitions.borrow().sizes();
                self.peers.answer(reply, ShardReply::PartitionSizes(sizes));
            }
            ShardRequest::Controller(request) => self.quorum.enqueue(request, reply),
            ShardRequest::Group(work) => self.group(work, reply),
            request @ (ShardRequest::Fetch(_)
            | ShardRequest::ListOffsets(_)
            | ShardRequest::DeleteRecords(_)) => self.reads.push(RemoteRead { request, reply }),
        }
    }

    fn watch_remote(&self, watch: &Watch, reply: ReplyTo) {
        let state = self.remote_watches.add(watch.deadline, reply);
        self.watch(watch, &state);
    }

    /// Starts the long-lived tasks. `early` are messages of other shards that came before this one was ready: few, as
    /// no shard has clients yet.
    pub(crate) fn start(
        self: &Rc<Self>,
        inbox: runtime::mailbox::Inbox<Envelope>,
        early: Vec<Envelope>,
    ) {
        let io = &self.io;
        self.peers.start(io);
        self.storage.start(Rc::new(Commits {
            shard: Rc::downgrade(self),
            acknowledged: RefCell::default(),
        }));
        io.spawn(
            TaskClass::Foreground,
            dispatch_inbox(self.clone(), inbox, early),
        );
        io.spawn(TaskClass::Foreground, produce_worker(self.clone()));
        for _ in 0..READ_WORKERS {
            io.spawn(TaskClass::Foreground, read_worker(self.clone()));
        }
        io.spawn(
            TaskClass::Foreground,
            crate::housekeeping::tick(self.clone()),
        );
        io.spawn(
            TaskClass::Foreground,
            crate::housekeeping::answer_watches(self.clone()),
        );
    }

    /// Starts the controller, on shard 0. Not before this broker is registered: decisions are made one at a time, and
    /// those of the registration are made outside of the queue.
    pub(crate) fn start_controller(self: &Rc<Self>) {
        let driver = crate::quorum_driver::run(self.clone());
        self.io.spawn(TaskClass::Foreground, driver);
    }

    pub(crate) fn finish(&self, finished: Finished) {
        self.peers.answer(
            finished.reply,
            ShardReply::Produce(finished.results, finished.times),
        );
    }

    /// Tells everybody in `targets` how their wait ended.
    pub(crate) fn tell(
        &self,
        targets: impl IntoIterator<Item = AcknowledgeTarget>,
        ending: Ending,
    ) {
        let error = ending.error;
        for target in targets {
            match target {
                AcknowledgeTarget::Operation(id, part) => {
                    let finished = self.purgatory.borrow_mut().acknowledge(id, part, ending);
                    if let Some(finished) = finished {
                        self.finish(finished);
                    }
                }
                AcknowledgeTarget::Internal(slot) => {
                    slot.set(if error.is_none() { Ok(()) } else { Err(error) });
                }
                AcknowledgeTarget::Coordinator(id, batch) => self.group_appended(id, batch, error),
            }
        }
    }
}

/// What storage tells the shard.
struct Commits<I: Io> {
    shard: std::rc::Weak<Shard<I>>,
    acknowledged: RefCell<Vec<AcknowledgeTarget>>,
}

impl<I: Io> CommitListener for Commits<I> {
    fn committed(&self, log: &Rc<Log>, durable_end: Offset, times: CommitTimes) {
        let Some(shard) = self.shard.upgrade() else {
            return;
        };
        let Some(partition) = shard.partition(log.id()) else {
            return;
        };
        let mut acknowledged = self.acknowledged.borrow_mut();
        partition.durable(times.durable_at, durable_end, &mut acknowledged);
        shard.tell(acknowledged.drain(..), Ending::committed(times));
    }

    fn group_done(&self) {}

    fn fenced(&self, reason: &str) {
        tracing::error!(
            reason,
            "the log is fenced: this shard acknowledges nothing until the broker is restarted"
        );
        if let Some(shard) = self.shard.upgrade() {
            shard.fence();
        }
    }
}

impl<I: Io> Shard<I> {
    fn fence(&self) {
        self.fenced.set(true);
        let waiting: Vec<_> = self
            .partitions
            .borrow()
            .iter()
            .flat_map(|partition| partition.fail_waiters())
            .collect();
        let ending = Ending::failed(ErrorCode::KafkaStorageError, self.io.now());
        self.tell(waiting, ending);
    }
}

async fn dispatch_inbox<I: Io>(
    shard: Rc<Shard<I>>,
    mut inbox: runtime::mailbox::Inbox<Envelope>,
    early: Vec<Envelope>,
) {
    for envelope in early {
        shard.receive(envelope);
    }
    loop {
        let envelope = inbox.next().await;
        shard.receive(envelope);
    }
}

impl<I: Io> Shard<I> {
    fn receive(self: &Rc<Self>, envelope: Envelope) {
        match envelope {
            Envelope::Request {
                from,
                token,
                request,
            } => self.handle(request, ReplyTo::Remote(from, token)),
            Envelope::Reply { token, mut reply } => {
                if let ShardReply::Produce(_, times) = &mut reply {
                    times.answered_at = self.io.now();
                }
                self.peers.answered(token, reply);
            }
            Envelope::Metadata(end, records) => {
                self.apply_metadata(end, &records);
                let applied = Envelope::MetadataApplied(self.id(), end);
                if !self.has_coordinator_deletions() {
                    return self.peers.send(ShardId(0), applied);
                }
                let shard = self.clone();
                self.io.spawn(TaskClass::Foreground, async move {
                    shard.coordinator_deletions().await;
                    shard.peers.send(ShardId(0), applied);
                });
            }
            Envelope::MetadataApplied(shard, end) => self.quorum.applied(shard, end),
            Envelope::Serve => self.serve.set(()),
            Envelope::Start(..) | Envelope::Started(_) => {
                unreachable!("start-up messages after start-up")
            }
        }
    }
}

/// One task, so that the appends of one connection stay in order.
async fn produce_worker<I: Io>(shard: Rc<Shard<I>>) {
    let signal = Signal::new();
    loop {
        let (request, reply) = shard.produces.next(&signal).await;
        shard.admit(request.bytes()).await;
        shard.produce(request, reply);
    }
}

async fn read_worker<I: Io>(shard: Rc<Shard<I>>) {
    let signal = Signal::new();
    loop {
        let RemoteRead { request, reply } = shard.reads.next(&signal).await;
        let answer = match request {
            ShardRequest::Fetch(fetch) => {
                let begun_at = shard.io.now();
                let fetched = shard.fetch(&fetch).await;
                let done_at = shard.io.now();
                ShardReply::Fetch(fetched, FetchTimes { begun_at, done_at })
            }
            ShardRequest::ListOffsets(asked) => {
                ShardReply::ListOffsets(shard.list_offsets(&asked).await)
            }
            ShardRequest::DeleteRecords(asked) => {
                ShardReply::DeleteRecords(shard.delete_records(&asked).await)
            }
            _ => unreachable!("only reads are queued here"),
        };
        shard.peers.answer(reply, answer);
    }
}
