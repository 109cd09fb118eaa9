//! The registry against what Apache Kafka 4.3.1 advertises.

use protocol::api::advertised_api_versions;
use protocol::{APIS, ApiKey};

/// Key, lowest and highest version in the ApiVersions answer of a 4.3.1 broker.
const KAFKA: &[(i16, &str, i16, i16)] = &[
    (0, "Produce", 0, 13),
    (1, "Fetch", 4, 18),
    (2, "ListOffsets", 1, 11),
    (3, "Metadata", 0, 13),
    (8, "OffsetCommit", 2, 10),
    (9, "OffsetFetch", 1, 10),
    (10, "FindCoordinator", 0, 6),
    (11, "JoinGroup", 0, 9),
    (12, "Heartbeat", 0, 4),
    (13, "LeaveGroup", 0, 5),
    (14, "SyncGroup", 0, 5),
    (15, "DescribeGroups", 0, 6),
    (16, "ListGroups", 0, 5),
    (17, "SaslHandshake", 0, 1),
    (18, "ApiVersions", 0, 4),
    (19, "CreateTopics", 2, 7),
    (20, "DeleteTopics", 1, 6),
    (21, "DeleteRecords", 0, 2),
    (22, "InitProducerId", 0, 5),
    (23, "OffsetForLeaderEpoch", 2, 4),
    (32, "DescribeConfigs", 1, 4),
    (33, "AlterConfigs", 0, 2),
    (35, "DescribeLogDirs", 1, 5),
    (37, "CreatePartitions", 0, 3),
    (42, "DeleteGroups", 0, 2),
    (43, "ElectLeaders", 0, 2),
    (44, "IncrementalAlterConfigs", 0, 1),
    (45, "AlterPartitionReassignments", 0, 1),
    (46, "ListPartitionReassignments", 0, 0),
    (55, "DescribeQuorum", 0, 2),
    (60, "DescribeCluster", 0, 2),
    (64, "UnregisterBroker", 0, 0),
    (75, "DescribeTopicPartitions", 0, 0),
    (80, "AddRaftVoter", 0, 1),
    (81, "RemoveRaftVoter", 0, 0),
];

#[test]
fn ranges_are_kafkas() {
    let ours: Vec<_> = APIS
        .iter()
        .map(|api| {
            let range = api.advertised.unwrap_or(api.versions);
            (api.key.code(), api.name, range.min, range.max)
        })
        .collect();
    assert_eq!(ours, KAFKA);
}

#[test]
fn keys_are_found_by_their_number() {
    for api in APIS {
        assert_eq!(ApiKey::from_code(api.key.code()), Some(api.key));
        assert_eq!(api.key.api(), api);
    }
    for unknown in [-1, 4, 24, 76, i16::MAX, i16::MIN] {
        assert_eq!(ApiKey::from_code(unknown), None);
    }
}

#[test]
fn what_is_advertised_is_accepted_but_for_old_produce() {
    let entries = advertised_api_versions();
    assert_eq!(entries.len(), APIS.len() - 1, "all but SaslHandshake");
    for api in APIS {
        let Some(range) = api.advertised else {
            continue;
        };
        assert_eq!(range.max, api.versions.max);
        let refused = api.versions.min - range.min;
        assert_eq!(refused, if api.key == ApiKey::Produce { 3 } else { 0 });
    }
}
