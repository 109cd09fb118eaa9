//! A metadata answer leaves only after every shard of the broker has applied its records (README, invariant 11),
//! however late their messages come.
//!
//! Between the shards stand relays, which keep the order of each mailbox and hold every message back for a while.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use metadata::controller::{CreateTopicsRequest, NewTopic};
use model::{ShardId, TopicId};
use runtime::Io;
use runtime::mailbox::{Inbox, Sender, mailbox};
use runtime::sim::{Generator, SimIo, Simulation};
use shard::message::Envelope;
use shard::{Shard, boot};

use crate::bed;

const SHARDS: usize = 3;
const SEEDS: u64 = 20;
const TOPICS: u8 = 8;
/// Messages in a mailbox.
const CAPACITY: usize = 64;
/// A relay holds a message for so long at most, in microseconds.
const DELAY_US_MAX: u64 = 30_000;

/// Hands on what comes for a shard. If `lies`, shard 0 hears at once that metadata is applied that is still under way.
async fn relay(
    io: SimIo,
    to: ShardId,
    mut from: Inbox<Envelope>,
    inboxes: Vec<Sender<Envelope>>,
    lies: bool,
) {
    let random = Generator::new(io.random(), 1);
    loop {
        let message = from.next().await;
        match &message {
            Envelope::Metadata(end, _) if lies => {
                let applied = Envelope::MetadataApplied(to, *end);
                inboxes[0].send(applied).await;
            }
            // The truth would come as news of the past.
            Envelope::MetadataApplied(..) if lies => continue,
            _ => {}
        }
        let delay = Duration::from_micros(random.below(DELAY_US_MAX));
        io.sleep(delay).await;
        inboxes[usize::from(to.0)].send(message).await;
    }
}

/// All shards of node 0, with relays before their inboxes.
fn start(simulation: &Simulation, lies: bool) -> Vec<Rc<Shard<SimIo>>> {
    let (inner, inboxes): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| mailbox(CAPACITY)).unzip();
    let (outer, relayed): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| mailbox(CAPACITY)).unzip();
    let started: Rc<RefCell<Vec<Rc<Shard<SimIo>>>>> = Rc::default();
    let ios = simulation.ios(0).into_iter();
    for (index, ((io, inbox), from)) in ios.zip(inboxes).zip(relayed).enumerate() {
        let to = ShardId(u16::try_from(index).unwrap());
        simulation.spawn(0, index, relay(io.clone(), to, from, inner.clone(), lies));
        let (started, outer) = (started.clone(), outer.clone());
        simulation.spawn(0, index, async move {
            let booted = boot(io, bed::options(to), inbox, outer, |_| {}).await;
            started.borrow_mut().push(booted.unwrap().shard);
        });
    }
    simulation.run_until(|| started.borrow().len() == SHARDS);
    let mut shards = started.take();
    shards.sort_by_key(|shard| shard.id());
    shards
}

fn new_topic(number: u8) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics: vec![NewTopic {
            name: format!("topic-{number}"),
            topic_id: TopicId([number + 1; 16]),
            partition_count: 3,
            replication_factor: 1,
            ..NewTopic::default()
        }],
        ..CreateTopicsRequest::default()
    }
}

async fn create(asked: &Rc<Shard<SimIo>>, number: u8) {
    let created = asked.ask(ShardId(0), new_topic(number)).await.unwrap();
    assert!(created[0].1.is_ok(), "{created:?}");
}

/// Shards that did not know a topic at the moment when its creation was answered.
fn late_shards(seed: u64, lies: bool) -> Vec<(u8, ShardId)> {
    let simulation = Simulation::new(seed, 1, SHARDS);
    let shards = start(&simulation, lies);
    simulation.block_on(0, async {
        let mut late = Vec::new();
        for number in 0..TOPICS {
            let asked = &shards[usize::from(number) % SHARDS];
            create(asked, number).await;
            for shard in &shards {
                let name = format!("topic-{number}");
                if shard.image().topic_by_name(&name).is_none() {
                    late.push((number, shard.id()));
                }
            }
        }
        late
    })
}

#[test]
fn an_answer_leaves_after_every_shard_has_applied() {
    for seed in 0..SEEDS {
        assert_eq!(late_shards(seed, false), [], "seed {seed}");
    }
}

/// The test above notices when shard 0 believes too early that a shard has applied the records.
#[test]
fn an_answer_that_leaves_too_early_is_noticed() {
    let noticed = (0..SEEDS).any(|seed| !late_shards(seed, true).is_empty());
    assert!(noticed, "{SEEDS} seeds did not notice");
}
