//! The client against scripted servers, on the simulated machine.

extern crate ringlog_client as client;

mod cluster;
mod connection;
mod log;
mod script;
