//! From a frame to its handler. The match below is exhaustive over the registry of APIs, so an API that is added to
//! the registry does not compile until it has a handler.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use model::ErrorCode;
use protocol::{ApiKey, Request, RequestError};
use runtime::Io;

use crate::connection::{Connection, ConnectionEnd};
use crate::context::Context;
use crate::handlers;
use crate::memory::RequestCharge;
use crate::outbox::Answer;
use crate::request_clock::{RequestClock, RequestKind};
use crate::server::Server;

/// Runs one request. An error ends the connection.
pub async fn run<I: Io>(
    server: &Rc<Server<I>>,
    connection: &Rc<Connection<I>>,
    frame: Bytes,
    charge: Option<Rc<RequestCharge>>,
    mut clock: RequestClock,
) -> Result<(), ConnectionEnd> {
    let frame_bytes = frame.len();
    match protocol::parse_request(frame) {
        Ok((header, request)) => {
            server.metrics.received(header.api_key);
            clock.kind = RequestKind::Api(header.api_key);
            let context = Context {
                server,
                connection,
                header,
                frame_bytes,
                charge,
                clock: Cell::new(clock),
            };
            handle(&context, request).await
        }
        Err(RequestError::ApiVersionsVersion { correlation_id, .. }) => {
            server.metrics.received(ApiKey::ApiVersions);
            server.metrics.errors.count(ErrorCode::UnsupportedVersion);
            let frame = protocol::unsupported_api_versions(correlation_id)
                .map_err(|error| ConnectionEnd::Protocol(error.to_string()))?;
            connection.outbox.push(Answer::Ready(frame, clock, None));
            Ok(())
        }
        Err(error) => Err(ConnectionEnd::Protocol(error.to_string())),
    }
}

async fn handle<I: Io>(context: &Context<'_, I>, request: Request) -> Result<(), ConnectionEnd> {
    use handlers as h;
    match request {
        Request::Produce(request) => h::produce::handle(context, request).await,
        Request::Fetch(request) => h::fetch::handle(context, &request).await,
        Request::ListOffsets(request) => h::list_offsets::handle(context, &request).await,
        Request::Metadata(request) => h::metadata::handle(context, &request).await,
        Request::ApiVersions(request) => h::api_versions::handle(context, &request),
        Request::CreateTopics(request) => h::create_topics::handle(context, &request).await,
        Request::DeleteTopics(request) => h::delete_topics::handle(context, &request).await,
        Request::CreatePartitions(request) => h::create_partitions::handle(context, &request).await,
        Request::DeleteRecords(request) => h::delete_records::handle(context, &request).await,
        Request::InitProducerId(request) => h::init_producer_id::handle(context, &request).await,
        Request::OffsetForLeaderEpoch(request) => {
            h::offset_for_leader_epoch::handle(context, &request).await
        }
        Request::DescribeConfigs(request) => h::describe_configs::handle(context, &request),
        Request::AlterConfigs(request) => h::alter_configs::handle(context, &request).await,
        Request::IncrementalAlterConfigs(request) => {
            h::incremental_alter_configs::handle(context, &request).await
        }
        Request::DescribeLogDirs(request) => h::describe_log_dirs::handle(context, &request).await,
        Request::ElectLeaders(request) => h::elect_leaders::handle(context, &request).await,
        Request::AlterPartitionReassignments(request) => {
            h::alter_partition_reassignments::handle(context, &request).await
        }
        Request::ListPartitionReassignments(request) => {
            h::list_partition_reassignments::handle(context, &request).await
        }
        Request::DescribeQuorum(request) => h::describe_quorum::handle(context, &request).await,
        Request::UnregisterBroker(request) => h::unregister_broker::handle(context, &request).await,
        Request::DescribeCluster(request) => h::describe_cluster::handle(context, &request),
        Request::DescribeTopicPartitions(request) => {
            h::describe_topic_partitions::handle(context, &request)
        }
        Request::AddRaftVoter(request) => h::raft_voters::add(context, &request).await,
        Request::RemoveRaftVoter(request) => h::raft_voters::remove(context, &request).await,
        Request::FindCoordinator(request) => h::find_coordinator::handle(context, &request).await,
        Request::JoinGroup(request) => h::join_group::handle(context, request).await,
        Request::SyncGroup(request) => h::sync_group::handle(context, request).await,
        Request::Heartbeat(request) => h::heartbeat::handle(context, request).await,
        Request::LeaveGroup(request) => h::leave_group::handle(context, request).await,
        Request::OffsetCommit(request) => h::offset_commit::handle(context, request).await,
        Request::OffsetFetch(request) => h::offset_fetch::handle(context, request).await,
        Request::DescribeGroups(request) => h::describe_groups::handle(context, request).await,
        Request::ListGroups(request) => h::list_groups::handle(context, request).await,
        Request::DeleteGroups(request) => h::delete_groups::handle(context, request).await,
        // A codec without a handler: not advertised, so `parse_request` does not let it through.
        Request::SaslHandshake(_) => {
            Err(ConnectionEnd::Protocol("not served by this release".into()))
        }
    }
}
