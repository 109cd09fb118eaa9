//! Tests of whole shards on the simulated machine.

extern crate ringlog_shard as shard;

mod admission;
mod bed;
mod disk_full;
mod groups;
mod late_owner;
mod lost_metadata;
mod metadata_answers;
mod metadata_quorum;
mod metadata_snapshots;
mod metadata_upgrade;
mod replicas;
mod run_time_configs;
mod transactions;
