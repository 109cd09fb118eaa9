//! Memory that serves reads: the tails of the logs, and extents of segment files.

pub(crate) mod extent;
pub(crate) mod tail;
