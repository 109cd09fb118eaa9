//! Partitions with replicas on several brokers.

mod chaos;
mod network;
mod roles;
mod world;
