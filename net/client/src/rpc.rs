//! Which response belongs to which request, and frames of both.

use bytes::Bytes;
use protocol::*;

use crate::error::ClientError;

/// Bytes of the correlation id that every response begins with.
const CORRELATION_BYTES: usize = 4;

/// A request and the type of its response.
pub trait Rpc: Message {
    /// What the broker answers.
    type Response: Message;
}

macro_rules! rpcs {
    ($($request:ident => $response:ident,)*) => {$(
        impl Rpc for $request {
            type Response = $response;
        }
    )*};
}

rpcs! {
    AlterConfigsRequest => AlterConfigsResponse,
    AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse,
    ApiVersionsRequest => ApiVersionsResponse,
    CreatePartitionsRequest => CreatePartitionsResponse,
    CreateTopicsRequest => CreateTopicsResponse,
    DeleteGroupsRequest => DeleteGroupsResponse,
    DeleteRecordsRequest => DeleteRecordsResponse,
    DeleteTopicsRequest => DeleteTopicsResponse,
    DescribeClusterRequest => DescribeClusterResponse,
    DescribeConfigsRequest => DescribeConfigsResponse,
    DescribeGroupsRequest => DescribeGroupsResponse,
    DescribeLogDirsRequest => DescribeLogDirsResponse,
    DescribeQuorumRequest => DescribeQuorumResponse,
    DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse,
    ElectLeadersRequest => ElectLeadersResponse,
    FetchRequest => FetchResponse,
    FindCoordinatorRequest => FindCoordinatorResponse,
    HeartbeatRequest => HeartbeatResponse,
    IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
    InitProducerIdRequest => InitProducerIdResponse,
    JoinGroupRequest => JoinGroupResponse,
    LeaveGroupRequest => LeaveGroupResponse,
    ListGroupsRequest => ListGroupsResponse,
    ListOffsetsRequest => ListOffsetsResponse,
    ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse,
    MetadataRequest => MetadataResponse,
    OffsetCommitRequest => OffsetCommitResponse,
    OffsetFetchRequest => OffsetFetchResponse,
    OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
    ProduceRequest => ProduceResponse,
    SyncGroupRequest => SyncGroupResponse,
    UnregisterBrokerRequest => UnregisterBrokerResponse,
}

/// A whole request frame, length included, as slices to be sent in order. Record batches are not copied.
///
/// Fails as [`ClientError::Malformed`] when `version` cannot express the request.
pub fn encode<Q: Rpc>(
    request: &Q,
    version: i16,
    correlation: i32,
    client_id: &str,
) -> Result<Vec<Bytes>, ClientError> {
    let header = RequestHeader {
        api_key: Q::API.key,
        api_version: version,
        correlation_id: correlation,
        client_id: Some(Text::copy_from(client_id)),
    };
    let mut writer = Writer::new();
    header.encode(&mut writer);
    request.encode(&mut writer, version);
    writer.finish().map_err(|error| ClientError::Malformed {
        api: Q::API.name,
        reason: format!("request: {error}"),
    })
}

/// The response in a frame (without its length).
pub fn decode<R: Message>(frame: &Bytes, version: i16) -> Result<R, ClientError> {
    let decoded = decode_response_message::<R>(version, frame.clone());
    let (_, response) = decoded.map_err(|error| ClientError::Malformed {
        api: R::API.name,
        reason: error.to_string(),
    })?;
    Ok(response)
}

/// The correlation id of a response frame, which must be `expected`.
pub fn check_correlation(frame: &[u8], expected: i32) -> Result<(), ClientError> {
    let Some(id) = frame.first_chunk::<CORRELATION_BYTES>() else {
        return Err(ClientError::Malformed {
            api: "any",
            reason: format!("a frame of {} bytes has no header", frame.len()),
        });
    };
    let got = i32::from_be_bytes(*id);
    if got != expected {
        return Err(ClientError::Correlation { expected, got });
    }
    Ok(())
}
