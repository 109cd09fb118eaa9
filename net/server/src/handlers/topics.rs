//! What several handlers say about topics and brokers.

use metadata::{BrokerRegistration, MetadataImage, PartitionState};
use model::{BrokerId, ErrorCode, TopicId};
use protocol::Text;
use runtime::Io;

use crate::context::Context;

pub use shard::is_internal;

/// Authorized operations, when they were not asked for.
pub const OPERATIONS_OMITTED: i32 = i32::MIN;

/// Every operation that exists for a topic: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS and
/// ALTER_CONFIGS (bits 3 to 8, 10, 11). Without an authorizer everybody may do everything.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// Every operation that exists for the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS,
/// ALTER_CONFIGS, IDEMPOTENT_WRITE (bits 5, 7 to 12).
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// An address of a broker, as one listener's clients know it.
pub struct Address {
    pub id: BrokerId,
    pub host: Text,
    pub port: i32,
    pub rack: Option<Text>,
    /// Whether it may not lead.
    pub is_fenced: bool,
}

/// Learns what the metadata log holds by now, if it may be that this shard has not heard of one of these topics yet.
pub async fn catch_up<'a, I: Io>(
    context: &Context<'_, I>,
    names: impl IntoIterator<Item = &'a Text>,
) {
    let shard = &context.server.shard;
    let is_known = |name: &Text| shard.image().topic_by_name(name).is_some();
    if !names.into_iter().all(is_known) {
        shard.catch_up().await;
    }
}

/// The address of a broker for the listener that the request came in on.
pub fn address<I: Io>(context: &Context<'_, I>, broker: &BrokerRegistration) -> Option<Address> {
    let endpoint = broker.endpoint(&context.connection.listener)?;
    Some(Address {
        id: broker.id,
        host: Text::copy_from(&endpoint.host),
        port: i32::from(endpoint.port),
        rack: broker.rack.as_deref().map(Text::copy_from),
        is_fenced: broker.fenced,
    })
}

/// Brokers that clients of this listener can talk to.
pub fn live_brokers<I: Io>(context: &Context<'_, I>, image: &MetadataImage) -> Vec<Address> {
    image
        .brokers()
        .filter(|broker| broker.is_active())
        .filter_map(|broker| address(context, broker))
        .collect()
}

/// Where admin requests may be sent: to any broker, since they are forwarded.
pub fn controller_id<I: Io>(context: &Context<'_, I>) -> i32 {
    context.server.shard.options.broker.0
}

/// What metadata says about a partition's leader: its id, or an error and -1.
pub fn leader<I: Io>(
    context: &Context<'_, I>,
    image: &MetadataImage,
    state: &PartitionState,
    knows_listeners: bool,
) -> (ErrorCode, i32) {
    let Some(leader) = state.leader else {
        return (ErrorCode::LeaderNotAvailable, -1);
    };
    let registration = image.broker(leader).filter(|broker| broker.is_active());
    match registration.map(|broker| address(context, broker)) {
        Some(Some(_)) => (ErrorCode::None, leader.0),
        Some(None) if knows_listeners => (ErrorCode::ListenerNotFound, leader.0),
        _ => (ErrorCode::LeaderNotAvailable, -1),
    }
}

/// Replicas on brokers that are not alive.
pub fn offline_replicas(image: &MetadataImage, state: &PartitionState) -> Vec<i32> {
    let replicas = state.replicas.iter();
    replicas
        .filter(|broker| !image.is_active(**broker))
        .map(|broker| broker.0)
        .collect()
}

pub fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}

/// 128 random bits for a new topic. Never one of the reserved identities.
pub fn new_topic_id<I: Io>(io: &I) -> TopicId {
    loop {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&io.random().to_be_bytes());
        bytes[8..].copy_from_slice(&io.random().to_be_bytes());
        // Version 4, variant 1 (RFC 9562), as Kafka draws them.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let id = TopicId(bytes);
        // Kafka avoids identities whose text begins with a dash: command lines take them for flags.
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}
