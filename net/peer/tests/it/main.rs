//! Brokers among themselves: the bytes.

extern crate ringlog_peer as peer;

mod frames;
