//! The commit journal of one shard: group commit over all its partitions into pre-written, recycled files.

pub(crate) mod driver;
pub(crate) mod extend;
pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod group;
pub(crate) mod pipeline;
pub(crate) mod replay;
pub(crate) mod room;
