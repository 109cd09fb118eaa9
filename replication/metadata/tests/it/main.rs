//! Tests of the metadata crate: tables of Kafka's answers, and properties of records, images and placement.

// Tables and scripts of many rows read best in one piece.
#![allow(clippy::too_many_lines)]

mod admin_answers;
mod balance;
mod brokers;
mod cluster;
mod configs;
mod elections;
mod eligible;
mod image;
mod moves;
mod placement;
mod reassignments;
mod records;
