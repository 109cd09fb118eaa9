//! The controller: decides about the cluster, commits to the metadata log, and tells every shard.
//!
//! Lives on shard 0. Decisions are carried out one at a time, each against the image that holds all earlier ones; an answer
//! leaves only after every shard of the broker has applied its records, so a client sees its topic on whichever core it
//! asks next.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use metadata::controller::{
    BrokerRegistrationRequest, ControllerError, Decision, Heartbeat, HeartbeatAnswer, IsrChange,
    Refusal, Verdict, allocate_producer_ids, alter_partition, alter_reassignments, change_fencing,
    create_partitions, create_topics, delete_topics, elect_leaders, register_broker,
    start_controlled_shutdown, unregister_broker,
};
use metadata::{ConfigMap, MetadataRecord};
use model::config::{BrokerConfig, TopicConfig};
use model::record::BatchBuilder;
use model::{BrokerEpoch, BrokerId, Offset, PartitionEpoch};
use runtime::Io;

use crate::config_rules;
use crate::controller_call::{ControllerAnswer, ControllerRequest};
use crate::controller_queue::{Decided, Next};
use crate::metadata_quorum;
use crate::outgoing::Outgoing;
use crate::refusal::{AppendRefusal, MetadataRefusal, WaitFailure, WriteRefusal};
use crate::request::{QuorumDescribed, QuorumReplica};
use crate::shard::Shard;

/// How long a decision waits for space on the device before it is refused; others wait behind it.
const DISK_FULL_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked at meanwhile.
const DISK_FULL_INTERVAL: Duration = Duration::from_millis(50);

/// How often it is looked whether something is to move.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a full device means for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// It waits, and is refused in the end.
    Ordinary,
    /// It says how space comes back, or without it nobody could: a full device must take it.
    FreesSpace,
}

/// Carries out the controller's work, one piece at a time.
pub(crate) async fn run<I: Io>(shard: Rc<Shard<I>>) {
    let replica = shard.replica().expect("this is shard 0").clone();
    loop {
        let next = shard.controller.next().await;
        // A decision is made of everything before it, and names its place: no other entry may come between.
        shard.observers.hold_votes(true);
        metadata_quorum::settled(&shard).await;
        match next {
            Next::Judge => judge(&shard).await,
            Next::Balance => balance(&shard).await,
            Next::Work(work) => {
                let decided = match replica.is_active() {
                    true => {
                        let answer = decide(&shard, work.request).await;
                        Decided::Answer(shard.image().end_offset(), answer)
                    }
                    false => Decided::NotHere(work.request),
                };
                (work.deliver)(decided);
            }
        }
        shard.observers.hold_votes(false);
    }
}

async fn decide<I: Io>(shard: &Rc<Shard<I>>, request: ControllerRequest) -> ControllerAnswer {
    use {ControllerAnswer as Answer, ControllerRequest as Request};
    match request {
        Request::CreateTopics(request) => {
            let config = shard.config();
            let check = |configs: &ConfigMap| check_topic_config(configs, &config);
            let decision = create_topics(&shard.image(), &request, &check);
            Answer::CreateTopics(carry_out(shard, decision).await)
        }
        Request::DeleteTopics(topics) => {
            let enabled = shard.options.config.delete_topic_enable;
            let decision = delete_topics(&shard.image(), &topics, enabled);
            Answer::DeleteTopics(carry_out(shard, decision).await)
        }
        Request::CreatePartitions(request) => {
            let decision = create_partitions(&shard.image(), &request);
            Answer::CreatePartitions(carry_out(shard, decision).await)
        }
        Request::AlterConfigs(request) => {
            let (broker, config) = (shard.options.broker, shard.config());
            let decision = config_rules::decide(&shard.image(), request, broker, &config);
            Answer::AlterConfigs(carry_out(shard, decision).await)
        }
        Request::ElectLeaders(request) => {
            let decision = elect_leaders(&shard.image(), &request);
            Answer::ElectLeaders(carry_out(shard, decision).await)
        }
        Request::AlterReassignments(request) => {
            let decision = alter_reassignments(&shard.image(), &request);
            Answer::AlterReassignments(carry_out(shard, decision).await)
        }
        Request::UnregisterBroker(request) => {
            let decision = unregister(shard, request.broker);
            Answer::UnregisterBroker(carry_out(shard, decision).await)
        }
        Request::AllocateProducerIds(request) => {
            let decision = allocate_producer_ids(&shard.image(), request.broker, request.epoch);
            let decided = carry_out(shard, decision).await;
            let decided = decided.and_then(|block| block.map_err(MetadataRefusal::Decided));
            Answer::AllocateProducerIds(decided)
        }
        Request::DescribeQuorum(_) => Answer::DescribeQuorum(Ok(describe_quorum(shard))),
        Request::Register(request) => Answer::Register(register(shard, &request).await),
        Request::Heartbeat(heartbeat) => Answer::Heartbeat(hear(shard, &heartbeat)),
        Request::AlterPartitions(changes) => {
            Answer::AlterPartitions(alter_partitions(shard, &changes).await)
        }
        Request::ReportCandidates(report) => {
            let elected = shard.liveness.candidates(&shard.image(), &report);
            if !elected.is_empty() {
                tracing::info!(
                    partitions = elected.len(),
                    "suspects that have most lead again"
                );
            }
            let committed = commit_any(shard, elected, Urgency::FreesSpace).await;
            Answer::ReportCandidates(committed)
        }
        Request::ReportSizes(report) => {
            let image = shard.image();
            let known = image.broker(report.broker);
            if known.is_some_and(|known| known.epoch == report.broker_epoch) {
                shard.balancer.told_sizes(&image, &report.sizes);
            }
            Answer::ReportSizes(Ok(()))
        }
    }
}

fn describe_quorum<I: Io>(shard: &Shard<I>) -> QuorumDescribed {
    let status = shard.quorum_status();
    let me = shard.options.replica_key();
    let replicas = status.replicas.iter().map(|replica| QuorumReplica {
        key: replica.key,
        is_voter: replica.is_voter,
        log_end_offset: match replica.key == me {
            true => status.log_end_offset,
            false => replica.log_end_offset.unwrap_or(Offset::NONE),
        },
        is_active: replica.is_active || replica.key == me,
    });
    QuorumDescribed {
        leader: me.broker,
        epoch: status.leadership.term.leader_epoch(),
        high_watermark: status.high_watermark,
        replicas: replicas.collect(),
    }
}

/// Forgets a broker. Not one that is alive: it would register again.
fn unregister<I: Io>(shard: &Shard<I>, broker: BrokerId) -> Decision<Result<(), ControllerError>> {
    let is_live = shard.liveness.is_live(shard.io.now(), broker);
    if broker == shard.options.broker || is_live {
        let message =
            "this broker is running: a broker is unregistered after it was stopped for good";
        return Decision {
            records: Vec::new(),
            results: Err(ControllerError::new(Refusal::InvalidRequest, message)),
        };
    }
    unregister_broker(&shard.image(), broker)
}

/// A process becomes a broker, fenced at first. Nobody but the one that held a data directory before can have it open now:
/// with the same directory, the process before is gone, however lately it was heard.
async fn register<I: Io>(
    shard: &Rc<Shard<I>>,
    request: &BrokerRegistrationRequest,
) -> Result<BrokerEpoch, MetadataRefusal> {
    let decision = {
        let image = shard.image();
        let before = image.broker(request.broker_id);
        let is_same_place = before.is_some_and(|before| before.log_dirs == request.log_dirs);
        let is_live = shard.liveness.is_live(shard.io.now(), request.broker_id);
        let epoch = BrokerEpoch(image.end_offset().0);
        register_broker(&image, request, epoch, is_live && !is_same_place)
    };
    let Decision { records, results } = decision;
    let epoch = results.map_err(MetadataRefusal::Decided)?;
    commit_any(shard, records, Urgency::FreesSpace).await?;
    Ok(epoch)
}

/// A broker is alive. What follows from that is decided later: the answer says how it is now.
pub(crate) fn hear<I: Io>(
    shard: &Shard<I>,
    heartbeat: &Heartbeat,
) -> Result<Result<HeartbeatAnswer, ControllerError>, MetadataRefusal> {
    let now = shard.io.now();
    let answer = shard.liveness.heartbeat(now, &shard.image(), heartbeat);
    shard.controller.judge_if(shard.liveness.has_verdicts());
    answer
}

/// Leaders propose in-sync sets: one decision for each partition, one commit for all.
async fn alter_partitions<I: Io>(
    shard: &Rc<Shard<I>>,
    changes: &[IsrChange],
) -> Result<Vec<Result<PartitionEpoch, ControllerError>>, MetadataRefusal> {
    let (mut records, mut results) = (Vec::new(), Vec::new());
    {
        let image = shard.image();
        let mut seen = BTreeSet::new();
        for change in changes {
            // Two changes of one partition would both be made of the state before.
            if !seen.insert(change.partition) {
                let message = "the partition is named twice";
                results.push(Err(ControllerError::new(Refusal::InvalidRequest, message)));
                continue;
            }
            let decision = alter_partition(&image, change);
            records.extend(decision.records);
            results.push(decision.results);
        }
    }
    commit_any(shard, records, Urgency::FreesSpace).await?;
    Ok(results)
}

/// Carries out verdicts about brokers, one after the other: each is decided on the image that holds the one before.
async fn judge<I: Io>(shard: &Rc<Shard<I>>) {
    for verdict in shard.liveness.verdicts() {
        let (broker, decision) = match verdict {
            Verdict::Probe(broker) => {
                shard.outgoing().push(Outgoing::Probe(broker));
                continue;
            }
            Verdict::Fence(broker) => (broker, fence(shard, broker)),
            Verdict::Unfence(broker) => {
                let unclean = |topic: &str| may_be_unclean(shard, topic);
                (
                    broker,
                    change_fencing(&shard.image(), broker, false, &unclean),
                )
            }
            Verdict::BeginShutdown(broker) => {
                (broker, start_controlled_shutdown(&shard.image(), broker))
            }
        };
        let committed = commit_any(shard, decision.records, Urgency::FreesSpace).await;
        if let Err(error) = committed {
            tracing::info!(%broker, ?verdict, %error, "a verdict about a broker is not carried out");
        }
        shard.liveness.decided(broker);
    }
}

/// Looks again and again whether something is to move, for the life of the process.
pub(crate) async fn look_for_moves<I: Io>(shard: Rc<Shard<I>>) {
    loop {
        shard.io.sleep(LOOK_INTERVAL).await;
        let is_active = shard.replica().is_some_and(|replica| replica.is_active());
        let now = shard.io.now();
        let is_due = shard.balancer.follow(is_active, now, &shard.image());
        shard.controller.balance_if(is_due);
    }
}

/// Decides what moves by itself.
async fn balance<I: Io>(shard: &Rc<Shard<I>>) {
    let records = {
        let config = shard.config();
        shard
            .balancer
            .decide(&shard.image(), &config, shard.io.now())
    };
    if let Err(error) = commit_any(shard, records, Urgency::Ordinary).await {
        tracing::info!(%error, "what is to move stays for now");
    }
}

/// Takes a broker's leadership away. There is nobody else to lead where it is the only one.
fn fence<I: Io>(shard: &Shard<I>, broker: BrokerId) -> Decision<()> {
    let image = shard.image();
    if broker == shard.options.broker && image.brokers().count() == 1 {
        return Decision {
            records: Vec::new(),
            results: (),
        };
    }
    tracing::warn!(%broker, "the broker is fenced: it is not heard any more, or asked for it");
    change_fencing(&image, broker, true, &|topic| may_be_unclean(shard, topic))
}

/// Whether a topic's `unclean.leader.election.enable` holds.
fn may_be_unclean<I: Io>(shard: &Shard<I>, topic: &str) -> bool {
    let topic = shard.image().topic_by_name(topic).cloned();
    topic.is_some_and(|topic| shard.topic_config(&topic).unclean_leader_election_enable)
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

/// The same of records, if there are any.
async fn commit_any<I: Io>(
    shard: &Rc<Shard<I>>,
    records: Vec<MetadataRecord>,
    urgency: Urgency,
) -> Result<(), MetadataRefusal> {
    match records.is_empty() {
        true => Ok(()),
        false => commit(shard, records, urgency).await,
    }
}

/// Makes records part of the metadata log, then of every shard's image.
async fn commit<I: Io>(
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
