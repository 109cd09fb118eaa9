//! Placement spreads: over shards, brokers and racks.

use std::collections::BTreeMap;

use model::{BrokerId, PartitionIndex, TopicId, TopicPartition};
use ringlog_metadata::{placement::place, shard_of};

use crate::cluster::Cluster;

#[test]
fn partitions_of_a_topic_spread_evenly_over_shards() {
    for shards in [1u16, 2, 3, 7, 64] {
        for topic in 0..20u8 {
            let mut load = vec![0u32; usize::from(shards)];
            for index in 0..100 {
                let partition = TopicPartition {
                    topic: TopicId([topic; 16]),
                    partition: PartitionIndex(index),
                };
                load[usize::from(shard_of(partition, shards).0)] += 1;
            }
            let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
            assert!(
                most - least <= 1,
                "{shards} shards, topic {topic}: {load:?}"
            );
        }
    }
}

#[test]
fn topics_of_one_partition_spread_over_shards() {
    let mut load = [0u32; 8];
    for topic in 0..8000u32 {
        let mut id = [0u8; 16];
        id[..4].copy_from_slice(&topic.to_be_bytes());
        let partition = TopicPartition {
            topic: TopicId(id),
            partition: PartitionIndex(0),
        };
        load[usize::from(shard_of(partition, 8).0)] += 1;
    }
    assert!(
        load.iter().all(|count| (800..1200).contains(count)),
        "{load:?}"
    );
}

#[test]
fn the_mapping_is_stable() {
    // A change of these numbers moves every partition of every existing broker: journals are replayed by them.
    let partition = |topic, index| TopicPartition {
        topic: TopicId([topic; 16]),
        partition: PartitionIndex(index),
    };
    let shards: Vec<u16> = (0..6).map(|at| shard_of(partition(3, at), 4).0).collect();
    let first = shards[0];
    let expected: Vec<u16> = (0..6).map(|at| (first + at) % 4).collect();
    assert_eq!(shards, expected);
}

#[test]
fn leaders_and_racks_are_balanced() {
    let racks = [
        Some("a"),
        Some("a"),
        Some("b"),
        Some("b"),
        Some("c"),
        Some("c"),
    ];
    let cluster = Cluster::new(&racks);
    for start in [0, 1, 12345678901234567890] {
        let placed = place(&cluster.image, start, 0, 60, 3).unwrap();
        let mut leaders: BTreeMap<BrokerId, u32> = BTreeMap::new();
        let mut replicas: BTreeMap<BrokerId, u32> = BTreeMap::new();
        for list in &placed {
            *leaders.entry(list[0]).or_default() += 1;
            let mut used: Vec<_> = list.iter().map(|id| racks[id.0 as usize - 1]).collect();
            used.sort_unstable();
            used.dedup();
            assert_eq!(used.len(), 3, "every replica in another rack: {list:?}");
            for broker in list {
                *replicas.entry(*broker).or_default() += 1;
            }
        }
        assert!(leaders.values().all(|count| *count == 10), "{leaders:?}");
        assert!(
            replicas.values().all(|count| (20..=40).contains(count)),
            "{replicas:?}"
        );
        assert_eq!(placed, place(&cluster.image, start, 0, 60, 3).unwrap());
    }
}

#[test]
fn fenced_brokers_only_fill_up() {
    let mut cluster = Cluster::new(&[None, None, None]);
    cluster.fence(2, true);
    for list in place(&cluster.image, 5, 0, 10, 2).unwrap() {
        assert!(!list.contains(&BrokerId(2)), "{list:?}");
    }
    for list in place(&cluster.image, 5, 0, 10, 3).unwrap() {
        assert_eq!(list.len(), 3);
        assert_eq!(list[2], BrokerId(2));
    }
    cluster.fence(1, true);
    cluster.fence(3, true);
    assert!(place(&cluster.image, 5, 0, 1, 1).is_err());
    assert!(place(&cluster.image, 5, 0, 1, 4).is_err());
}
