//! Brokers among themselves: the bytes, links under faults, requests, snapshots, and the same over real sockets.

extern crate ringlog_peer as peer;

mod bed;
mod calls;
mod chaos;
mod frames;
mod greetings;
mod hand_over;
mod hostile;
mod links;
mod quorum_run;
mod real;
mod real_streams;
mod relay;
mod snapshots;
mod stream_bed;
mod stream_chaos;
mod stream_relay;
mod streams;
