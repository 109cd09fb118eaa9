//! The binary as people use it: at a terminal, in a pipe, with signals, against a running broker.

// Tests of an executable: processes, files, clocks.
#![allow(clippy::disallowed_methods)]

mod broker;
mod demo;
mod documents;
mod pipes;
mod service;
mod signals;
mod starts;
mod terminal;
mod transcript;
