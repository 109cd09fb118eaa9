//! The whole broker under simulation: storage, shards, server and clients in one thread, from one seed.
//!
//! [`run::run`] plays one seed of one of the [`scenarios`] and tells what was wrong, if anything was. Nothing here
//! knows glommio: the broker runs on [`runtime::sim::SimIo`].

pub mod atlas;
pub mod checker;
pub mod cluster;
pub mod fuzz;
pub mod god;
pub mod hash;
pub mod history;
pub mod nemesis;
pub mod payload;
pub mod planted;
pub mod run;
pub mod scenarios;
pub mod size;
pub mod workload;
