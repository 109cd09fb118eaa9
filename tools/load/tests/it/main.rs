//! The load generator against the null server, on the simulated machine.

extern crate ringlog_load as load;

mod connections;
mod interrupt;
mod pause;
mod produce;
