//! The image: refusals of records that do not fit, snapshots, sharing.

use std::sync::Arc;

use model::{Offset, PartitionIndex, TopicId};
use ringlog_metadata::record::{PartitionChangeRecord, RemoveTopicRecord};
use ringlog_metadata::{
    ApplyError, ConfigRecord, ConfigResourceType, MetadataImage, MetadataRecord, TopicRecord,
    removal_records,
};

use crate::cluster::Cluster;

#[test]
fn a_snapshot_gives_the_same_image() {
    let mut cluster = Cluster::new(&[Some("a"), None, Some("b")]);
    cluster.create("t.1", 7, 3);
    cluster.create("u", 2, 1);
    cluster.fence(2, true);
    let set = |name: &str| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: ConfigResourceType::Topic,
            resource_name: "u".to_owned(),
            name: name.to_owned(),
            value: Some("1".to_owned()),
        })
    };
    cluster.commit(&[set("a"), set("b")]);
    let image = &cluster.image;
    let records: Vec<_> = image.to_records().collect();
    let restored =
        MetadataImage::from_records(image.cluster_id(), image.end_offset(), records).unwrap();
    assert_eq!(&restored, image);
    assert_eq!(restored.partition_count(), 9);
    assert_eq!(restored.colliding_topic("t_1"), Some("t.1"));
}

#[test]
fn what_was_set_and_is_not_any_more_leaves_nothing_behind() {
    let mut cluster = Cluster::new(&[None]);
    let topic_id = cluster.create("t", 1, 1);
    let set = |kind, name: &str, value: Option<&str>| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: kind,
            resource_name: name.to_owned(),
            name: "a".to_owned(),
            value: value.map(str::to_owned),
        })
    };
    let (topic, broker) = (ConfigResourceType::Topic, ConfigResourceType::Broker);
    cluster.commit(&[
        set(topic, "t", Some("1")),
        set(broker, "1", Some("1")),
        set(broker, "1", None),
        set(broker, "2", None),
        MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id }),
    ]);
    let image = &cluster.image;
    let records = image.to_records();
    let restored = MetadataImage::from_records(image.cluster_id(), image.end_offset(), records);
    assert_eq!(&restored.unwrap(), image);
}

#[test]
fn a_removal_in_a_snapshot_changes_nothing_but_can_be_found() {
    let mut cluster = Cluster::new(&[None]);
    cluster.create("t", 1, 1);
    let image = &cluster.image;
    let gone = [TopicId([3; 16]), TopicId([4; 16])];
    let records: Vec<MetadataRecord> = gone
        .into_iter()
        .flat_map(removal_records)
        .chain(image.to_records())
        .map(|record| MetadataRecord::decode(&record.encode()).unwrap())
        .collect();
    let found: Vec<TopicId> = records
        .iter()
        .filter_map(|record| match record {
            MetadataRecord::RemoveTopic(removed) => Some(removed.topic_id),
            _ => None,
        })
        .collect();
    assert_eq!(found, gone);
    let restored = MetadataImage::from_records(image.cluster_id(), image.end_offset(), records);
    assert_eq!(&restored.unwrap(), image);
}

#[test]
fn records_that_do_not_fit_are_refused() {
    let mut cluster = Cluster::new(&[None]);
    let topic = cluster.create("t", 2, 1);
    let end = cluster.image.end_offset();
    let refuse = |record: MetadataRecord| {
        let mut copy = cluster.image.clone();
        copy.apply_batch(end, &[record]).unwrap_err()
    };
    let again = MetadataRecord::Topic(TopicRecord {
        name: "t".to_owned(),
        topic_id: TopicId([1; 16]),
    });
    assert!(matches!(refuse(again), ApplyError::TopicExists { .. }));
    let gone = RemoveTopicRecord {
        topic_id: TopicId([9; 16]),
    };
    assert!(matches!(
        refuse(MetadataRecord::RemoveTopic(gone)),
        ApplyError::UnknownTopic(_)
    ));
    for partition in [-1, 2, i32::MIN, i32::MAX] {
        let change = PartitionChangeRecord {
            partition_id: PartitionIndex(partition),
            topic_id: topic,
            ..PartitionChangeRecord::default()
        };
        let error = refuse(MetadataRecord::PartitionChange(change));
        assert!(
            matches!(error, ApplyError::UnknownPartition(_)),
            "{partition}"
        );
    }
    let gap = cluster
        .image
        .apply_batch(Offset(end.0 + 1), &[MetadataRecord::NoOp]);
    assert!(matches!(gap, Err(ApplyError::Gap { .. })));
    let overflow = cluster.image.apply_batch(end, &[MetadataRecord::NoOp]);
    assert!(overflow.unwrap().is_empty());
}

#[test]
fn a_copy_shares_what_did_not_change() {
    let mut cluster = Cluster::new(&[None]);
    let kept = cluster.create("kept", 100, 1);
    let copy = cluster.image.clone();
    cluster.create("new", 1, 1);
    let (before, after) = (copy.topic_by_id(kept), cluster.image.topic_by_id(kept));
    assert!(Arc::ptr_eq(before.unwrap(), after.unwrap()));
    assert!(copy.topic_by_name("new").is_none());
}

#[test]
fn deleting_a_topic_takes_its_configuration_along() {
    let mut cluster = Cluster::new(&[None]);
    let topic_id = cluster.create("t", 1, 1);
    cluster.commit(&[MetadataRecord::Config(ConfigRecord {
        resource_type: ConfigResourceType::Topic,
        resource_name: "t".to_owned(),
        name: "retention.ms".to_owned(),
        value: Some("5".to_owned()),
    })]);
    assert!(cluster.image.topic_configs("t").is_some());
    cluster.commit(&[MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id })]);
    assert!(cluster.image.topic_configs("t").is_none());
}
