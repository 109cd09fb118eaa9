//! The partition logs of one shard: commit journal, segments, indexes, recovery.
//!
//! Everything that touches the machine is generic over [`runtime::Io`]; files without that parameter are pure.
//! Knows partitions by [`model::TopicPartition`] only: topics, leaders and clients are other layers' business.
//! Every byte on disk is defined in `FORMAT.md`.

mod at_once;
mod cache;
mod checkpoint;
mod checkpointer;
mod deadline;
mod deletion;
mod descriptors;
mod disk_space;
pub mod dump;
mod encoding;
mod error;
mod expiry;
mod file_cache;
mod index;
mod journal;
mod layout;
mod leader_epoch_cache;
mod life;
mod log;
mod lost_found;
pub mod metrics;
mod options;
mod producer_state;
mod read;
mod reclaim;
mod recovery;
mod removal;
mod retention;
mod segment;
mod segment_writer;
mod shutdown;
mod spares;
mod storage;
mod time_lookup;
mod waiters;
mod writer_state;

pub use error::{AppendError, OpenError, ReadError, StorageError};
pub use layout::Layout;
pub use leader_epoch_cache::LeaderEpochCache;
pub use log::{Log, ReadBatches, ReadRequest, TimestampOffset};
pub use options::{AppendContext, Durability, FlushMethod, LogConfig, StorageOptions};
pub use producer_state::{ProducerStates, RememberedBatch, SequenceCheck};
pub use recovery::{RecoveryReport, recover_data_dir, set_aside};
pub use retention::{SegmentSummary, removable_segments};
pub use storage::{Appended, CommitListener, CommitTimes, Mark, Storage};
