//! Brokers that register, die and come back, and what becomes of their partitions.

use model::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicPartition,
};
use ringlog_metadata::controller::Refusal::{
    self, BrokerIdNotRegistered, DuplicateBrokerRegistration, ElectionNotNeeded,
    EligibleLeadersNotAvailable, FencedLeaderEpoch, InconsistentClusterId, IneligibleReplica,
    InvalidRegistration, InvalidRequest, NotController, PartitionEpochStale,
    PreferredLeaderNotAvailable, StaleBrokerEpoch,
};
use ringlog_metadata::controller::{
    BrokerRegistrationRequest, ElectionKind, IsrChange, allocate_producer_ids, alter_partition,
    elect, register_broker,
};
use ringlog_metadata::{LeaderRecoveryState, MetadataRecord, PartitionDelta};

use crate::cluster::Cluster;

fn epoch_of(cluster: &Cluster, id: i32) -> BrokerEpoch {
    cluster.image.broker(BrokerId(id)).unwrap().epoch
}

#[test]
fn fencing_moves_leadership_and_the_last_isr_member_stays_eligible() {
    let mut cluster = Cluster::new(&[None, None]);
    let topic = cluster.create("t", 1, 2);
    let id = TopicPartition {
        topic,
        partition: PartitionIndex(0),
    };
    let first = cluster.image.partition(id).unwrap().leader.unwrap();
    let second = BrokerId(3 - first.0);
    let delta = cluster.fence(first.0, true);
    let changed = PartitionDelta::Changed {
        leader_epoch_changed: true,
    };
    assert_eq!(delta.partitions.get(&id), Some(&changed));
    let state = cluster.image.partition(id).unwrap();
    assert_eq!(
        (state.leader, state.isr.as_slice()),
        (Some(second), [second].as_slice())
    );
    cluster.fence(second.0, true);
    let state = cluster.image.partition(id).unwrap();
    assert_eq!((state.leader, state.isr.as_slice()), (None, [].as_slice()));
    assert_eq!(state.eligible_leader_replicas(), [second]);
    assert_eq!(state.leader_epoch, LeaderEpoch(2));
    // The one that may lack records does not lead; the last member does.
    cluster.fence(first.0, false);
    assert_eq!(cluster.image.partition(id).unwrap().leader, None);
    cluster.fence(second.0, false);
    let state = cluster.image.partition(id).unwrap();
    assert_eq!(
        (state.leader, state.leader_epoch),
        (Some(second), LeaderEpoch(3))
    );
}

#[test]
fn unclean_election_is_asked_for_and_marks_the_partition() {
    let mut cluster = Cluster::new(&[None, None]);
    let topic = cluster.create("t", 1, 2);
    let id = TopicPartition {
        topic,
        partition: PartitionIndex(0),
    };
    let first = cluster.image.partition(id).unwrap().leader.unwrap();
    let second = BrokerId(3 - first.0);
    let refused = |result: Result<_, ringlog_metadata::controller::ControllerError>| {
        result
            .map(|_: ringlog_metadata::record::PartitionChangeRecord| ())
            .unwrap_err()
            .refusal
    };
    let needless = elect(&cluster.image, id, ElectionKind::Preferred);
    assert_eq!(refused(needless), ElectionNotNeeded);
    cluster.fence(first.0, true);
    let unavailable = elect(&cluster.image, id, ElectionKind::Preferred);
    assert_eq!(refused(unavailable), PreferredLeaderNotAvailable);
    cluster.fence(second.0, true);
    let nobody = elect(&cluster.image, id, ElectionKind::Unclean);
    assert_eq!(refused(nobody), EligibleLeadersNotAvailable);
    cluster.fence(first.0, false);
    let change = elect(&cluster.image, id, ElectionKind::Unclean).unwrap();
    cluster.commit(&[MetadataRecord::PartitionChange(change)]);
    let state = cluster.image.partition(id).unwrap();
    assert_eq!(
        (state.leader, state.isr.as_slice()),
        (Some(first), [first].as_slice())
    );
    assert_eq!(state.leader_recovery_state, LeaderRecoveryState::Recovering);
}

#[test]
fn isr_changes_are_judged() {
    let mut cluster = Cluster::new(&[None, None, None]);
    let topic = cluster.create("t", 1, 2);
    let id = TopicPartition {
        topic,
        partition: PartitionIndex(0),
    };
    let state = cluster.image.partition(id).unwrap().clone();
    let leader = state.leader.unwrap();
    let other = *state
        .replicas
        .iter()
        .find(|broker| **broker != leader)
        .unwrap();
    let outsider = (1..=3)
        .map(BrokerId)
        .find(|id| !state.replicas.contains(id))
        .unwrap();
    let good = IsrChange {
        broker_id: leader,
        broker_epoch: epoch_of(&cluster, leader.0),
        partition: id,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        isr: vec![(leader, BrokerEpoch(-1))],
        leader_recovery_state: LeaderRecoveryState::Recovered,
    };
    let unknown = BrokerEpoch(-1);
    let rows: Vec<(&str, IsrChange, Refusal)> = vec![
        (
            "stale broker",
            IsrChange {
                broker_epoch: BrokerEpoch(99),
                ..good.clone()
            },
            StaleBrokerEpoch,
        ),
        (
            "ahead",
            IsrChange {
                leader_epoch: LeaderEpoch(5),
                ..good.clone()
            },
            NotController,
        ),
        (
            "behind",
            IsrChange {
                leader_epoch: LeaderEpoch(-1),
                ..good.clone()
            },
            FencedLeaderEpoch,
        ),
        (
            "old version",
            IsrChange {
                partition_epoch: PartitionEpoch(-1),
                ..good.clone()
            },
            PartitionEpochStale,
        ),
        (
            "without leader",
            IsrChange {
                isr: vec![(other, unknown)],
                ..good.clone()
            },
            InvalidRequest,
        ),
        (
            "outsider",
            IsrChange {
                isr: vec![(leader, unknown), (outsider, unknown)],
                ..good.clone()
            },
            InvalidRequest,
        ),
        (
            "wrong epoch",
            IsrChange {
                isr: vec![(leader, unknown), (other, BrokerEpoch(77))],
                ..good.clone()
            },
            IneligibleReplica,
        ),
        (
            "not the leader",
            IsrChange {
                broker_id: other,
                broker_epoch: epoch_of(&cluster, other.0),
                ..good.clone()
            },
            InvalidRequest,
        ),
    ];
    for (row, change, expected) in rows {
        let decision = alter_partition(&cluster.image, &change);
        assert_eq!(decision.results.unwrap_err().refusal, expected, "{row}");
        assert!(decision.records.is_empty(), "{row}");
    }
    let decision = alter_partition(&cluster.image, &good);
    assert_eq!(decision.results, Ok(PartitionEpoch(1)));
    cluster.commit(&decision.records);
    let state = cluster.image.partition(id).unwrap();
    assert_eq!(
        (state.isr.as_slice(), state.leader_epoch),
        ([leader].as_slice(), LeaderEpoch(0))
    );
    cluster.fence(other.0, true);
    let back = IsrChange {
        isr: vec![(leader, unknown), (other, unknown)],
        partition_epoch: PartitionEpoch(1),
        ..good
    };
    let decision = alter_partition(&cluster.image, &back);
    assert_eq!(decision.results.unwrap_err().refusal, IneligibleReplica);
}

#[test]
fn registration_is_judged_and_an_unclean_restart_leaves_the_isr() {
    let mut cluster = Cluster::new(&[None, None]);
    let topic = cluster.create("t", 1, 2);
    let id = TopicPartition {
        topic,
        partition: PartitionIndex(0),
    };
    let again = cluster.returns(1);
    let next = BrokerEpoch(cluster.image.end_offset().0);
    let code = |request: &BrokerRegistrationRequest, live| {
        let decision = register_broker(&cluster.image, request, next, live);
        decision.results.err().map(|error| error.refusal)
    };
    let foreign = BrokerRegistrationRequest {
        cluster_id: "x".to_owned(),
        ..again.clone()
    };
    assert_eq!(code(&foreign, false), Some(InconsistentClusterId));
    assert_eq!(code(&again, true), Some(DuplicateBrokerRegistration));
    let thief = BrokerRegistrationRequest {
        broker_id: BrokerId(3),
        ..again.clone()
    };
    assert_eq!(code(&thief, false), Some(InvalidRegistration));
    let without_shards = BrokerRegistrationRequest {
        shard_count: Some(0),
        ..again.clone()
    };
    assert_eq!(code(&without_shards, false), Some(InvalidRegistration));
    let again = BrokerRegistrationRequest {
        shard_count: Some(4),
        ..again
    };
    let decision = register_broker(&cluster.image, &again, next, false);
    cluster.commit(&decision.records);
    let state = cluster.image.partition(id).unwrap();
    assert_eq!(
        (state.leader, state.isr.as_slice()),
        (Some(BrokerId(2)), [BrokerId(2)].as_slice())
    );
    let broker = cluster.image.broker(BrokerId(1)).unwrap();
    assert!(broker.fenced && broker.epoch == next);
    assert_eq!(broker.shard_count, Some(4));
}

#[test]
fn producer_ids_come_in_blocks() {
    let mut cluster = Cluster::new(&[None]);
    let epoch = epoch_of(&cluster, 1);
    for block in 0..3 {
        let decision = allocate_producer_ids(&cluster.image, BrokerId(1), epoch);
        let given = decision.results.unwrap();
        assert_eq!((given.first, given.count), (ProducerId(block * 1000), 1000));
        cluster.commit(&decision.records);
    }
    let stale = allocate_producer_ids(&cluster.image, BrokerId(1), BrokerEpoch(999));
    assert_eq!(stale.results.unwrap_err().refusal, StaleBrokerEpoch);
    let unknown = allocate_producer_ids(&cluster.image, BrokerId(9), epoch);
    assert_eq!(unknown.results.unwrap_err().refusal, BrokerIdNotRegistered);
}
