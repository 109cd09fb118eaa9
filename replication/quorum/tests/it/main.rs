//! The quorum as its driver sees it: scripts, hostile bytes, starts, rare courses, simulated clusters,
//! and the storage engine as its disk.

mod codec;
mod course;
mod recovery;
mod script;
mod sim;
mod storage;
