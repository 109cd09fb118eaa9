//! Tests of the metadata crate: tables of Kafka's answers, and properties of records, images and placement.

mod admin_answers;
mod brokers;
mod cluster;
mod configs;
mod image;
mod placement;
mod records;
