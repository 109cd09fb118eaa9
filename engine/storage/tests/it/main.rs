//! Tests of the storage through its public door, on the simulated machine.

mod crash;
mod faults;
mod harness;
mod log;
mod producer;
