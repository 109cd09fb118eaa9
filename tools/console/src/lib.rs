//! What a running broker tells about itself: metrics over HTTP, served by a thread of its own.
//!
//! The shards count; this crate asks them ([`shards`]), turns their snapshots into one [`Document`], writes it as
//! Prometheus text ([`prometheus`]) or JSON, and serves it ([`Console`]). It is also what `ringlog top` computes its
//! picture with ([`Overview`]). Nothing here is on the path of a request: a shard spends one snapshot per scrape, and a
//! scrape that a shard does not answer in time goes without it.

// This thread is no shard: it has a clock, sockets and files of its own and is never simulated.
#![allow(clippy::disallowed_methods)]

pub mod document;
pub mod health;
pub mod overview;
pub mod process;
pub mod prometheus;
pub mod replication;
pub mod server;
pub mod shards;

pub use document::Document;
pub use health::Phase;
pub use overview::Overview;
pub use replication::Replication;
pub use server::{Console, ConsoleError};
pub use shards::{Answer, Question, ShardQuestions};
