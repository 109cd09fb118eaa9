//! Tests of the coordinator crate: scripts of rebalances, Kafka's answers as a table, replay against live.

// Tables and scripts of many rows read best in one piece.
#![allow(clippy::too_many_lines)]

mod answers;
mod replay;
mod script;
