//! The controller: decides about the cluster, commits to the metadata log, and tells every shard.
//!
//! Lives on shard 0. Decisions are carried out one at a time, each against the image that holds all earlier ones; an answer
//! leaves only after every shard of the broker has applied its records, so a client sees its topic on whichever core it
//! asks next.

use std::rc::Rc;
use std::time::Duration;

use metadata::controller::{
    ControllerError, Decision, Refusal, allocate_producer_ids, alter_reassignments,
    create_partitions, create_topics, delete_topics, elect_leaders, unregister_broker,
};
use metadata::{ConfigMap, MetadataRecord};
use model::BrokerId;
use model::config::{BrokerConfig, TopicConfig};
use model::record::BatchBuilder;
use runtime::Io;

use crate::config_rules;
use crate::controller_queue::ControllerWork;
use crate::metadata_quorum;
use crate::refusal::{AppendRefusal, MetadataRefusal, WaitFailure, WriteRefusal};
use crate::request::AllocatedIds;
use crate::shard::Shard;

/// How long a decision waits for space on the device before it is refused; others wait behind it.
const DISK_FULL_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked at meanwhile.
const DISK_FULL_INTERVAL: Duration = Duration::from_millis(50);

/// What a full device means for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// It waits, and is refused in the end.
    Ordinary,
    /// It says how space comes back, or without it nobody could: a full device must take it.
    FreesSpace,
}

/// Carries out the controller's work, one piece at a time.
pub(crate) async fn run<I: Io>(shard: Rc<Shard<I>>) {
    loop {
        match shard.controller.next().await {
            ControllerWork::CreateTopics(request, reply) => {
                let config = shard.config();
                let check = |configs: &ConfigMap| check_topic_config(configs, &config);
                let decision = create_topics(&shard.image(), &request, &check);
                let answer = carry_out(&shard, decision).await;
                shard.peers.answer(reply, answer);
            }
            ControllerWork::DeleteTopics(topics, reply) => {
                let enabled = shard.options.config.delete_topic_enable;
                let decision = delete_topics(&shard.image(), &topics, enabled);
                let answer = carry_out(&shard, decision).await;
                shard.peers.answer(reply, answer);
            }
            ControllerWork::CreatePartitions(request, reply) => {
                let decision = create_partitions(&shard.image(), &request);
                let answer = carry_out(&shard, decision).await;
                shard.peers.answer(reply, answer);
            }
            ControllerWork::AlterConfigs(request, reply) => {
                let (broker, config) = (shard.options.broker, shard.config());
                let decision = config_rules::decide(&shard.image(), request, broker, &config);
                let answer = carry_out(&shard, decision).await;
                shard.peers.answer(reply, answer);
            }
            ControllerWork::ElectLeaders(request, reply) => {
                let decision = elect_leaders(&shard.image(), &request);
                let answer = carry_out(&shard, decision).await;
                shard.peers.answer(reply, answer);
            }
            ControllerWork::AlterReassignments(request, reply) => {
                let decision = alter_reassignments(&shard.image(), &request);
                let answer = carry_out(&shard, decision).await;
                shard.peers.answer(reply, answer);
            }
            ControllerWork::UnregisterBroker(request, reply) => {
                let decision = unregister(&shard, request.broker);
                let answer = carry_out(&shard, decision).await;
                shard.peers.answer(reply, answer);
            }
            ControllerWork::AllocateProducerIds(reply) => {
                let answer = allocate(&shard).await;
                shard.peers.answer(reply, answer);
            }
        }
    }
}

/// Forgets a broker. Not this one: it registers when it starts, and serves nothing without.
fn unregister<I: Io>(shard: &Shard<I>, broker: BrokerId) -> Decision<Result<(), ControllerError>> {
    if broker == shard.options.broker {
        let message =
            "this broker is running: a broker is unregistered after it was stopped for good";
        return Decision {
            records: Vec::new(),
            results: Err(ControllerError::new(Refusal::InvalidRequest, message)),
        };
    }
    unregister_broker(&shard.image(), broker)
}

async fn allocate<I: Io>(shard: &Rc<Shard<I>>) -> Result<AllocatedIds, MetadataRefusal> {
    let decision = {
        let image = shard.image();
        let broker = shard.options.broker;
        let registration = image.broker(broker);
        let epoch = registration.expect("a broker registers before it serves");
        allocate_producer_ids(&image, broker, epoch.epoch)
    };
    let decided = carry_out(shard, decision).await?;
    decided.map_err(MetadataRefusal::Decided)
}

/// Makes a decision true, if it changes anything, and returns its results.
async fn carry_out<I: Io, T>(
    shard: &Rc<Shard<I>>,
    decision: Decision<T>,
) -> Result<T, MetadataRefusal> {
    if !decision.records.is_empty() {
        let removes = |record: &MetadataRecord| matches!(record, MetadataRecord::RemoveTopic(_));
        let urgency = match decision.records.iter().any(removes) {
            true => Urgency::FreesSpace,
            false => Urgency::Ordinary,
        };
        commit(shard, decision.records, urgency).await?;
    }
    Ok(decision.results)
}

/// Makes records part of the metadata log, then of every shard's image.
pub(crate) async fn commit<I: Io>(
    shard: &Rc<Shard<I>>,
    records: Vec<MetadataRecord>,
    urgency: Urgency,
) -> Result<(), MetadataRefusal> {
    let mut batch = BatchBuilder::new();
    let now = shard.io.wall_clock();
    for record in &records {
        batch.push(now, None, Some(&record.encode()));
    }
    let batch = batch.build().map_err(|error| {
        tracing::error!(%error, "a decision does not fit into the metadata log");
        MetadataRefusal::TooLarge
    })?;
    wait_for_space(shard, urgency).await?;
    let end = metadata_quorum::commit(shard, &batch).await?;
    shard.controller.all_applied(end).await;
    Ok(())
}

/// What was proposed cannot be taken back, so a full device refuses it before. It is given some time: what frees space may
/// be under way.
async fn wait_for_space<I: Io>(
    shard: &Rc<Shard<I>>,
    urgency: Urgency,
) -> Result<(), MetadataRefusal> {
    let deadline = shard.io.now().plus(DISK_FULL_PATIENCE);
    let takes = || urgency == Urgency::FreesSpace || !shard.storage.is_disk_full();
    while !takes() && shard.storage.fence_reason().is_none() {
        if shard.io.now() >= deadline {
            let refusal = WriteRefusal::Append(AppendRefusal::DiskFull);
            return Err(MetadataRefusal::NotWritten(refusal));
        }
        shard.io.sleep(DISK_FULL_INTERVAL).await;
    }
    match shard.storage.fence_reason() {
        None => Ok(()),
        Some(_) => {
            let refusal = WriteRefusal::NotAcknowledged(WaitFailure::Fenced);
            Err(MetadataRefusal::NotWritten(refusal))
        }
    }
}

fn check_topic_config(configs: &ConfigMap, defaults: &BrokerConfig) -> Result<(), String> {
    TopicConfig::from_overrides(configs, defaults)
        .map(drop)
        .map_err(|error| error.to_string())
}
