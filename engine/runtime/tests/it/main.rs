//! Tests of the simulator against the contract of `Io` and against its own promises.

extern crate ringlog_runtime as runtime;

mod contract;
mod determinism;
mod disk;
mod machines;
mod network;
mod rules;
mod small_files;
