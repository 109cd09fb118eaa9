//! Partitions with replicas on several brokers.

mod network;
mod roles;
mod world;
