//! Bytes of metadata records: known examples, every record there and back, and hostile input.

use model::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use ringlog_metadata::record::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, FeatureLevelRecord,
    LeaderChange, PartitionChangeRecord, RECORD_BYTES_MAX,
};
use ringlog_metadata::{
    ConfigRecord, ConfigResourceType, LeaderRecoveryState, MetadataRecord, PartitionRecord,
    ProducerIdsRecord, RecordError, RegisterBrokerRecord, TopicRecord, Uuid,
};

#[test]
fn known_bytes() {
    let topic = MetadataRecord::Topic(TopicRecord {
        name: "ab".to_owned(),
        topic_id: TopicId([5; 16]),
    });
    let mut expected = vec![1, 2, 0, 3, b'a', b'b'];
    expected.extend([5; 16]);
    expected.push(0);
    assert_eq!(topic.encode(), expected);
    assert_eq!(MetadataRecord::NoOp.encode(), vec![1, 20, 0, 0]);
    let change = MetadataRecord::PartitionChange(PartitionChangeRecord {
        partition_id: PartitionIndex(1),
        topic_id: TopicId([5; 16]),
        leader: LeaderChange::Leader(BrokerId(3)),
        ..PartitionChangeRecord::default()
    });
    let mut expected = vec![1, 5, 1, 0, 0, 0, 1];
    expected.extend([5; 16]);
    expected.extend([1, 1, 4, 0, 0, 0, 3]);
    assert_eq!(change.encode(), expected);
}

/// A broker says how many shards it has behind Kafka's own fields, where Kafka passes over it.
#[test]
fn the_count_of_shards_is_a_tagged_field() {
    let broker = |shard_count| {
        MetadataRecord::RegisterBroker(RegisterBrokerRecord {
            broker_id: BrokerId(1),
            incarnation_id: Uuid([2; 16]),
            broker_epoch: BrokerEpoch(3),
            endpoints: Vec::new(),
            features: Vec::new(),
            rack: None,
            fenced: true,
            in_controlled_shutdown: false,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
            shard_count,
        })
    };
    let silent = broker(None).encode();
    let (tagged_fields, before) = silent.split_last().unwrap();
    assert_eq!(*tagged_fields, 0, "as releases wrote it that ran alone");
    assert_eq!(MetadataRecord::decode(&silent), Ok(broker(None)));
    let told = |count: [u8; 2]| [before, &[1, 0x90, 0x4e, 2], &count].concat();
    assert_eq!(broker(Some(0x104)).encode(), told([1, 4]));
    let none = RecordError::BadValue {
        field: "ShardCount",
        value: 0,
    };
    assert_eq!(MetadataRecord::decode(&told([0, 0])), Err(none));
}

#[test]
fn unknown_things_are_typed_errors() {
    let rows: Vec<(Vec<u8>, RecordError)> = vec![
        (vec![2, 2, 0], RecordError::UnknownFrame(2)),
        (vec![1, 99, 0], RecordError::UnknownType(99)),
        (vec![1, 6, 0], RecordError::UnknownType(6)),
        (
            vec![1, 20, 1, 0],
            RecordError::UnknownVersion {
                record_type: 20,
                version: 1,
            },
        ),
        (vec![1, 20, 0, 0, 0], RecordError::TrailingBytes(1)),
        (
            vec![0; RECORD_BYTES_MAX + 1],
            RecordError::TooLong(RECORD_BYTES_MAX + 1),
        ),
    ];
    for (bytes, expected) in rows {
        assert_eq!(MetadataRecord::decode(&bytes), Err(expected));
    }
}

fn brokers() -> impl Strategy<Value = Vec<BrokerId>> {
    vec((0..1000i32).prop_map(BrokerId), 0..5)
}

fn uuids() -> impl Strategy<Value = Vec<Uuid>> {
    vec(any::<[u8; 16]>().prop_map(Uuid), 0..4)
}

fn recovery() -> impl Strategy<Value = LeaderRecoveryState> {
    prop_oneof![
        Just(LeaderRecoveryState::Recovered),
        Just(LeaderRecoveryState::Recovering)
    ]
}

fn partition() -> impl Strategy<Value = MetadataRecord> {
    let lists = (brokers(), brokers(), brokers(), brokers(), uuids());
    let rest = (
        any::<[u8; 16]>(),
        any::<[i32; 3]>(),
        option::of(0..9i32),
        recovery(),
    );
    (lists, rest, option::of(brokers()), option::of(brokers())).prop_map(
        |(lists, rest, elr, last)| {
            let (topic, numbers, leader, recovery) = rest;
            MetadataRecord::Partition(PartitionRecord {
                partition_id: PartitionIndex(numbers[0]),
                topic_id: TopicId(topic),
                replicas: lists.0,
                isr: lists.1,
                removing_replicas: lists.2,
                adding_replicas: lists.3,
                leader: leader.map(BrokerId),
                leader_recovery_state: recovery,
                leader_epoch: LeaderEpoch(numbers[1]),
                partition_epoch: PartitionEpoch(numbers[2]),
                directories: lists.4,
                eligible_leader_replicas: elr,
                last_known_elr: last,
            })
        },
    )
}

fn partition_change() -> impl Strategy<Value = MetadataRecord> {
    let leader = prop_oneof![
        Just(LeaderChange::Unchanged),
        Just(LeaderChange::NoLeader),
        (0..9i32).prop_map(|id| LeaderChange::Leader(BrokerId(id))),
    ];
    let list = || option::of(brokers());
    let lists = (
        list(),
        list(),
        list(),
        list(),
        list(),
        list(),
        option::of(uuids()),
    );
    (
        lists,
        leader,
        option::of(recovery()),
        any::<[u8; 16]>(),
        any::<i32>(),
    )
        .prop_map(|(lists, leader, leader_recovery_state, topic, index)| {
            MetadataRecord::PartitionChange(PartitionChangeRecord {
                partition_id: PartitionIndex(index),
                topic_id: TopicId(topic),
                isr: lists.0,
                leader,
                replicas: lists.1,
                removing_replicas: lists.2,
                adding_replicas: lists.3,
                leader_recovery_state,
                directories: lists.6,
                eligible_leader_replicas: lists.4,
                last_known_elr: lists.5,
            })
        })
}

fn register_broker() -> impl Strategy<Value = MetadataRecord> {
    let endpoint = (".{0,20}", ".{0,20}", any::<u16>(), any::<i16>()).prop_map(
        |(name, host, port, security_protocol)| BrokerEndpoint {
            name,
            host,
            port,
            security_protocol,
        },
    );
    let feature =
        (".{0,20}", any::<i16>(), any::<i16>()).prop_map(|(name, min, max)| BrokerFeature {
            name,
            min_supported_version: min,
            max_supported_version: max,
        });
    let numbers = (
        any::<i32>(),
        any::<i64>(),
        any::<[u8; 16]>(),
        any::<bool>(),
        any::<bool>(),
    );
    let lists = (
        vec(endpoint, 0..4),
        vec(feature, 0..4),
        uuids(),
        option::of(uuids()),
        option::of(1..u16::MAX),
    );
    (numbers, lists, option::of(".{0,9}")).prop_map(|(numbers, lists, rack)| {
        MetadataRecord::RegisterBroker(RegisterBrokerRecord {
            broker_id: BrokerId(numbers.0),
            incarnation_id: Uuid(numbers.2),
            broker_epoch: BrokerEpoch(numbers.1),
            endpoints: lists.0,
            features: lists.1,
            rack,
            fenced: numbers.3,
            in_controlled_shutdown: numbers.4,
            log_dirs: lists.2,
            cordoned_log_dirs: lists.3,
            shard_count: lists.4,
        })
    })
}

fn small_record() -> impl Strategy<Value = MetadataRecord> {
    let config = (".{0,9}", ".{0,9}", option::of(".{0,9}")).prop_map(|(resource, name, value)| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: ConfigResourceType::Group,
            resource_name: resource,
            name,
            value,
        })
    });
    let feature = (".{0,9}", any::<i16>()).prop_map(|(name, feature_level)| {
        MetadataRecord::FeatureLevel(FeatureLevelRecord {
            name,
            feature_level,
        })
    });
    let producer = any::<(i32, i64, i64)>().prop_map(|(broker, epoch, next)| {
        MetadataRecord::ProducerIds(ProducerIdsRecord {
            broker_id: BrokerId(broker),
            broker_epoch: BrokerEpoch(epoch),
            next_producer_id: ProducerId(next),
        })
    });
    let change = (
        option::of(any::<bool>()),
        any::<bool>(),
        option::of(uuids()),
        option::of(uuids()),
    );
    let change = change.prop_map(
        |(fenced, in_controlled_shutdown, log_dirs, cordoned_log_dirs)| {
            MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
                broker_id: BrokerId(1),
                broker_epoch: BrokerEpoch(2),
                fenced,
                in_controlled_shutdown,
                log_dirs,
                cordoned_log_dirs,
            })
        },
    );
    prop_oneof![
        config,
        feature,
        producer,
        change,
        Just(MetadataRecord::NoOp)
    ]
}

fn record() -> impl Strategy<Value = MetadataRecord> {
    prop_oneof![
        partition(),
        partition_change(),
        register_broker(),
        small_record()
    ]
}

proptest! {
    #[test]
    fn records_survive_their_bytes(record in record()) {
        prop_assert_eq!(MetadataRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn damaged_bytes_never_panic(record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = record.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        // The result may be anything but a panic; what is read can be written again.
        if let Ok(read) = MetadataRecord::decode(&bytes) {
            prop_assert_eq!(MetadataRecord::decode(&read.encode()), Ok(read));
        }
    }
}
