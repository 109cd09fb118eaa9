//! The console as its readers see it.

// Tests of a thread that is no shard: they use clocks and sockets as it does.
#![allow(clippy::disallowed_methods)]

extern crate ringlog_console as console;

mod exposition;
mod overview;
mod prometheus;
mod server;
