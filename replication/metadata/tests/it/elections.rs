//! The rows of ElectLeaders.

use model::{BrokerId, PartitionIndex, TopicPartition};
use ringlog_metadata::controller::Refusal::{self, *};
use ringlog_metadata::controller::{ElectLeadersRequest, ElectionKind, elect_leaders};

use crate::cluster::Cluster;

/// Refusals of a topic's partitions.
type Row = (String, Vec<(i32, Option<Refusal>)>);

/// Elects, commits, and gives each partition's refusal.
fn elect(cluster: &mut Cluster, kind: ElectionKind, topics: Option<&[(&str, &[i32])]>) -> Vec<Row> {
    let topics = topics.map(|topics| {
        let topics = topics.iter().map(|(name, partitions)| {
            let partitions = partitions.iter().copied().map(PartitionIndex);
            ((*name).to_owned(), partitions.collect())
        });
        topics.collect()
    });
    let request = ElectLeadersRequest { kind, topics };
    let decision = elect_leaders(&cluster.image, &request);
    cluster.commit(&decision.records);
    let topics = decision.results.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, result)| {
            let refusal = result.err().map(|error| error.refusal);
            (partition.0, refusal)
        });
        (name, partitions.collect())
    });
    topics.collect()
}

fn row(name: &str, partitions: &[(i32, Option<Refusal>)]) -> Row {
    (name.to_owned(), partitions.to_vec())
}

#[test]
fn a_broker_alone_needs_no_election() {
    let mut cluster = Cluster::new(&[None]);
    cluster.create("t", 2, 1);
    for kind in [ElectionKind::Preferred, ElectionKind::Unclean] {
        let asked: &[(&str, &[i32])] = &[("t", &[0, 1, 2]), ("no", &[0])];
        assert_eq!(
            elect(&mut cluster, kind, Some(asked)),
            [
                row(
                    "t",
                    &[
                        (0, Some(ElectionNotNeeded)),
                        (1, Some(ElectionNotNeeded)),
                        (2, Some(UnknownTopicOrPartition))
                    ]
                ),
                row("no", &[(0, Some(UnknownTopicOrPartition))])
            ]
        );
        assert_eq!(elect(&mut cluster, kind, Some(&[])), []);
        // Of all partitions, those are left out that need no election.
        assert_eq!(elect(&mut cluster, kind, None), [row("t", &[])]);
    }
}

#[test]
fn the_preferred_leader_leads_again() {
    let mut cluster = Cluster::new(&[None, None]);
    let topic = cluster.create("t", 2, 2);
    let id = |partition| TopicPartition {
        topic,
        partition: PartitionIndex(partition),
    };
    let leaders = |cluster: &Cluster| {
        [0, 1].map(|partition| cluster.image.partition(id(partition)).unwrap().leader)
    };
    let preferred = leaders(&cluster);
    assert_ne!(preferred[0], preferred[1], "leaders are spread");
    let away = preferred[0].unwrap();
    let other = BrokerId(3 - away.0);
    cluster.fence(away.0, true);
    assert_eq!(leaders(&cluster), [Some(other), Some(other)]);
    let asked: &[(&str, &[i32])] = &[("t", &[0])];
    assert_eq!(
        elect(&mut cluster, ElectionKind::Preferred, Some(asked)),
        [row("t", &[(0, Some(PreferredLeaderNotAvailable))])]
    );
    cluster.fence(away.0, false);
    // It is back, but not in sync yet.
    assert_eq!(
        elect(&mut cluster, ElectionKind::Preferred, None),
        [row("t", &[(0, Some(PreferredLeaderNotAvailable))])]
    );
}

#[test]
fn a_partition_that_is_named_twice_has_one_election() {
    let mut cluster = Cluster::new(&[None]);
    let topic = cluster.create("t", 1, 1);
    let id = TopicPartition {
        topic,
        partition: PartitionIndex(0),
    };
    let epoch = |cluster: &Cluster| cluster.image.partition(id).unwrap().leader_epoch;
    // Fenced it leads nothing; what is left of it in the ISR may lead when it is back.
    cluster.fence(1, true);
    let asked: &[(&str, &[i32])] = &[("t", &[0, 0])];
    let nobody = Some(EligibleLeadersNotAvailable);
    assert_eq!(
        elect(&mut cluster, ElectionKind::Unclean, Some(asked)),
        [row("t", &[(0, nobody), (0, nobody)])]
    );
    cluster.fence(1, false);
    let before = epoch(&cluster);
    assert_eq!(
        elect(&mut cluster, ElectionKind::Unclean, Some(asked)),
        [row(
            "t",
            &[(0, Some(ElectionNotNeeded)), (0, Some(ElectionNotNeeded))]
        )]
    );
    assert_eq!(epoch(&cluster), before);
}
