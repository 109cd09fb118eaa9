//! A shard that hears of a topic later than the shard that asks it: it waits, and refuses nothing that will be right in
//! a moment. Otherwise the first batch of a producer would be refused and the next one accepted.
//!
//! Every two shards have a mailbox of their own here, and what shard 0 tells shard 2 of the metadata is held back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use coordinator::{GroupReply, GroupRequest, OffsetFetchRequest};
use metadata::controller::{CreateTopicsRequest, NewTopic};
use model::record::BatchBuilder;
use model::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::mailbox::{Inbox, Sender, mailbox};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, TaskClass};
use shard::coordinator_host::OFFSETS_TOPIC;
use shard::message::{Envelope, GroupQuestion};
use shard::request::{
    Acks, DeleteRecords, EpochEnd, Fetch, FetchPartition, Isolation, ListOffset, OffsetSpec,
    Produce, ProducePartition,
};
use shard::{Shard, boot};

use crate::bed;

const SHARDS: u16 = 3;
const CAPACITY: usize = 64;
/// How long shard 2 hears nothing of what shard 0 has committed.
const DELAY: Duration = Duration::from_millis(300);
const TOPIC: TopicId = TopicId([7; 16]);
/// The shard that is asked.
const OWNER: ShardId = ShardId(2);
/// The shard that asks.
const ASKER: usize = 1;

/// Hands on what one shard sends another; metadata only after `delay`.
async fn relay(io: SimIo, mut from: Inbox<Envelope>, to: Sender<Envelope>, delay: Duration) {
    loop {
        let message = from.next().await;
        if matches!(message, Envelope::Metadata(..)) {
            io.sleep(delay).await;
        }
        to.send(message).await;
    }
}

fn start(simulation: &Simulation) -> Vec<Rc<Shard<SimIo>>> {
    let started: Rc<RefCell<Vec<Rc<Shard<SimIo>>>>> = Rc::default();
    let ios = simulation.ios(0);
    let (inner, inboxes): (Vec<_>, Vec<_>) = ios.iter().map(|_| mailbox(CAPACITY)).unzip();
    for (index, (io, inbox)) in ios.into_iter().zip(inboxes).enumerate() {
        let me = ShardId(u16::try_from(index).unwrap());
        let relays = (0..).zip(&inner).map(|(to, inner)| {
            let (sender, relayed) = mailbox(CAPACITY);
            let is_late = me == ShardId(0) && ShardId(to) == OWNER;
            let delay = if is_late { DELAY } else { Duration::ZERO };
            let relay = relay(io.clone(), relayed, inner.clone(), delay);
            simulation.spawn(0, index, relay);
            sender
        });
        let senders: Vec<_> = relays.collect();
        let started = started.clone();
        simulation.spawn(0, index, async move {
            let booted = boot(io, bed::options(me), inbox, senders, |_| {}).await;
            started.borrow_mut().push(booted.unwrap().shard);
        });
    }
    simulation.run_until(|| started.borrow().len() == usize::from(SHARDS));
    let mut shards = started.take();
    shards.sort_by_key(|shard| shard.id());
    shards
}

/// Has a topic created and returns as soon as the asker knows it; its owner does not yet. A partition of the owner.
async fn half_known(shards: &[Rc<Shard<SimIo>>], name: &str) -> TopicPartition {
    let create = CreateTopicsRequest {
        topics: vec![NewTopic {
            name: name.into(),
            topic_id: TOPIC,
            partition_count: 16,
            replication_factor: 1,
            ..NewTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let first = shards[0].clone();
    shards[0].io.spawn(TaskClass::Foreground, async move {
        let created = first.ask(ShardId(0), create).await.unwrap();
        assert!(created[0].1.is_ok(), "{created:?}");
    });
    let knows = |shard: &Shard<SimIo>| shard.image().topic_by_id(TOPIC).is_some();
    while !knows(&shards[ASKER]) {
        shards[0].io.sleep(Duration::from_millis(1)).await;
    }
    assert!(!knows(&shards[usize::from(OWNER.0)]), "nothing to show");
    let id = |index| TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(index),
    };
    let owned = |id: &TopicPartition| shards[0].owner(*id) == OWNER;
    (0..16).map(id).find(owned).unwrap()
}

fn one_record(shard: &Shard<SimIo>, id: TopicPartition) -> Produce {
    let mut batch = BatchBuilder::new();
    batch.push(shard.io.wall_clock(), None, Some(b"value"));
    Produce {
        acks: Acks::All,
        timeout_ms: 10_000,
        zstd_allowed: true,
        partitions: vec![ProducePartition {
            id,
            records: batch.build().unwrap(),
            checked: shard::request::Checked::Not,
        }],
    }
}

#[test]
fn batches_are_taken_in_their_order_by_an_owner_that_hears_late() {
    let simulation = Simulation::new(1, 1, usize::from(SHARDS));
    let shards = start(&simulation);
    simulation.block_on(0, async {
        let id = half_known(&shards, "orders").await;
        let asker = &shards[ASKER];
        let first = asker.ask(OWNER, one_record(asker, id)).await;
        let second = asker.ask(OWNER, one_record(asker, id)).await;
        for (expected, produced) in [(0, first), (1, second)] {
            let offset = produced.results[0].as_ref().unwrap().base_offset;
            assert_eq!(offset, Offset(expected));
        }
    });
}

#[test]
fn no_question_about_a_new_partition_is_refused_by_its_owner() {
    let simulation = Simulation::new(2, 1, usize::from(SHARDS));
    let shards = start(&simulation);
    simulation.block_on(0, async {
        let id = half_known(&shards, "orders").await;
        let asker = &shards[ASKER];
        let fetch = Fetch {
            isolation: Isolation::ReadUncommitted,
            bytes_max: 1 << 20,
            at_least_one_batch: true,
            from_followers: false,
            partitions: vec![FetchPartition {
                id,
                offset: Offset(0),
                bytes_max: 1 << 20,
                current_leader_epoch: LeaderEpoch(0),
                last_fetched_epoch: LeaderEpoch::NONE,
                closest: None,
            }],
        };
        let list = ListOffset {
            id,
            current_leader_epoch: LeaderEpoch(0),
            isolation: Isolation::ReadUncommitted,
            spec: OffsetSpec::Latest,
        };
        let end = EpochEnd {
            id,
            current_leader_epoch: LeaderEpoch(0),
            epoch: LeaderEpoch(0),
        };
        let delete = DeleteRecords {
            id,
            before: Offset(0),
        };
        let fetched = asker.ask(OWNER, fetch).await;
        assert!(fetched.results[0].is_ok(), "{fetched:?}");
        let listed = asker.ask(OWNER, vec![list]).await;
        assert_eq!(listed[0].unwrap().unwrap().offset, Offset(0));
        assert!(asker.ask(OWNER, vec![end]).await[0].is_ok());
        assert_eq!(asker.ask(OWNER, vec![delete]).await, [Ok(Offset(0))]);
    });
}

#[test]
fn a_group_has_its_coordinator_as_soon_as_anybody_knows_the_topic_of_offsets() {
    let simulation = Simulation::new(3, 1, usize::from(SHARDS));
    let shards = start(&simulation);
    simulation.block_on(0, async {
        let partition = half_known(&shards, OFFSETS_TOPIC).await;
        let request = GroupRequest::OffsetFetch(OffsetFetchRequest {
            group_id: "group".into(),
            topics: None,
        });
        let question = GroupQuestion { partition, request };
        let GroupReply::OffsetFetch(reply) = shards[ASKER].ask(OWNER, question).await else {
            panic!("not what was asked for");
        };
        assert!(reply.error.is_none(), "{reply:?}");
    });
}

#[test]
fn a_shard_that_has_not_heard_of_a_topic_catches_up() {
    let simulation = Simulation::new(4, 1, usize::from(SHARDS));
    let shards = start(&simulation);
    simulation.block_on(0, async {
        half_known(&shards, "orders").await;
        let late = &shards[usize::from(OWNER.0)];
        late.catch_up().await;
        assert!(late.image().topic_by_name("orders").is_some());
    });
}
