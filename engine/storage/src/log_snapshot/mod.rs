//! Snapshots of a log: one file that holds what the records before an offset add up to, so that these may go.
//!
//! Whoever keeps the log knows what its records add up to and hands it over as records again ([`write`]); at start the
//! newest sound snapshot that the log reaches back to comes first, then the log from its end on ([`load`]). The file is
//! Kafka's (KIP-630): record batches between a header and a footer ([`content`]). The one before the newest stays, and
//! the log from its end on: one file that the device has spoiled costs nothing.
//! Invariants: the log begins at or before the end of a sound snapshot whose name and bytes are durable, or at 0; a
//! snapshot is removed only when the log durably begins behind its end.
//! FORMAT.md, section "Snapshots of a log".

pub(crate) mod content;
mod load;
pub(crate) mod snapshot_id;
mod transfer;
mod write;

pub use load::{LoadSnapshotError, LogSnapshot};
pub use snapshot_id::{SNAPSHOT_BYTES_MAX, SnapshotId};
pub use transfer::NotASnapshot;
pub use write::{NewSnapshot, SnapshotError};
