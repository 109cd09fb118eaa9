//! Brokers among themselves: the bytes, who is let in, links under faults, requests, snapshots, and hostile peers.

extern crate ringlog_peer as peer;

mod bed;
mod calls;
mod chaos;
mod frames;
mod greetings;
mod hostile;
mod links;
mod relay;
mod snapshots;
