//! A whole broker under simulation: whose a data directory is, first starts that are cut short, ends in order, committed records.

extern crate ringlog_broker as broker;

mod administration;
mod balance;
mod bed;
mod clusters;
mod committed;
mod directories;
mod ends;
mod moves;
mod snapshots;
mod starts;
