//! One wiring of a whole broker over `I: Io`: what the binary runs is what the simulator runs.
//!
//! A broker is a [`BrokerPlan`] and one [`start`] on each of its cores, with what [`links()`] gives that core. The
//! binary adds threads, signals and the division of the machine; the simulator adds faults and clocks. Nothing in
//! here knows either.

pub mod data_directory;
mod forming;
pub mod identity;
pub mod links;
pub mod listeners;
mod peers;
pub mod plan;
pub mod running;
mod snapshots;
pub mod start;
mod streams;

pub use data_directory::DirectoryError;
pub use links::{INBOX_CAPACITY, Links, links, links_through};
pub use listeners::{ListenerRefused, PlannedListener};
pub use plan::{BrokerPlan, PeerPlan, Resources};
pub use running::{CLOSE_PATIENCE, DRAIN_MARGIN, Running, StopError};
pub use shard::LEAVE_PATIENCE;
pub use start::{StartError, start};
