//! What the cluster is: records of the metadata log, the image they add up to, and the controller's decisions.
//!
//! Pure. A decision reads a [`MetadataImage`] and yields records; the records become true when the metadata log has
//! committed them and every holder of an image has applied them. Nothing here assumes that there is only one broker.

pub mod balance;
pub mod controller;
pub mod delta;
pub mod image;
pub mod placement;
mod planted;
pub mod record;
pub mod topic_name;

pub use delta::{MetadataDelta, PartitionDelta};
pub use image::{
    ApplyError, BrokerRegistration, ConfigMap, MetadataImage, PartitionState, Reassignment, Topic,
    removal_records,
};
pub use placement::shard_of;
#[doc(hidden)]
pub use planted::PlantedFault;
pub use record::{
    BrokerEndpoint, BrokerFeature, ConfigRecord, ConfigResourceType, LeaderRecoveryState,
    MetadataRecord, PartitionRecord, ProducerIdsRecord, RecordError, RegisterBrokerRecord,
    TopicRecord, Uuid,
};
