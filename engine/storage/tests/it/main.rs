//! Tests of the storage through its public door, on the simulated machine.

// Tables and scripts of many rows read best in one piece.
#![allow(clippy::too_many_lines)]

mod crash;
mod faults;
mod follow;
mod harness;
mod log;
mod placed;
mod producer;
mod removal;
mod snapshots;
mod space;
mod transaction_model;
mod transactions;
