//! One partition's replication, as its leader sees it: high watermark, in-sync replicas, leader epochs.
//!
//! Pure. One [`LeaderReplica`] per partition that this broker leads, owned by the partition's shard. It knows offsets
//! and times, never records; it asks for an ISR change and is told the outcome. Nothing here assumes one broker.

mod follower;
mod isr;
mod leader;

pub use follower::FollowerFetch;
pub use isr::{IsrProposal, IsrRefusal};
pub use leader::{Assignment, LeaderReplica, LeaderSettings, Output, ReplicaError};
