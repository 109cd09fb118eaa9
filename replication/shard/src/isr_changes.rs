//! In-sync sets on their way to the controller: what the leaders of this shard propose, and what becomes of it.
//!
//! One question at a time holds the proposals of all partitions that have any: while it is under way others gather, of each
//! partition the newest.

use std::rc::Rc;

use metadata::controller::{ControllerError, IsrChange, Refusal};
use metadata::record::LeaderRecoveryState;
use model::{BrokerEpoch, PartitionEpoch, ShardId, TopicPartition};
use replica::{IsrProposal, IsrRefusal};
use runtime::Io;

use crate::shard::Shard;

/// Proposals of one question: its text stays below what may be forwarded.
const CHANGES_MAX: usize = 1_000;

/// Takes proposals to the controller, for the life of the process.
pub(crate) async fn run<I: Io>(shard: Rc<Shard<I>>) {
    loop {
        let proposals = shard.next_isr_proposals().await;
        for some in proposals.chunks(CHANGES_MAX) {
            propose(&shard, some).await;
        }
    }
}

async fn propose<I: Io>(shard: &Rc<Shard<I>>, proposals: &[(TopicPartition, IsrProposal)]) {
    // Without a registration nobody leads anything: it is refused.
    let epoch = shard.broker_epoch().unwrap_or(BrokerEpoch(-1));
    let changes = proposals.iter().map(|(partition, proposal)| IsrChange {
        broker_id: shard.options.broker,
        broker_epoch: epoch,
        partition: *partition,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr.clone(),
        leader_recovery_state: LeaderRecoveryState::Recovered,
    });
    let changes: Vec<IsrChange> = changes.collect();
    let mut results = match shard.ask(ShardId(0), changes).await {
        Ok(results) => results.into_iter().map(judge).collect(),
        Err(error) => {
            tracing::debug!(%error, "in-sync sets were proposed in vain");
            Vec::new()
        }
    };
    // An answer that is too short leaves the others open.
    results.resize(proposals.len(), Err(IsrRefusal::NotNow));
    for ((id, proposal), result) in proposals.iter().zip(results) {
        shard.isr_result(*id, proposal.partition_epoch, result);
    }
}

/// What the controller's answer to one proposal means for the leader.
fn judge(result: Result<PartitionEpoch, ControllerError>) -> Result<PartitionEpoch, IsrRefusal> {
    result.map_err(|error| match error.refusal {
        Refusal::PartitionEpochStale
        | Refusal::FencedLeaderEpoch
        | Refusal::UnknownTopicId
        | Refusal::UnknownTopicOrPartition => IsrRefusal::Outdated,
        Refusal::IneligibleReplica | Refusal::InvalidRequest => IsrRefusal::Rejected,
        other => {
            tracing::debug!(?other, reason = %error.message, "an in-sync set is refused for now");
            IsrRefusal::NotNow
        }
    })
}
