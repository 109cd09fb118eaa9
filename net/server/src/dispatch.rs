//! From a frame to its handler. The match below is exhaustive over the registry of APIs, so an API that is added to
//! the registry does not compile until it has a handler.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use model::{ErrorCode, MonotonicTime};
use protocol::{ApiKey, Message, Request, RequestError, RequestHeader};
use runtime::Io;
use runtime::budget::Reservation;

use crate::connection::{Connection, ConnectionEnd};
use crate::handlers;
use crate::memory::RequestCharge;
use crate::outbox::Answer;
use crate::request_clock::{RequestClock, RequestKind, Stage};
use crate::server::Server;

/// What a handler works with.
pub struct Context<'a, I: Io> {
    /// The shard's server.
    pub server: &'a Rc<Server<I>>,
    /// Where the request came from.
    pub connection: &'a Rc<Connection<I>>,
    /// The request's header.
    pub header: RequestHeader,
    /// Bytes of its frame.
    pub frame_bytes: usize,
    /// The memory of its frame, if that was charged: whoever keeps the frame beyond the handler keeps this.
    pub charge: Option<Rc<RequestCharge>>,
    /// Where its time goes.
    pub clock: Cell<RequestClock>,
}

impl<I: Io> Context<'_, I> {
    /// The request's version.
    pub fn version(&self) -> i16 {
        self.header.api_version
    }

    /// Sends an answer, behind those before it.
    pub fn answer<M: Message>(&self, response: &M) -> Result<(), ConnectionEnd> {
        let charge = self.server.memory.small_answers.charge(0);
        self.answer_charged(response, charge)
    }

    /// Sends an answer for which memory was charged. What it takes in the end is counted.
    pub fn answer_charged<M: Message>(
        &self,
        response: &M,
        mut charge: Reservation,
    ) -> Result<(), ConnectionEnd> {
        let frame = protocol::encode_response_message(
            self.header.correlation_id,
            self.header.api_version,
            response,
        )
        .map_err(|error| ConnectionEnd::Protocol(format!("answer not encodable: {error}")))?;
        charge.settle(frame.iter().map(Bytes::len).sum());
        let answer = Answer::Ready(frame, self.clock.get(), Some(charge));
        self.connection.outbox.push(answer);
        Ok(())
    }

    /// Ends a stage of the request now.
    pub fn end_stage(&self, stage: Stage) -> MonotonicTime {
        let now = self.server.io.now();
        self.on_clock(|clock| clock.end(stage, now));
        now
    }

    /// Changes the request's clock.
    pub fn on_clock(&self, change: impl FnOnce(&mut RequestClock)) {
        let mut clock = self.clock.get();
        change(&mut clock);
        self.clock.set(clock);
    }

    /// Counts the errors among the codes of an answer.
    pub fn count_codes(&self, codes: impl IntoIterator<Item = i16>) {
        for code in codes.into_iter().filter(|code| *code != 0) {
            self.code(ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError));
        }
    }

    /// The number of an error code for an answer; errors are counted.
    pub fn code(&self, error: ErrorCode) -> i16 {
        self.server.metrics.errors.count(error).code()
    }
}

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
        Request::DescribeCluster(request) => h::describe_cluster::handle(context, &request),
        Request::DescribeTopicPartitions(request) => {
            h::describe_topic_partitions::handle(context, &request)
        }
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
