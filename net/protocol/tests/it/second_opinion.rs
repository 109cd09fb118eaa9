//! Every message and version that the `kafka-protocol` crate knows, in both directions: what we write, it reads and
//! writes again byte for byte; what it writes, we read back to what we had.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as other;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message as OtherMessage};
use protocol::sample::Rng;
use protocol::{ApiKey, Reader, Request, Response};

use crate::{request_bytes, response_bytes};

const SAMPLES: usize = 60;

/// What the other implementation writes after reading `bytes`.
fn rewritten<M: Encodable + Decodable>(bytes: &Bytes, version: i16) -> Result<Bytes, String> {
    let mut rest = bytes.clone();
    let message = M::decode(&mut rest, version).map_err(|error| format!("reading: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes left", rest.len()));
    }
    let mut buffer = BytesMut::new();
    message
        .encode(&mut buffer, version)
        .map_err(|error| format!("writing: {error}"))?;
    Ok(buffer.freeze())
}

fn requests_agree<M: OtherMessage + Encodable + Decodable + HeaderVersion>(key: ApiKey) -> usize {
    let mut rng = Rng::new(1);
    let mut versions = 0;
    for version in key.api().versions.iter() {
        if version < M::VERSIONS.min || version > M::VERSIONS.max {
            continue;
        }
        versions += 1;
        let header = if key.api().is_flexible(version) { 2 } else { 1 };
        assert_eq!(M::header_version(version), header, "{key} {version}");
        for _ in 0..SAMPLES {
            let request = Request::sample(key, &mut rng, version);
            let ours = request_bytes(&request, version);
            let theirs = rewritten::<M>(&ours, version)
                .unwrap_or_else(|error| panic!("{request:?} version {version}: {error}"));
            assert_eq!(ours, theirs, "{request:?} version {version}");
            let back = Request::decode(key, &mut Reader::new(&theirs), version).unwrap();
            assert_eq!(back, request, "version {version}");
        }
    }
    versions
}

fn responses_agree<M: OtherMessage + Encodable + Decodable + HeaderVersion>(key: ApiKey) {
    let mut rng = Rng::new(2);
    for version in key.api().versions.iter() {
        if version < M::VERSIONS.min || version > M::VERSIONS.max {
            continue;
        }
        let header = i16::from(key.api().is_response_header_flexible(version));
        assert_eq!(M::header_version(version), header, "{key} {version}");
        for _ in 0..SAMPLES {
            let response = Response::sample(key, &mut rng, version);
            let ours = response_bytes(&response, version);
            let theirs = rewritten::<M>(&ours, version)
                .unwrap_or_else(|error| panic!("{response:?} version {version}: {error}"));
            assert_eq!(ours, theirs, "{response:?} version {version}");
            let back = Response::decode(key, &mut Reader::new(&theirs), version).unwrap();
            assert_eq!(back, response, "version {version}");
        }
    }
}

macro_rules! agree {
    ($($name:ident $test:ident $request:ident $response:ident, $versions:literal;)*) => {$(
        #[test]
        fn $test() {
            assert_eq!(requests_agree::<other::$request>(ApiKey::$name), $versions);
            responses_agree::<other::$response>(ApiKey::$name);
        }
    )*

        #[test]
        fn every_api_has_a_second_opinion() {
            assert_eq!([$(ApiKey::$name),*].len(), protocol::APIS.len());
        }
    };
}

// The number is how many versions both know; ListOffsets, OffsetCommit, OffsetFetch, DescribeLogDirs and AddRaftVoter have one more,
// see `golden`.
agree! {
    Produce produce ProduceRequest ProduceResponse, 11;
    Fetch fetch FetchRequest FetchResponse, 15;
    ListOffsets list_offsets ListOffsetsRequest ListOffsetsResponse, 10;
    Metadata metadata MetadataRequest MetadataResponse, 14;
    OffsetCommit offset_commit OffsetCommitRequest OffsetCommitResponse, 8;
    OffsetFetch offset_fetch OffsetFetchRequest OffsetFetchResponse, 9;
    FindCoordinator find_coordinator FindCoordinatorRequest FindCoordinatorResponse, 7;
    JoinGroup join_group JoinGroupRequest JoinGroupResponse, 10;
    Heartbeat heartbeat HeartbeatRequest HeartbeatResponse, 5;
    LeaveGroup leave_group LeaveGroupRequest LeaveGroupResponse, 6;
    SyncGroup sync_group SyncGroupRequest SyncGroupResponse, 6;
    DescribeGroups describe_groups DescribeGroupsRequest DescribeGroupsResponse, 7;
    ListGroups list_groups ListGroupsRequest ListGroupsResponse, 6;
    SaslHandshake sasl_handshake SaslHandshakeRequest SaslHandshakeResponse, 2;
    ApiVersions api_versions ApiVersionsRequest ApiVersionsResponse, 5;
    CreateTopics create_topics CreateTopicsRequest CreateTopicsResponse, 6;
    DeleteTopics delete_topics DeleteTopicsRequest DeleteTopicsResponse, 6;
    DeleteRecords delete_records DeleteRecordsRequest DeleteRecordsResponse, 3;
    InitProducerId init_producer_id InitProducerIdRequest InitProducerIdResponse, 6;
    OffsetForLeaderEpoch offset_for_leader_epoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse, 3;
    DescribeConfigs describe_configs DescribeConfigsRequest DescribeConfigsResponse, 4;
    AlterConfigs alter_configs AlterConfigsRequest AlterConfigsResponse, 3;
    DescribeLogDirs describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse, 4;
    CreatePartitions create_partitions CreatePartitionsRequest CreatePartitionsResponse, 4;
    DeleteGroups delete_groups DeleteGroupsRequest DeleteGroupsResponse, 3;
    ElectLeaders elect_leaders ElectLeadersRequest ElectLeadersResponse, 3;
    IncrementalAlterConfigs incremental_alter_configs IncrementalAlterConfigsRequest
        IncrementalAlterConfigsResponse, 2;
    AlterPartitionReassignments alter_partition_reassignments AlterPartitionReassignmentsRequest
        AlterPartitionReassignmentsResponse, 2;
    ListPartitionReassignments list_partition_reassignments ListPartitionReassignmentsRequest
        ListPartitionReassignmentsResponse, 1;
    DescribeQuorum describe_quorum DescribeQuorumRequest DescribeQuorumResponse, 3;
    UnregisterBroker unregister_broker UnregisterBrokerRequest UnregisterBrokerResponse, 1;
    DescribeCluster describe_cluster DescribeClusterRequest DescribeClusterResponse, 3;
    DescribeTopicPartitions describe_topic_partitions DescribeTopicPartitionsRequest
        DescribeTopicPartitionsResponse, 1;
    AddRaftVoter add_raft_voter AddRaftVoterRequest AddRaftVoterResponse, 1;
    RemoveRaftVoter remove_raft_voter RemoveRaftVoterRequest RemoveRaftVoterResponse, 1;
}
