//! Tests of the coordinator crate: scripts of rebalances, Kafka's answers as a table, replay against live.

mod answers;
mod replay;
mod script;
