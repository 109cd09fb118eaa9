//! The client against scripted servers, on the simulated machine.

mod cluster;
mod connection;
mod script;
