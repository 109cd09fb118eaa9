//! The load generator: a workload in, counts and latencies out.
//!
//! Thread per core: each core runs its share of the connections on its own `Io` and returns a [`Tally`]; the sums are
//! made at the end. Requests are encoded once and patched for each send, so that the broker is the bottleneck.

// A tool: reads its own CPU time from /proc and resolves host names.
#![allow(clippy::disallowed_methods)]

pub mod consume;
mod consume_group;
mod core_state;
pub mod end_to_end;
pub mod histogram_log;
pub mod keys;
pub mod null_server;
pub mod payload;
pub mod process;
pub mod produce;
pub mod report;
pub mod schedule;
pub mod script;
pub mod seconds;
pub mod sizes;
pub mod statistics;
pub mod sweep;
pub mod tally;
pub mod template;
pub mod topology;
pub mod trace;
pub mod validity;
pub mod verify;
mod waiting;
pub mod workload;

pub use consume::{Consumed, consume};
pub use core_state::{Observer, Share, Tick};
pub use end_to_end::end_to_end;
pub use payload::Payload;
pub use produce::{Produced, produce};
pub use report::Report;
pub use schedule::Arrivals;
pub use sizes::RecordSizes;
pub use tally::Tally;
pub use topology::{cluster_options, resolve_system};
pub use workload::{
    BatchSize, ConsumeWorkload, From, GroupWorkload, Limit, ProduceWorkload, WorkloadError,
};
