//! The Kafka server of one shard: listeners, connections, dispatch, one handler per API.
//!
//! Knows the wire and nothing of the disk. A handler translates between wire structs and shard requests; decisions
//! are made below.

pub mod connection;
mod connection_tasks;
pub mod context;
pub mod dispatch;
pub mod error_codes;
pub mod fetch_session;
pub mod handlers;
pub mod listener;
pub mod memory;
pub mod metrics;
pub mod outbox;
pub mod pending;
pub mod request_clock;
pub mod scatter;
pub mod server;

pub use server::{Server, ServerOptions};
