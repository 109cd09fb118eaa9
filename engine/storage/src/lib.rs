//! The partition logs of one shard: commit journal, segments, indexes, recovery.
//!
//! Everything that touches the machine is generic over [`runtime::Io`]; files without that parameter are pure.
//! Knows partitions by [`model::TopicPartition`] only: topics, leaders and clients are other layers' business.
//! Every byte on disk is defined in `FORMAT.md`.

mod aborted;
mod append;
mod at_once;
mod cache;
mod checkpoint;
mod checkpoint_chain;
mod checkpoint_turn;
mod checkpointer;
mod commit;
mod cut;
mod deadline;
mod deletion;
mod descriptors;
mod disk_space;
pub mod dump;
mod encoding;
mod error;
mod expiry;
mod file_cache;
mod follow;
mod identity;
mod index;
mod inner;
mod journal;
mod layout;
mod leader_epoch_cache;
mod learn;
mod life;
mod log;
mod log_snapshot;
mod lost_found;
pub mod metrics;
mod options;
mod page_writer;
mod placement;
mod placer;
mod producer;
mod producer_state;
mod quorum_state;
mod read;
mod read_ahead;
mod reclaim;
mod recovery;
mod removal;
mod removals;
mod retention;
mod segment;
mod segment_view;
mod segment_writer;
mod shield;
mod shutdown;
mod snapshot;
mod spares;
mod storage;
mod time_lookup;
mod transaction_index;
mod transactions;
mod trim;
mod undo;
mod unsynced;
mod waiters;
mod write_queue;
mod writer_state;

pub use append::Appended;
pub use commit::{CommitListener, CommitTimes};
pub use error::{AppendError, CutError, FollowError, OpenError, ReadError, StorageError};
pub use follow::{ReplicatedBatch, TailRead};
pub use identity::BrokerIdentity;
pub use layout::Layout;
pub use leader_epoch_cache::LeaderEpochCache;
pub use log::{Log, ReadBatches, ReadRequest, TimestampOffset};
pub use log_snapshot::{
    LoadSnapshotError, LogSnapshot, NewSnapshot, NotASnapshot, SNAPSHOT_BYTES_MAX, SnapshotError,
    SnapshotId,
};
#[doc(hidden)]
pub use options::PlantedFault;
pub use options::{AppendContext, Durability, FlushMethod, LogConfig, StorageOptions};
pub use producer::{Producer, RememberedBatch, SequenceCheck};
pub use producer_state::ProducerStates;
pub use quorum_state::QuorumState;
pub use recovery::{RecoveryReport, recover_data_dir, set_aside};
pub use retention::{SegmentSummary, removable_segments};
pub use storage::{Mark, Storage};
pub use transaction_index::AbortedTransaction;
