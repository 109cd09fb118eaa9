//! The rows of AlterPartitionReassignments: what is refused, with its reason, and what is accepted. What becomes of a move is
//! in `moves.rs`.

use model::{BrokerId, PartitionIndex};
use ringlog_metadata::controller::Refusal::{self, *};
use ringlog_metadata::controller::{
    AlterReassignmentsRequest, PartitionReassignment, alter_reassignments,
};

use crate::cluster::Cluster;

/// Topic, partition, replicas, whether their number may change, refusal.
type Row<'a> = (&'a str, i32, Option<&'a [i32]>, bool, Option<Refusal>);

#[test]
fn reassignments_answers() {
    let mut cluster = Cluster::new(&[None]);
    cluster.create("t", 1, 1);
    let rows: &[Row<'_>] = &[
        ("t", 0, Some(&[1]), true, None),
        ("t", 0, Some(&[1]), false, None),
        ("t", 0, None, true, Some(NoReassignmentInProgress)),
        ("t", 0, Some(&[]), true, Some(InvalidReplicaAssignment)),
        ("t", 0, Some(&[1, 1]), true, Some(InvalidReplicaAssignment)),
        ("t", 0, Some(&[2]), true, Some(InvalidReplicaAssignment)),
        ("t", 0, Some(&[-1]), true, Some(InvalidReplicaAssignment)),
        ("t", 0, Some(&[1, 2]), false, Some(InvalidReplicaAssignment)),
        ("t", 1, Some(&[1]), true, Some(UnknownTopicOrPartition)),
        ("t", -1, None, true, Some(UnknownTopicOrPartition)),
        ("no", 0, Some(&[1]), true, Some(UnknownTopicOrPartition)),
    ];
    check(&cluster, rows);
    let mut cluster = Cluster::new(&[None, None]);
    cluster.create("t", 1, 1);
    let replicas = &cluster.image.topic_by_name("t").unwrap();
    let holder = replicas.partition(PartitionIndex(0)).unwrap().replicas[0].0;
    let other = 3 - holder;
    let rows: &[Row<'_>] = &[
        ("t", 0, Some(&[holder]), true, None),
        ("t", 0, Some(&[other]), true, None),
        ("t", 0, Some(&[other]), false, None),
        ("t", 0, Some(&[holder, other]), true, None),
        (
            "t",
            0,
            Some(&[holder, other]),
            false,
            Some(InvalidReplicationFactor),
        ),
    ];
    check(&cluster, rows);
}

fn check(cluster: &Cluster, rows: &[Row<'_>]) {
    for (name, partition, replicas, allow, expected) in rows {
        let partition = PartitionIndex(*partition);
        let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
        let wanted = PartitionReassignment {
            partition,
            replicas,
        };
        let request = AlterReassignmentsRequest {
            topics: vec![((*name).to_owned(), vec![wanted])],
            allow_replication_factor_change: *allow,
        };
        let decision = alter_reassignments(&cluster.image, &request);
        let [(topic, results)] = decision.results.as_slice() else {
            panic!("one topic was asked about: {decision:?}");
        };
        let [(answered, result)] = results.as_slice() else {
            panic!("one partition was asked about: {decision:?}");
        };
        assert_eq!((topic.as_str(), *answered), (*name, partition));
        let refusal = result.as_ref().err().map(|error| error.refusal);
        assert_eq!(refusal, *expected, "{request:?}");
        if refusal.is_some() {
            assert!(decision.records.is_empty(), "{request:?}");
        }
    }
}

#[test]
fn a_partition_that_is_named_twice_moves_once() {
    let mut cluster = Cluster::new(&[None, None]);
    cluster.create("t", 2, 1);
    let wanted = |partition, replicas: &[i32]| PartitionReassignment {
        partition: PartitionIndex(partition),
        replicas: Some(replicas.iter().copied().map(BrokerId).collect()),
    };
    let request = AlterReassignmentsRequest {
        topics: vec![(
            "t".to_owned(),
            vec![wanted(0, &[1, 2]), wanted(0, &[2, 1]), wanted(1, &[1, 2])],
        )],
        allow_replication_factor_change: true,
    };
    let decision = alter_reassignments(&cluster.image, &request);
    assert_eq!(decision.records.len(), 2);
    let results = &decision.results[0].1;
    let refusals = results
        .iter()
        .map(|(_, result)| result.as_ref().err().map(|error| error.refusal));
    let refusals: Vec<Option<Refusal>> = refusals.collect();
    assert_eq!(refusals, [None, Some(InvalidRequest), None]);
    cluster.commit(&decision.records);
}
