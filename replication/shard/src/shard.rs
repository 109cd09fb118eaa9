//! One core's share of the broker.
//!
//! Lives on one executor for the life of the process. Everything it holds belongs to it alone; other shards reach it
//! by message. It holds the parts, takes questions to them ([`Shard::serve`]), and hands on what one part's outcome
//! means for another. Each part owns its fields.

use std::cell::{Cell, OnceCell, Ref};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coordinator::GroupAsk;
use metadata::controller::BrokerRegistrationRequest;
use metadata::{MetadataDelta, MetadataImage, MetadataRecord, Topic, Uuid};
use model::config::{BrokerConfig, TopicConfig};
use model::{BrokerEpoch, BrokerId, Offset, PartitionEpoch, ProducerId, ShardId, TopicPartition};
use quorum::{DirectoryId, QuorumStatus, ReplicaKey};
use replica::{IsrProposal, IsrRefusal};
use runtime::{Io, Oneshot, Signal, Snapshot, TaskClass};
use storage::{Storage, StorageError};

use crate::append::Appender;
use crate::balancer::Balancer;
use crate::batch_check::BatchChecks;
use crate::close::{self, Closed};
use crate::contacts::Contacts;
use crate::controller_call::{Controller, ControllerCall, ProducerIdsFor};
use crate::controller_queue::ControllerQueue;
use crate::coordinator_host::{CoordinatorHost, Tools};
use crate::early_questions::EarlyQuestions;
use crate::liveness::Liveness;
use crate::message::{Ask, Asked, Envelope, GroupQuestion, Reply, ReplyTo};
use crate::metadata_cache::MetadataCache;
use crate::metadata_replica::MetadataReplica;
use crate::metadata_snapshots::{self, MetadataSnapshots};
use crate::metrics::Counts;
use crate::observers::Observers;
use crate::outgoing::OutgoingQueue;
use crate::partition::{AcknowledgeTarget, Partition};
use crate::partition_table;
use crate::partitions::{PartitionChange, Partitions, Place};
use crate::peer::Peers;
use crate::produce::{Produces, Staged};
use crate::producer_ids::ProducerIds;
use crate::purgatory::Ending;
use crate::read::Reader;
use crate::refusal::{MetadataRefusal, ReadRefusal, WaitFailure};
use crate::replica_events::ReplicaEvents;
use crate::replication_metrics::{self, Replicas, RoleChanges};
use crate::reply::ReplySlot;
use crate::reports;
use crate::request::{
    AllocateProducerIds, CandidateLogs, DeleteRecords, DeletionsDurable, Fetch, Fetched, LedSizes,
    ListOffset, MetadataEnd, Produce, Watch,
};
use crate::streams::{PeerShard, StreamRefusal, Streams};
use crate::timers::Timers;
use crate::watch::{RemoteWatches, WatchState};
use crate::work_queue::WorkQueue;

/// Identity and settings of a shard.
#[derive(Clone)]
pub struct ShardOptions {
    pub shard: ShardId,
    pub broker: BrokerId,
    /// Identity of the cluster, from `meta.properties`.
    pub cluster_id: Arc<str>,
    /// Identity of the data directory, from `meta.properties`.
    pub directory_id: Uuid,
    /// What the broker tells the cluster about itself.
    pub registration: Arc<BrokerRegistrationRequest>,
    /// Who may have a vote on the metadata log; empty: whoever comes, up to [`crate::observers::VOTERS_WANTED`].
    pub voters: Arc<[BrokerId]>,
    /// This broker begins a cluster, if its data directory is new; else it joins one.
    pub founds: bool,
    /// As the broker is started with it; [`Shard::config`] is what holds by now.
    pub config: Arc<BrokerConfig>,
    /// Where and how to store.
    pub storage: storage::StorageOptions,
}

impl ShardOptions {
    fn place(&self, shard_count: u16) -> Place {
        Place {
            broker: self.broker,
            shard: self.shard,
            shard_count,
            incarnation: self.registration.incarnation_id,
        }
    }

    /// Which replica of the metadata log this broker has.
    pub fn replica_key(&self) -> ReplicaKey {
        ReplicaKey {
            broker: self.broker,
            directory: DirectoryId(self.directory_id.0),
        }
    }
}

/// Work that may wait for the device.
pub(crate) enum Read {
    Fetch(Fetch, ReplyTo<Fetch>),
    ListOffsets(Vec<ListOffset>, ReplyTo<Vec<ListOffset>>),
    DeleteRecords(Vec<DeleteRecords>, ReplyTo<Vec<DeleteRecords>>),
}

/// One core's share of the broker.
pub struct Shard<I: Io> {
    pub io: I,
    pub options: ShardOptions,
    pub storage: Storage<I>,
    /// Deadlines of long polls.
    pub timers: Timers,
    pub(crate) cache: Rc<MetadataCache>,
    pub(crate) partitions: Rc<Partitions<I>>,
    pub(crate) appender: Rc<Appender<I>>,
    pub(crate) produces: Produces<I>,
    pub(crate) reader: Reader<I>,
    checks: BatchChecks<I>,
    pub(crate) peers: Rc<Peers>,
    pub(crate) reads: Rc<WorkQueue<Read>>,
    pub(crate) produce_queue: Rc<WorkQueue<(Produce, ReplyTo<Produce>)>>,
    early_questions: EarlyQuestions<Asked>,
    pub(crate) remote_watches: RemoteWatches,
    pub(crate) controller: ControllerQueue,
    pub(crate) liveness: Liveness,
    pub(crate) balancer: Balancer,
    pub(crate) contacts: Contacts,
    pub(crate) observers: Observers,
    pub(crate) outgoing: Rc<OutgoingQueue>,
    /// The logs are opened.
    is_open: Cell<bool>,
    /// This broker's replica of the metadata log, on shard 0.
    replica: OnceCell<Rc<MetadataReplica>>,
    pub(crate) snapshots: MetadataSnapshots,
    pub(crate) coordinators: Rc<CoordinatorHost<I>>,
    producer_ids: ProducerIds,
    /// What the roles of this shard's partitions want done.
    pub(crate) events: Rc<ReplicaEvents>,
    pub(crate) streams: Rc<Streams<I>>,
    pub(crate) role_changes: RoleChanges,
    fenced: Cell<bool>,
    /// Set when the broker is registered and clients may come; not on shard 0, which registers it.
    pub(crate) serve: Rc<Oneshot<()>>,
}

impl<I: Io> Shard<I> {
    /// A shard that knows the cluster as `image` and has no partition open yet.
    pub(crate) fn assemble(
        io: I,
        options: ShardOptions,
        storage: Storage<I>,
        image: MetadataImage,
        peers: Peers,
    ) -> Rc<Shard<I>> {
        let shard_count = peers.shard_count();
        let peers = Rc::new(peers);
        let cache = MetadataCache::new(image, options.broker, options.config.clone());
        let cache = Rc::new(cache);
        let place = options.place(shard_count);
        let events = Rc::new(ReplicaEvents::default());
        let partitions = Partitions::new(
            io.clone(),
            storage.clone(),
            cache.clone(),
            place,
            events.clone(),
        );
        let partitions = Rc::new(partitions);
        let appender = Appender::new(io.clone(), storage.clone(), partitions.clone());
        let appender = Rc::new(appender);
        let streams = Streams::new(
            io.clone(),
            storage.clone(),
            cache.clone(),
            partitions.clone(),
            events.clone(),
        );
        let tools = Tools {
            io: io.clone(),
            storage: storage.clone(),
            cache: cache.clone(),
            partitions: partitions.clone(),
            appender: appender.clone(),
            peers: peers.clone(),
        };
        let decompressed_max = options.config.request_decompressed_bytes_max;
        Rc::new(Shard {
            produces: Produces::new(io.clone(), appender.clone(), peers.clone()),
            reader: Reader::new(storage.clone(), partitions.clone()),
            checks: BatchChecks::new(
                io.clone(),
                cache.clone(),
                partitions.clone(),
                decompressed_max,
            ),
            coordinators: CoordinatorHost::new(tools, &options.config),
            timers: Timers::default(),
            reads: WorkQueue::new(),
            produce_queue: WorkQueue::new(),
            early_questions: EarlyQuestions::default(),
            remote_watches: RemoteWatches::default(),
            controller: ControllerQueue::new(shard_count),
            liveness: Liveness::new(options.broker, session_timeout(&options.config)),
            balancer: Balancer::default(),
            contacts: Contacts::default(),
            observers: Observers::default(),
            outgoing: Rc::default(),
            is_open: Cell::new(false),
            replica: OnceCell::new(),
            snapshots: MetadataSnapshots::new(&options.config, io.now()),
            producer_ids: ProducerIds::default(),
            role_changes: RoleChanges::default(),
            fenced: Cell::new(false),
            serve: Oneshot::new(),
            io,
            options,
            storage,
            cache,
            partitions,
            appender,
            peers,
            events,
            streams: Rc::new(streams),
        })
    }

    pub fn id(&self) -> ShardId {
        self.options.shard
    }

    /// This broker's replica of the metadata log, if this is shard 0.
    pub(crate) fn replica(&self) -> Option<&Rc<MetadataReplica>> {
        self.replica.get()
    }

    /// Gives shard 0 its replica of the metadata log, once.
    pub(crate) fn take_part(&self, replica: MetadataReplica) {
        assert_eq!(self.id(), ShardId(0), "the metadata log is shard 0's");
        let taken = self.replica.set(Rc::new(replica));
        assert!(taken.is_ok(), "a shard has one replica of the metadata log");
    }

    pub fn shard_count(&self) -> u16 {
        self.peers.shard_count()
    }

    /// The shard of this broker that serves a partition.
    pub fn owner(&self, partition: TopicPartition) -> ShardId {
        partition_table::owner(partition, self.shard_count())
    }

    /// The cluster, as far as this shard has heard. Do not hold it across an await.
    pub fn image(&self) -> Ref<'_, MetadataImage> {
        self.cache.image()
    }

    /// The broker's configuration, with what was set at run time.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.cache.config()
    }

    pub fn topic_config(&self, topic: &Arc<Topic>) -> TopicConfig {
        self.cache.topic_config(topic)
    }

    /// A partition that this shard serves.
    pub fn partition(&self, id: TopicPartition) -> Option<Rc<Partition>> {
        self.partitions.get(id)
    }

    /// Asks a shard (maybe this one). The answer becomes part `part` of `slot`.
    pub fn ask_into<Q: Ask>(
        &self,
        to: ShardId,
        question: Q,
        slot: &Rc<ReplySlot<Q::Answer>>,
        part: usize,
    ) {
        if to == self.id() {
            self.serve(question.asked(ReplyTo::Local(slot.clone(), part)));
        } else {
            let known = self.cache.end_offset();
            self.peers.ask(to, question, known, slot, part);
        }
    }

    /// Asks one shard and waits for its answer.
    pub async fn ask<Q: Ask>(&self, to: ShardId, question: Q) -> Q::Answer {
        let slot = ReplySlot::new(1, Signal::new());
        self.ask_into(to, question, &slot, 0);
        slot.wait().await.pop().expect("one part was asked for")
    }

    /// Asks every shard and waits for all answers, in shard order.
    pub async fn ask_all<Q: Ask + Clone>(&self, question: &Q) -> Vec<Q::Answer> {
        let count = self.shard_count();
        let slot = ReplySlot::new(usize::from(count), Signal::new());
        for shard in 0..count {
            let part = usize::from(shard);
            self.ask_into(ShardId(shard), question.clone(), &slot, part);
        }
        slot.wait().await
    }

    /// Asks the coordinator whose groups are in this partition of the topic of committed offsets.
    pub async fn ask_coordinator<Q: GroupAsk>(
        &self,
        partition: TopicPartition,
        request: Q,
    ) -> Q::Reply {
        let question = GroupQuestion {
            partition,
            request: request.into_request(),
        };
        Q::reply(self.ask(self.owner(partition), question).await)
    }

    /// Learns what the metadata log holds by now. For a client that names a topic which this shard has not heard of:
    /// another shard may have told it.
    pub async fn catch_up(&self) {
        let end = self.ask(ShardId(0), MetadataEnd).await;
        // What shard 0 tells comes here in order: the records first, then this answer.
        assert!(
            self.cache.end_offset() >= end,
            "metadata records before {end} were not told"
        );
    }

    /// An id that nobody has had before.
    pub async fn new_producer_id(&self) -> Result<ProducerId, MetadataRefusal> {
        loop {
            if let Some(id) = self.producer_ids.take() {
                return Ok(id);
            }
            let block = self.ask(ShardId(0), AllocateProducerIds).await?;
            self.producer_ids.refill(block);
        }
    }

    /// Checks the records of a request if that may take long. Whoever keeps an order among requests awaits this before
    /// the next one.
    pub async fn check(&self, produce: &mut Produce) {
        self.checks.check(produce).await;
    }

    /// Appends to partitions of this shard, each once there is room for it. The answer goes to `reply` when it is due.
    /// Whoever keeps an order among requests awaits this before the next one.
    pub async fn produce(&self, request: Produce, reply: ReplyTo<Produce>) -> Staged {
        self.produces.produce(request, reply).await
    }

    /// Reads what is there, without waiting for more. What is in memory is served without suspending.
    pub async fn fetch(&self, fetch: &Fetch) -> Vec<Result<Fetched, ReadRefusal>> {
        self.reader.fetch(fetch).await
    }

    /// Lets `state` be told about partitions that have more to read than was seen.
    pub fn watch(&self, watch: &Watch, state: &Rc<WatchState>) {
        self.reader.watch(watch, state);
    }

    /// The next message to a shard of another broker, in the pieces that a vectored write takes. One task asks for it. A
    /// message that cannot be sent ends its stream: [`Shard::stream_down`].
    pub async fn next_stream_message(&self) -> (PeerShard, Vec<Bytes>) {
        self.streams.next_message().await
    }

    /// A message of another broker's shard has come, on a connection of that registration of the broker. After a refusal the
    /// connection is to be closed.
    pub fn stream_message(
        &self,
        from: PeerShard,
        epoch: BrokerEpoch,
        payload: &Bytes,
    ) -> Result<(), StreamRefusal> {
        let mut acknowledged = Vec::new();
        let taken = self
            .streams
            .message(from, epoch, payload, &mut acknowledged);
        self.tell(acknowledged, Ending::replicated(self.io.now()));
        taken
    }

    /// A connection to another broker's shard is there.
    pub fn stream_up(&self, peer: PeerShard) {
        self.streams.up(peer);
    }

    /// It has ended, or could not be made, or did not take a message.
    pub fn stream_down(&self, peer: PeerShard) {
        self.streams.down(peer);
    }

    /// Changes of in-sync replicas that leaders of this shard want the controller to make, as soon as there are any: for each
    /// partition the newest. One task asks for them.
    pub async fn next_isr_proposals(&self) -> Vec<(TopicPartition, IsrProposal)> {
        loop {
            let proposals = self.events.take_proposals();
            if !proposals.is_empty() {
                return proposals.into_iter().collect();
            }
            self.events.proposal_wanted.wait().await;
        }
    }

    /// The controller has answered to a proposal that was based on that version of the partition. An acceptance is told when
    /// the metadata before it has been applied to this shard.
    pub fn isr_result(
        &self,
        id: TopicPartition,
        based_on: PartitionEpoch,
        result: Result<PartitionEpoch, IsrRefusal>,
    ) {
        if let Some(partition) = self.partitions.get(id) {
            let now = self.io.now();
            let settled = partition.isr_result(now, based_on, result);
            self.tell(settled, Ending::replicated(now));
        }
    }

    /// Closes the logs. Requests are refused from now on. Ends in bounded time on a full device.
    pub async fn close(&self) -> Result<Closed, StorageError> {
        close::close(&self.io, &self.storage).await
    }

    /// Adds what the shard, its storage and its machine have counted.
    pub fn snapshot_into(&self, into: &mut Snapshot) {
        self.io.snapshot_into(into);
        self.storage.snapshot_into(into);
        let counts = Counts {
            produced_bytes: self.appender.produced_bytes.get(),
            own_bytes: self.appender.own_bytes.get(),
            mailbox_full: self.peers.full.get(),
            mailbox_depth: self.peers.depth(),
            mailbox_overflow: self.peers.overflow(),
            produce_waiting: self.produces.waiting(),
            is_fenced: self.fenced.get(),
        };
        counts.snapshot_into(into);
        self.snapshots.snapshot_into(into);
        self.partitions.snapshot_topics(into);
        let replicas = Replicas {
            broker: self.options.broker,
            image: &self.image(),
            table: &self.partitions.table(),
            changes: &self.role_changes,
            metadata: self.replica().map(Rc::as_ref),
        };
        replication_metrics::snapshot_into(&replicas, into);
    }

    /// Has the controller decide a question, whoever that is; on shard 0.
    fn ask_controller<Q, C>(&self, call: C, reply: ReplyTo<Q>)
    where
        C: ControllerCall,
        Q: Ask<Answer = Result<C::Decided, MetadataRefusal>>,
    {
        let peers = self.peers.clone();
        let deliver = move |decided| peers.answer(reply, decided);
        self.controller.ask(self.io.now(), call, deliver);
    }

    /// Takes a question to the part that answers it.
    fn serve(&self, asked: Asked) {
        match asked {
            Asked::Produce(produce, reply) => self.produce_queue.push((produce, reply)),
            Asked::Fetch(fetch, reply) => self.reads.push(Read::Fetch(fetch, reply)),
            Asked::ListOffsets(asked, reply) => self.reads.push(Read::ListOffsets(asked, reply)),
            Asked::DeleteRecords(asked, reply) => {
                self.reads.push(Read::DeleteRecords(asked, reply));
            }
            Asked::Watch(watch, reply) => {
                let state = self.remote_watches.add(watch.deadline, reply);
                self.watch(&watch, &state);
            }
            Asked::EpochEnds(asked, reply) => {
                self.peers.answer(reply, self.reader.epoch_ends(&asked));
            }
            Asked::Group(question, reply) => self.coordinators.handle(question, reply),
            Asked::ListGroups(request, reply) => self.coordinators.list(&request, reply),
            Asked::CreateTopics(request, reply) => self.ask_controller(request, reply),
            Asked::DeleteTopics(topics, reply) => self.ask_controller(topics, reply),
            Asked::CreatePartitions(request, reply) => self.ask_controller(request, reply),
            Asked::AlterConfigs(request, reply) => self.ask_controller(request, reply),
            Asked::ElectLeaders(request, reply) => self.ask_controller(request, reply),
            Asked::AlterReassignments(request, reply) => self.ask_controller(request, reply),
            Asked::UnregisterBroker(request, reply) => self.ask_controller(request, reply),
            Asked::AlterPartitions(changes, reply) => self.ask_controller(changes, reply),
            Asked::LogSizes(asked, reply) => {
                self.peers.answer(reply, self.reader.log_sizes(&asked));
            }
            Asked::AllocateProducerIds(AllocateProducerIds, reply) => {
                let broker = self.options.broker;
                let registration = self.image().broker(broker).map(|known| known.epoch);
                let epoch = registration.unwrap_or(BrokerEpoch(-1));
                self.ask_controller(ProducerIdsFor { broker, epoch }, reply);
            }
            Asked::DeletionsDurable(DeletionsDurable, reply) => {
                metadata_snapshots::answer_deletions(
                    &self.io,
                    &self.storage,
                    &self.cache,
                    &self.peers,
                    reply,
                );
            }
            Asked::CandidateLogs(CandidateLogs, reply) => {
                self.peers.answer(
                    reply,
                    reports::candidate_logs(
                        &self.image(),
                        &self.partitions.table(),
                        self.options.broker,
                    ),
                );
            }
            Asked::LedSizes(LedSizes, reply) => self.peers.answer(
                reply,
                reports::led_sizes(&self.image(), &self.partitions.table(), self.options.broker),
            ),
            Asked::DescribeQuorum(asked, reply) => self.ask_controller(asked, reply),
            Asked::MetadataEnd(MetadataEnd, reply) => {
                self.peers.answer(reply, self.cache.end_offset());
            }
        }
    }

    /// Takes a message of another shard.
    pub(crate) fn receive(self: &Rc<Self>, envelope: Envelope) {
        match envelope {
            Envelope::Question {
                from,
                token,
                metadata_end,
                question,
            } => {
                let asked = question.asked_by(from, token);
                if metadata_end <= self.cache.end_offset() {
                    self.serve(asked);
                } else {
                    let now = self.io.now();
                    self.early_questions.keep(metadata_end, now, asked);
                }
            }
            Envelope::Reply(mut reply) => {
                if let Reply::Produce(_, produced) = &mut reply {
                    produced.times.answered_at = self.io.now();
                }
                self.peers.arrived(reply);
            }
            Envelope::Metadata(end, records) => {
                self.apply_metadata(end, &records);
                self.metadata_applied(end);
            }
            Envelope::Image(image) => {
                self.install_image(&image);
                self.metadata_applied(image.end_offset());
            }
            Envelope::MetadataApplied(shard, end) => self.controller.applied(shard, end),
            Envelope::Serve => self.serve.set(()),
            Envelope::Started(shard) => {
                tracing::debug!(%shard, "started");
                self.controller.shard_started();
            }
            Envelope::Start(..) => unreachable!("a shard starts once"),
        }
    }

    /// Applies committed records that end before `end` to this shard's image, and acts on what changed.
    pub(crate) fn apply_metadata(self: &Rc<Self>, end: Offset, records: &[MetadataRecord]) {
        let delta = self.cache.apply(end, records);
        self.metadata_changed(&delta, end);
    }

    /// Goes on from another image, and acts on what differs.
    pub(crate) fn install_image(self: &Rc<Self>, image: &MetadataImage) {
        let delta = self.cache.install(image);
        self.metadata_changed(&delta, image.end_offset());
    }

    fn metadata_changed(self: &Rc<Self>, delta: &MetadataDelta, end: Offset) {
        if !delta.topics_deleted.is_empty() || !delta.configs.is_empty() {
            self.checks.forget_rules();
        }
        // Before that the logs are opened with the image as it is then.
        if self.is_open.get() {
            let follow = || self.partitions.follow(delta);
            self.changed(self.role_changes.count(&self.partitions, delta, follow));
            let deleted = delta.topics_deleted.values().cloned().collect();
            self.coordinators.topics_deleted(&deleted);
        }
        if delta.brokers.contains(&self.options.broker) {
            self.note_registration();
        }
        if !delta.brokers.is_empty() {
            self.tell_addresses();
            self.observers.brokers_changed();
        }
        for asked in self.early_questions.take_ready(end) {
            self.serve(asked);
        }
    }

    /// Deletes the logs of deleted topics and opens all others of this shard. What changes from now on is followed.
    pub(crate) fn open_partitions(&self, deleted: &BTreeSet<TopicPartition>) {
        self.is_open.set(true);
        self.note_registration();
        self.tell_addresses();
        self.partitions.delete_logs(deleted);
        let opened = self.partitions.open_all();
        self.changed(opened);
    }

    /// The registration of this process, once this shard has heard of it.
    pub fn broker_epoch(&self) -> Option<BrokerEpoch> {
        let image = self.image();
        let ours = self.options.registration.incarnation_id;
        let known = image.broker(self.options.broker);
        let known = known.filter(|known| known.incarnation == ours);
        known.map(|known| known.epoch)
    }

    /// Checkpoints say under which registration of this process they were written.
    fn note_registration(&self) {
        if let Some(epoch) = self.broker_epoch() {
            self.storage.set_broker_epoch(epoch.0);
        }
    }

    /// Whoever sends to other brokers is to know where they are.
    pub(crate) fn tell_addresses(&self) {
        let addresses = self.contacts.addresses(&self.image());
        self.outgoing.set_addresses(addresses);
    }

    /// Another broker has named the controller.
    pub(crate) fn learn(&self, controller: Controller) {
        if self.contacts.learn(controller) {
            self.tell_addresses();
        }
    }

    /// Brokers that may know the controller, on shard 0. Whoever sends to other brokers knows where they are.
    pub fn set_seeds(&self, seeds: Vec<BrokerId>) {
        self.contacts.set_seeds(seeds);
    }

    /// What other brokers are to get. On shards but the first only who they are.
    pub fn outgoing(&self) -> &Rc<OutgoingQueue> {
        &self.outgoing
    }

    /// Who leads the metadata log, as far as this broker knows; on shard 0.
    pub fn controller_id(&self) -> Option<BrokerId> {
        let replica = self.replica().expect("shard 0 is asked");
        replica.leader().map(|key| key.broker)
    }

    /// Who agrees on the metadata log, and how far each is; on shard 0.
    pub fn quorum_status(&self) -> QuorumStatus {
        self.replica().expect("shard 0 is asked").status()
    }

    /// Whether the storage of this shard promises nothing any more.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.get()
    }

    /// Lets shard 0 know that the records before `end` are applied here, once what must follow is done.
    pub(crate) fn metadata_applied(self: &Rc<Self>, end: Offset) {
        if !self.coordinators.has_deletions() {
            return self.tell_applied(end);
        }
        let shard = self.clone();
        self.io.spawn(TaskClass::Foreground, async move {
            shard.coordinators.deletions_done().await;
            shard.tell_applied(end);
        });
    }

    fn tell_applied(&self, end: Offset) {
        let me = self.id();
        match me {
            ShardId(0) => self.controller.applied(me, end),
            _ => self
                .peers
                .send(ShardId(0), Envelope::MetadataApplied(me, end)),
        }
    }

    /// Tells the others about partitions that came or went.
    pub(crate) fn changed(&self, changes: Vec<PartitionChange>) {
        for change in changes {
            match change {
                PartitionChange::Opened(id, topic) => self.coordinators.opened(id, &topic),
                PartitionChange::Settled(targets) => {
                    self.tell(targets, Ending::replicated(self.io.now()));
                }
                PartitionChange::Closed { id, waiting, why } => {
                    self.coordinators.closed(id);
                    self.tell(waiting, Ending::failed(why, self.io.now()));
                }
            }
        }
    }

    /// What is due because time has passed, besides the long polls of this shard's own clients.
    pub(crate) fn tick(&self) {
        let now = self.io.now();
        self.timers.tick(now);
        self.remote_watches.answer_due(now, &self.peers);
        self.coordinators.timeouts(now);
        self.streams.tick(now);
        self.changed(self.partitions.retry());
        let settled = self.partitions.timeouts(now);
        self.tell(settled, Ending::replicated(now));
        self.snapshots.tick(now);
        for asked in self.early_questions.take_overdue(now) {
            tracing::warn!("the metadata log has not come as far as another shard knew it");
            self.serve(asked);
        }
    }

    /// Tells everybody in `targets` how their wait ended.
    pub(crate) fn tell(
        &self,
        targets: impl IntoIterator<Item = AcknowledgeTarget>,
        ending: Ending,
    ) {
        let outcome = || ending.failure.map_or(Ok(()), Err);
        for target in targets {
            match target {
                AcknowledgeTarget::Operation(id, part) => {
                    self.produces.acknowledge(id, part, ending);
                }
                AcknowledgeTarget::Coordinator(id, batch) => {
                    self.coordinators.appended(id, batch, outcome());
                }
            }
        }
    }

    pub(crate) fn fence(&self) {
        self.fenced.set(true);
        self.streams.stop();
        let waiting = self.partitions.fail_all();
        self.tell(waiting, Ending::failed(WaitFailure::Fenced, self.io.now()));
    }
}

/// `broker.session.timeout.ms`.
fn session_timeout(config: &BrokerConfig) -> Duration {
    // The registry's range begins at 1.
    Duration::from_millis(config.broker_session_timeout_ms.unsigned_abs().into())
}
