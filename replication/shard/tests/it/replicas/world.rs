//! Several brokers of the production's shards in one simulation, and a controller played by the test: it uses the
//! production's decisions, and every broker hears of them when the test says so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metadata::controller::{
    BrokerRegistrationRequest, CreateTopicsRequest, IsrChange, ManualAssignment, NewTopic,
    alter_partition, change_fencing, create_topics, register_broker,
};
use metadata::{BrokerEndpoint, MetadataImage, MetadataRecord, Uuid};
use model::config::BrokerConfig;
use model::record::{BatchBuilder, Batches, read_records_owned};
use model::{BrokerEpoch, BrokerId, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use replica::{IsrRefusal, PlantedFault};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, TaskClass, mailbox};
use shard::refusal::ProduceRefusal;
use shard::request::{Acks, Checked, Produce, ProducePartition};
use shard::{Shard, ShardOptions, hand_made};
use storage::{ReadRequest, StorageOptions};

use super::network::{Network, peer};

pub(crate) type Shards = Vec<Rc<Shard<SimIo>>>;

/// The shards of a broker, and how much of the metadata log they have heard.
type Running = (Shards, Rc<Cell<usize>>);

pub(crate) const TOPIC: TopicId = TopicId([7; 16]);

pub(crate) fn id(index: i32) -> TopicPartition {
    TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(index),
    }
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged(Offset),
    /// The leader has it, which promises nothing once that one is gone.
    OnLeader(Offset),
    Refused(ProduceRefusal),
}

/// The metadata log.
struct Controller {
    image: MetadataImage,
    log: Vec<(Offset, Vec<MetadataRecord>)>,
    incarnations: u8,
}

impl Controller {
    fn commit(&mut self, records: Vec<MetadataRecord>) {
        if records.is_empty() {
            return;
        }
        self.image
            .apply_batch(self.image.end_offset(), &records)
            .unwrap();
        self.log.push((self.image.end_offset(), records));
    }
}

pub(crate) struct World {
    pub(crate) simulation: Simulation,
    pub(crate) network: Rc<Network>,
    shards: u16,
    planted: Option<PlantedFault>,
    controller: Rc<RefCell<Controller>>,
    /// Brokers that run.
    running: RefCell<BTreeMap<i32, Running>>,
    /// By value: what became of it.
    pub(crate) outcomes: Rc<RefCell<BTreeMap<(TopicPartition, u64), Outcome>>>,
    next_value: Cell<u64>,
    /// What an acknowledgement was found to promise too much.
    pub(crate) broken_promises: Rc<RefCell<Vec<String>>>,
}

impl World {
    pub(crate) fn new(seed: u64, brokers: usize, shards: u16) -> Rc<World> {
        World::with_fault(seed, brokers, shards, None)
    }

    pub(crate) fn with_fault(
        seed: u64,
        brokers: usize,
        shards: u16,
        planted: Option<PlantedFault>,
    ) -> Rc<World> {
        let simulation = Simulation::new(seed, brokers, usize::from(shards));
        let network = Rc::new(Network::default());
        let client = simulation.client();
        let io = simulation.io(client, 0);
        simulation.spawn(client, 0, network.clone().run(io));
        Rc::new(World {
            simulation,
            network,
            shards,
            planted,
            controller: Rc::new(RefCell::new(Controller {
                image: MetadataImage::new("cluster"),
                log: Vec::new(),
                incarnations: 0,
            })),
            running: RefCell::default(),
            outcomes: Rc::default(),
            next_value: Cell::new(1),
            broken_promises: Rc::default(),
        })
    }

    /// Runs a scenario in the client's task.
    pub(crate) fn play<T>(&self, scenario: impl Future<Output = T>) -> T {
        self.simulation.block_on(self.simulation.client(), scenario)
    }

    pub(crate) fn io(&self) -> SimIo {
        self.simulation.io(self.simulation.client(), 0)
    }

    pub(crate) async fn pause(&self, ms: u64) {
        self.io().sleep(Duration::from_millis(ms)).await;
    }

    pub(crate) fn image(&self) -> MetadataImage {
        self.controller.borrow().image.clone()
    }

    pub(crate) fn commit(&self, records: Vec<MetadataRecord>) {
        self.controller.borrow_mut().commit(records);
    }

    fn registration(&self, broker: i32, incarnation: u8) -> BrokerRegistrationRequest {
        BrokerRegistrationRequest {
            cluster_id: "cluster".into(),
            broker_id: BrokerId(broker),
            incarnation_id: Uuid([incarnation; 16]),
            endpoints: vec![BrokerEndpoint {
                name: "PLAINTEXT".into(),
                host: "localhost".into(),
                port: 9092,
                security_protocol: 0,
            }],
            log_dirs: vec![Uuid([broker as u8; 16])],
            shard_count: Some(self.shards),
            ..BrokerRegistrationRequest::default()
        }
    }

    /// Starts a broker: its shards open what the metadata says by now, and hear later that they are registered.
    pub(crate) async fn start(&self, broker: i32) {
        let incarnation = {
            let mut controller = self.controller.borrow_mut();
            controller.incarnations += 1;
            controller.incarnations
        };
        let registration = self.registration(broker, incarnation);
        let (before, heard) = {
            let controller = self.controller.borrow();
            (controller.image.clone(), controller.log.len())
        };
        let shards = self.boot(broker, &registration, before).await;
        let epoch = {
            let mut controller = self.controller.borrow_mut();
            let epoch = BrokerEpoch(controller.image.end_offset().0);
            let decision = register_broker(&controller.image, &registration, epoch, false);
            let epoch = decision.results.unwrap();
            controller.commit(decision.records);
            epoch
        };
        for (index, shard) in (0..).zip(&shards) {
            self.network.join(peer(broker, index), shard, epoch);
        }
        let running = (shards.clone(), Rc::new(Cell::new(heard)));
        self.running.borrow_mut().insert(broker, running);
        for shard in shards {
            self.serve_proposals(broker, epoch, shard);
        }
        self.hear(broker);
        self.fence(broker, false);
    }

    async fn boot(
        &self,
        broker: i32,
        registration: &BrokerRegistrationRequest,
        image: MetadataImage,
    ) -> Shards {
        let node = broker as usize - 1;
        let ios = self.simulation.ios(node);
        let (senders, inboxes): (Vec<_>, Vec<_>) = ios.iter().map(|_| mailbox(64)).unzip();
        let started: Rc<RefCell<Shards>> = Rc::default();
        let options = |shard: u16| ShardOptions {
            voters: Arc::default(),
            founds: true,
            shard: ShardId(shard),
            broker: BrokerId(broker),
            cluster_id: Arc::from("cluster"),
            directory_id: Uuid([broker as u8; 16]),
            registration: Arc::new(registration.clone()),
            config: Arc::new(BrokerConfig::defaults().unwrap()),
            storage: StorageOptions {
                shard: ShardId(shard),
                ..small_storage()
            },
        };
        let (count, recovered) = (self.shards, Rc::new(Cell::new(false)));
        for (index, (io, inbox)) in (0u16..).zip(ios.into_iter().zip(inboxes)) {
            let (started, recovered) = (started.clone(), recovered.clone());
            let (options, senders, image) = (options(index), senders.clone(), image.clone());
            let planted = self.planted;
            self.simulation.spawn(node, usize::from(index), async move {
                if index == 0 {
                    hand_made::recover(&io, &options, count).await.unwrap();
                    recovered.set(true);
                }
                while !recovered.get() {
                    io.sleep(Duration::from_millis(1)).await;
                }
                let shard = hand_made::start(io, options, inbox, senders, image, planted).await;
                started.borrow_mut().push(shard.unwrap());
            });
        }
        while started.borrow().len() < usize::from(self.shards) {
            self.pause(1).await;
        }
        let mut shards = started.take();
        shards.sort_by_key(|shard| shard.id());
        shards
    }

    /// Decides on what leaders propose, as the controller does.
    fn serve_proposals(&self, broker: i32, broker_epoch: BrokerEpoch, shard: Rc<Shard<SimIo>>) {
        let controller = self.controller.clone();
        let heard = self.running.borrow()[&broker].clone();
        shard.io.clone().spawn(TaskClass::Foreground, async move {
            loop {
                for (partition, proposal) in shard.next_isr_proposals().await {
                    shard
                        .io
                        .sleep(Duration::from_micros(shard.io.random() % 3_000))
                        .await;
                    let result = {
                        let mut controller = controller.borrow_mut();
                        let state = controller.image.partition(partition).unwrap();
                        let change = IsrChange {
                            broker_id: BrokerId(broker),
                            broker_epoch,
                            partition,
                            leader_epoch: proposal.leader_epoch,
                            partition_epoch: proposal.partition_epoch,
                            isr: proposal.isr.clone(),
                            leader_recovery_state: state.leader_recovery_state,
                        };
                        let decision = alter_partition(&controller.image, &change);
                        controller.commit(decision.records);
                        decision.results
                    };
                    shard
                        .io
                        .sleep(Duration::from_micros(shard.io.random() % 3_000))
                        .await;
                    hear(&controller.borrow(), &heard);
                    let result = result.map_err(|error| match error.refusal {
                        metadata::controller::Refusal::PartitionEpochStale
                        | metadata::controller::Refusal::FencedLeaderEpoch
                        | metadata::controller::Refusal::InvalidRequest => IsrRefusal::Outdated,
                        _ => IsrRefusal::Rejected,
                    });
                    shard.isr_result(partition, proposal.partition_epoch, result);
                }
            }
        });
    }

    /// A broker hears of everything that is decided.
    pub(crate) fn hear(&self, broker: i32) {
        let heard = self.running.borrow().get(&broker).cloned();
        if let Some(heard) = heard {
            hear(&self.controller.borrow(), &heard);
        }
    }

    pub(crate) fn hear_all(&self) {
        let brokers: Vec<i32> = self.running.borrow().keys().copied().collect();
        for broker in brokers {
            self.hear(broker);
        }
    }

    /// The controller fences a broker, or unfences it. Nobody hears of it yet.
    pub(crate) fn fence(&self, broker: i32, fenced: bool) {
        let mut controller = self.controller.borrow_mut();
        let decision = change_fencing(&controller.image, BrokerId(broker), fenced, &|_| false);
        controller.commit(decision.records);
    }

    pub(crate) fn create_topic(&self, partitions: i32, replicas: &[i32], configs: &[(&str, &str)]) {
        let assignment: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: "orders".into(),
                topic_id: TOPIC,
                partition_count: -1,
                replication_factor: -1,
                assignments: (0..partitions)
                    .map(|index| ManualAssignment {
                        partition: PartitionIndex(index),
                        replicas: assignment.clone(),
                    })
                    .collect(),
                configs: configs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
                    .collect(),
            }],
            ..CreateTopicsRequest::default()
        };
        let records = {
            let controller = self.controller.borrow();
            let decision = create_topics(&controller.image, &request, &|_| Ok(()));
            for result in &decision.results {
                assert!(result.1.is_ok(), "{result:?}");
            }
            decision.records
        };
        self.commit(records);
    }

    pub(crate) fn is_running(&self, broker: i32) -> bool {
        self.running.borrow().contains_key(&broker)
    }

    pub(crate) fn shard(&self, broker: i32, partition: TopicPartition) -> Option<Rc<Shard<SimIo>>> {
        let running = self.running.borrow();
        let (shards, _) = running.get(&broker)?;
        let owner = shards[0].owner(partition);
        Some(shards[usize::from(owner.0)].clone())
    }

    pub(crate) fn kill(&self, broker: i32, power_cut: bool) {
        self.running.borrow_mut().remove(&broker);
        self.network.leave(BrokerId(broker));
        let node = broker as usize - 1;
        match power_cut {
            true => self.simulation.power_cut(node),
            false => self.simulation.kill(node),
        }
    }

    pub(crate) async fn restart(&self, broker: i32) {
        self.simulation.restart(broker as usize - 1);
        self.start(broker).await;
    }

    /// Who leads a partition, as the controller knows it.
    pub(crate) fn leader(&self, partition: TopicPartition) -> Option<i32> {
        let controller = self.controller.borrow();
        let state = controller.image.partition(partition).unwrap();
        state.leader.map(|leader| leader.0)
    }

    pub(crate) fn isr(&self, partition: TopicPartition) -> Vec<i32> {
        let controller = self.controller.borrow();
        let state = controller.image.partition(partition).unwrap();
        let mut isr: Vec<i32> = state.isr.iter().map(|id| id.0).collect();
        isr.sort_unstable();
        isr
    }

    /// Sends a record of so many bytes to a broker. What becomes of it is noted, unless the broker ends before.
    pub(crate) fn produce(
        &self,
        broker: i32,
        partition: TopicPartition,
        acks: Acks,
        bytes: usize,
    ) -> u64 {
        let value = self.next_value.get();
        self.next_value.set(value + 1);
        let Some(shard) = self.shard(broker, partition) else {
            return value;
        };
        let mut bytes_of_value = vec![0; bytes.max(8)];
        bytes_of_value[..8].copy_from_slice(&value.to_be_bytes());
        let mut batch = BatchBuilder::new();
        batch.push(shard.io.wall_clock(), None, Some(&bytes_of_value));
        let produce = Produce {
            acks,
            timeout_ms: 120_000,
            zstd_allowed: true,
            partitions: vec![ProducePartition {
                id: partition,
                records: batch.build().unwrap(),
                checked: Checked::Not,
            }],
        };
        let outcomes = self.outcomes.clone();
        let (controller, promises) = (self.controller.clone(), self.broken_promises.clone());
        let running: Vec<(i32, Shards)> = {
            let running = self.running.borrow();
            let all = running.iter();
            all.map(|(broker, (shards, _))| (*broker, shards.clone()))
                .collect()
        };
        shard.io.clone().spawn(TaskClass::Foreground, async move {
            let mut parts = shard.ask(shard.id(), produce).await;
            let outcome = match parts.results.pop().unwrap() {
                Ok(produced) if acks == Acks::All => Outcome::Acknowledged(produced.base_offset),
                Ok(produced) => Outcome::OnLeader(produced.base_offset),
                Err(refused) => Outcome::Refused(refused.reason),
            };
            if let Outcome::Acknowledged(offset) = &outcome {
                let isr = controller
                    .borrow()
                    .image
                    .partition(partition)
                    .unwrap()
                    .isr
                    .clone();
                for (broker, shards) in &running {
                    let owner = shards[0].owner(partition);
                    let member = &shards[usize::from(owner.0)];
                    let log = member.storage.log(partition);
                    let durable = log.map_or(Offset::ZERO, |log| log.durable_end_offset());
                    // One that was ended meanwhile is judged by what its disk has.
                    let counts = isr.contains(&BrokerId(*broker)) && member.io.is_alive();
                    if counts && durable <= *offset {
                        let text = format!(
                            "{offset} of {partition} is acknowledged, broker {broker} has {durable}"
                        );
                        promises.borrow_mut().push(text);
                    }
                }
            }
            outcomes.borrow_mut().insert((partition, value), outcome);
        });
        value
    }

    /// Waits until something holds; the message says what did not.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..20_000 {
            if holds() {
                return;
            }
            self.pause(2).await;
        }
        panic!("seed {}: {what}", self.simulation.seed());
    }

    pub(crate) fn outcome(&self, partition: TopicPartition, value: u64) -> Option<Outcome> {
        self.outcomes.borrow().get(&(partition, value)).cloned()
    }

    /// All batches of a replica.
    pub(crate) async fn contents(&self, broker: i32, partition: TopicPartition) -> Vec<Bytes> {
        let shard = self.shard(broker, partition).unwrap();
        let done: Rc<RefCell<Option<Vec<Bytes>>>> = Rc::default();
        let found = done.clone();
        shard.io.clone().spawn(TaskClass::Foreground, async move {
            let log = shard.storage.log(partition).unwrap();
            let mut all = Vec::new();
            let mut from = log.log_start_offset();
            while from < log.log_end_offset() {
                let request = ReadRequest {
                    from,
                    end: log.log_end_offset(),
                    bytes_max: 1 << 20,
                    at_least_one_batch: true,
                };
                let read = shard.storage.read(&log, request).await.unwrap();
                if read.next_offset == from {
                    // The rest is not sealed yet.
                    break;
                }
                for slice in &read.batches {
                    for batch in Batches::new(slice) {
                        all.push(Bytes::copy_from_slice(batch.unwrap().1));
                    }
                }
                from = read.next_offset;
            }
            *found.borrow_mut() = Some(all);
        });
        self.until("a log is read", || done.borrow().is_some())
            .await;
        done.take().unwrap()
    }

    /// Waits until the replicas of a partition are all in sync and equal, and says what is wrong with what they have.
    pub(crate) async fn check_settled(
        &self,
        partition: TopicPartition,
        brokers: &[i32],
    ) -> Result<(), String> {
        let first = self.equal_contents(partition, brokers).await?;
        let mut values = BTreeMap::new();
        for batch in &first {
            for record in read_records_owned(batch).unwrap() {
                let value = record.value.unwrap();
                let value = u64::from_be_bytes(value[..8].try_into().unwrap());
                values.insert(value, record.offset);
            }
        }
        for ((id, value), outcome) in &*self.outcomes.borrow() {
            if let (true, Outcome::Acknowledged(offset)) = (*id == partition, outcome)
                && values.get(value) != Some(offset)
            {
                return Err(format!(
                    "{offset} of {id} was acknowledged and is not there"
                ));
            }
        }
        let broken = self.broken_promises.borrow();
        broken.first().map_or(Ok(()), |broken| Err(broken.clone()))
    }

    /// What all replicas have. A record that was still on its way to the leader when they were looked at is waited for.
    async fn equal_contents(
        &self,
        partition: TopicPartition,
        brokers: &[i32],
    ) -> Result<Vec<Bytes>, String> {
        let mut found = Err(String::new());
        for _ in 0..20_000 {
            self.hear_all();
            let Some(end) = self.settled_at(partition, brokers) else {
                found = Err("does not settle".to_owned());
                self.pause(2).await;
                continue;
            };
            let first = self.contents(brokers[0], partition).await;
            let mut other = None;
            for broker in &brokers[1..] {
                if self.contents(*broker, partition).await != first {
                    other = Some(broker);
                }
            }
            if self.settled_at(partition, brokers) != Some(end) {
                continue;
            }
            match other {
                None => return Ok(first),
                Some(broker) => found = Err(format!("broker {broker} has another log")),
            }
            break;
        }
        found.map_err(|what: String| format!("{what}: {}", self.describe(partition)))
    }

    /// Where all replicas end, if they are in sync and agree on that.
    fn settled_at(&self, partition: TopicPartition, brokers: &[i32]) -> Option<Offset> {
        let leader = self.shard(self.leader(partition)?, partition)?;
        let end = leader.storage.log(partition)?.log_end_offset();
        let is_equal = |broker: &i32| {
            let shard = self.shard(*broker, partition);
            let partition = shard.and_then(|shard| shard.partition(partition));
            partition.is_some_and(|partition| {
                let log = &partition.log;
                let ends = [
                    log.log_end_offset(),
                    log.durable_end_offset(),
                    partition.high_watermark(),
                ];
                ends == [end; 3]
            })
        };
        let is_settled = self.isr(partition) == brokers && brokers.iter().all(is_equal);
        is_settled.then_some(end)
    }

    pub(crate) fn describe(&self, partition: TopicPartition) -> String {
        use std::fmt::Write as _;
        let image = self.image();
        let mut text = format!("{:?};", image.partition(partition));
        for broker in self.running.borrow().keys() {
            let shard = self.shard(*broker, partition).unwrap();
            match shard.partition(partition) {
                None => write!(text, " broker {broker}: none").unwrap(),
                Some(p) => write!(
                    text,
                    " broker {broker}: leads {} epoch {} hw {} durable {} end {} start {};",
                    p.leads(),
                    p.leader_epoch(),
                    p.high_watermark(),
                    p.log.durable_end_offset(),
                    p.log.log_end_offset(),
                    p.log.log_start_offset()
                )
                .unwrap(),
            }
        }
        text
    }
}

fn hear(controller: &Controller, (shards, heard): &Running) {
    let from = heard.replace(controller.log.len());
    for (end, records) in &controller.log[from..] {
        for shard in shards {
            hand_made::hear(shard, *end, records);
        }
    }
}

/// Everything small, so that segments are written and left behind.
fn small_storage() -> StorageOptions {
    StorageOptions {
        directory: "/data".into(),
        journal_first_file_bytes: 128 << 10,
        journal_file_bytes: 192 << 10,
        journal_bytes_max: 1 << 20,
        group_bytes_max: 32 << 10,
        group_overlap_bytes_min: 4 << 10,
        tail_bytes_max: 192 << 10,
        cache_bytes_max: 64 << 10,
        segment_write_bytes: 6 << 10,
        carry_bytes_max: 2 << 10,
        index_chunk_bytes: 1 << 10,
        extent_bytes: 8 << 10,
        ..StorageOptions::default()
    }
}
