//! Tests of the replication of one partition: scripts, as its leader and as a follower see it, and the bytes of streams.

// A script's interpreter reads best in one piece.
#![allow(clippy::too_many_lines)]

mod follower;
mod leader;
mod script;
mod stream;
