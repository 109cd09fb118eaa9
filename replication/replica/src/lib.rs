//! One partition's replication: high watermark, in-sync replicas, leader epochs, and where two logs depart.
//!
//! Pure. One [`LeaderReplica`] per partition that this broker leads, one [`FollowerReplica`] per partition that it
//! follows, owned by the partition's shard. They know offsets and times, never records. A leader asks for an ISR change
//! and is told the outcome; a follower asks for records, and says what is durable. Nothing here assumes one broker.

mod follower;
mod following;
mod isr;
mod leader;
mod planted;
pub mod stream;
mod subscription;

pub use follower::FollowerFetch;
pub use following::{FollowerLog, FollowerOutput, FollowerReplica, Frame, FrameRefusal};
pub use isr::{IsrProposal, IsrRefusal};
pub use leader::{Assignment, LeaderReplica, LeaderSettings, LogEnds, Output, ReplicaError};
#[doc(hidden)]
pub use planted::PlantedFault;
pub use subscription::{EpochEnd, LeaderLog, SubscribeAnswer, Subscription};
