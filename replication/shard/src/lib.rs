//! One core's share of the broker: feeds the pure machines and performs their outputs.
//!
//! A [`Shard`] owns the partitions that map to its core, their logs, and who waits for them. Requests come in as plain
//! structs ([`request`]), from connections of this core or as messages of other shards ([`message`]); nothing here
//! knows Kafka's encoding or versions.

mod append;
mod balancer;
mod batch_check;
pub mod boot;
mod close;
mod closest;
mod commits;
mod config_rules;
pub mod contacts;
mod controlled_shutdown;
mod controller;
pub mod controller_call;
mod controller_queue;
pub mod coordinator_host;
mod early_questions;
mod forwarding;
#[doc(hidden)]
pub mod hand_made;
mod isr_changes;
mod leading;
mod life;
mod liveness;
mod log_cutter;
pub mod message;
mod metadata_cache;
mod metadata_log;
mod metadata_quorum;
mod metadata_replica;
mod metadata_snapshots;
mod metadata_upgrade;
pub mod metrics;
pub mod observers;
pub mod others;
pub mod outgoing;
pub mod partition;
pub mod partition_rules;
pub mod partition_table;
mod partitions;
pub mod peer;
pub mod produce;
mod producer_ids;
mod purgatory;
mod read;
pub mod refusal;
mod removed_topics;
mod replica_events;
mod replication_metrics;
pub mod reply;
mod reports;
pub mod request;
mod role;
pub mod shard;
mod sizes;
mod snapshot_schedule;
mod snapshot_taker;
mod snapshot_writer;
pub mod streams;
mod suspects;
mod tasks;
mod throttle;
pub mod timers;
mod unknown_logs;
pub mod watch;
mod work_queue;

pub use boot::{BootError, Booted, boot};
pub use close::Closed;
pub use closest::closest_replica;
pub use controlled_shutdown::{LEAVE_PATIENCE, leave};
pub use shard::{Shard, ShardOptions};
pub use unknown_logs::MetadataLost;

/// Topics of the broker itself: clients read them, but do not write to them.
pub const INTERNAL_TOPICS: [&str; 1] = [coordinator_host::OFFSETS_TOPIC];

/// Whether a topic belongs to the broker itself.
pub fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}
