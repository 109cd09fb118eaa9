//! What this broker sees to while it leads the metadata log: who else gets it, and who has a vote.
//!
//! On shard 0, after everything that the quorum was told.

use std::rc::Rc;

use model::config::{VOTE_ALWAYS, VOTE_KEY, VOTE_NEVER};
use quorum::ReplicaKey;
use runtime::Io;

use crate::contacts::replica_key;
use crate::metadata_replica::MetadataReplica;
use crate::observers::{Candidate, Vote, next_change};
use crate::shard::Shard;

/// Does what is due as the leader. Whether the quorum was told something.
pub(crate) fn lead<I: Io>(shard: &Rc<Shard<I>>) -> bool {
    let replica = shard.replica().expect("the quorum is on shard 0");
    let is_active = replica.is_active();
    let is_news = {
        let image = shard.image();
        shard.liveness.follow(is_active, shard.io.now(), &image)
    };
    let due = shard.observers.take();
    if !is_active {
        return false;
    }
    let brokers_changed = due.brokers_changed || is_news;
    if brokers_changed || due.looks_at_voters && somebody_is_left_out(shard, replica) {
        let keys: Vec<ReplicaKey> = candidates(shard).iter().map(|one| one.key).collect();
        match replica.set_observers(&keys) {
            Ok(()) => {
                // What has changed about brokers may concern votes, too: in the next round, when what follows is done.
                if brokers_changed {
                    shard.observers.look_at_voters();
                }
                return true;
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "not every broker gets the metadata log");
            }
        }
    }
    (brokers_changed || due.looks_at_voters) && change_voters(shard, replica)
}

/// Whether a broker does not get the metadata log: one that has lost its vote is no observer by that.
fn somebody_is_left_out<I: Io>(shard: &Shard<I>, replica: &MetadataReplica) -> bool {
    let status = replica.status();
    let gets = |key: ReplicaKey| status.replicas.iter().any(|replica| replica.key == key);
    candidates(shard).iter().any(|one| !gets(one.key))
}

/// Makes the next change of the voters, if there is one. Whether the quorum was asked for it.
fn change_voters<I: Io>(shard: &Shard<I>, replica: &MetadataReplica) -> bool {
    let status = replica.status();
    let voters = status.replicas.iter().filter(|replica| replica.is_voter);
    let voters: Vec<ReplicaKey> = voters.map(|replica| replica.key).collect();
    let me = shard.options.replica_key();
    let candidates = candidates(shard);
    let shall_not_vote = |one: &Candidate| one.key == me && one.vote == Vote::Never;
    if voters.len() > 1 && candidates.iter().any(shall_not_vote) && replica.hand_over().is_ok() {
        tracing::info!("the metadata log is handed over: this broker shall have no vote");
        return true;
    }
    let change = next_change(me, &voters, &candidates, &shard.options.voters);
    let Some(change) = change else {
        return false;
    };
    match replica.change_voters(change) {
        Ok(()) => tracing::info!(?change, "the voters of the metadata log change"),
        Err(refusal) => {
            tracing::debug!(?change, %refusal, "the voters stay as they are for now");
        }
    }
    true
}

/// The registered brokers.
fn candidates<I: Io>(shard: &Shard<I>) -> Vec<Candidate> {
    let image = shard.image();
    let lost = shard.balancer.lost(&shard.config(), shard.io.now());
    let brokers = image.brokers().filter_map(|broker| {
        let vote = match image.broker_value(broker.id, VOTE_KEY) {
            _ if image.is_drained(broker.id) => Vote::Never,
            Some(VOTE_NEVER) => Vote::Never,
            Some(VOTE_ALWAYS) => Vote::Always,
            _ if lost.contains(&broker.id) => Vote::Lost,
            _ => Vote::Auto,
        };
        Some(Candidate {
            key: replica_key(broker)?,
            is_alive: !broker.fenced,
            vote,
        })
    });
    brokers.collect()
}
