//! DescribeCluster (key 60): the brokers and who takes admin requests (KIP-700, KIP-919).

use model::ErrorCode;
use protocol::Text;
use protocol::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::topics;

/// `endpoint_type` of brokers; 2 would be controllers, which are not addressed by clients here.
const ENDPOINT_BROKERS: i8 = 1;

/// Answers from the image.
pub fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &DescribeClusterRequest,
) -> Result<(), ConnectionEnd> {
    let image = context.server.shard.image();
    if request.endpoint_type != ENDPOINT_BROKERS {
        let (error, message) = match request.endpoint_type {
            2 => (
                ErrorCode::MismatchedEndpointType,
                "this listener serves brokers, not controllers",
            ),
            _ => (
                ErrorCode::UnsupportedEndpointType,
                "the endpoint type is neither brokers nor controllers",
            ),
        };
        return context.answer(&DescribeClusterResponse {
            error_code: context.code(error),
            error_message: Some(message.into()),
            endpoint_type: request.endpoint_type,
            cluster_id: Text::copy_from(image.cluster_id()),
            ..DescribeClusterResponse::default()
        });
    }
    let brokers = image
        .brokers()
        .filter(|broker| broker.is_active() || request.include_fenced_brokers)
        .filter_map(|broker| topics::address(context, broker));
    context.answer(&DescribeClusterResponse {
        cluster_id: Text::copy_from(image.cluster_id()),
        controller_id: topics::controller_id(context),
        brokers: brokers
            .map(|broker| DescribeClusterBroker {
                broker_id: broker.id.0,
                host: broker.host,
                port: broker.port,
                rack: broker.rack,
                is_fenced: broker.is_fenced,
            })
            .collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            topics::CLUSTER_OPERATIONS
        } else {
            topics::OPERATIONS_OMITTED
        },
        ..DescribeClusterResponse::default()
    })
}
