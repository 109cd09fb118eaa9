//! The metadata log's consensus: who leads, what is committed, who has a vote.
//!
//! Pure: no I/O, no clock, no chance, no threads. One [`Quorum`] per broker, on shard 0. The algorithm is the `raft` crate's
//! (elections with pre-vote, a leader that steps down without its quorum, replication, changes of the voters one at a time);
//! this crate ties it to the metadata log, decides when a message may leave, and speaks to peers in frames of its own.
//!
//! | file                                    | owns                                                                        |
//! |-----------------------------------------|-----------------------------------------------------------------------------|
//! | `key.rs`                                | a replica is a broker with its directory (KIP-853); the voters              |
//! | `place.rs`, `entry.rs`, `control.rs`    | an entry is a batch of the metadata log; the two control batches            |
//! | `entry_log.rs`, `store.rs`              | the entries in memory, and the library's view of them                       |
//! | `consensus.rs`, `convert.rs`            | the library                                                                 |
//! | `writes.rs`                             | what is under way to the disk, and the messages that wait for it            |
//! | `members.rs`, `fetch.rs`                | who is known; a snapshot on its way here                                    |
//! | `machine.rs`                            | what follows from an event, in order                                        |
//! | `check.rs`, `refusal.rs`, `quorum.rs`   | what is refused; the calls                                                  |
//! | `recovery.rs`, `bootstrap.rs`           | the start                                                                   |
//! | `message.rs`, `codec.rs`                | what replicas tell each other, and its bytes                                |
//!
//! # Promises
//!
//! At most one leader in a term; what came out as committed anywhere never changes and is in every later leader's log; all
//! replicas' logs are equal, byte by byte, up to what is committed. They hold if a disk keeps what it said was durable, and
//! a directory that lost something never comes back under its old identity. `tests/it/sim` plays both sides;
//! `tests/it/storage` drives replicas on the storage engine as this page says.
//!
//! What they do not cover: a change of the voters protects from the next loss only when the voters know that it is committed
//! (their stored commit index shows it; a moment after the change if they are reachable). Until then they vote as before it.
//!
//! # How a driver uses it
//!
//! With the storage as it stands (`Storage`, its metadata log, `QuorumState`):
//!
//! **First start of a first voter**, if the operator says that it is one: a voter whose directory was wiped is none. The log is
//! empty and its quorum state is zero, or in term 1 without a vote: [`bootstrap()`], then `set_quorum_state`, then `append_replicated` of the batch, and wait until both are durable. Every
//! other broker begins with the empty log. A log of a release without a quorum (leader epoch 0) is first turned into a
//! snapshot: its image with a [`SnapshotMark`] of {index: count of batches, term 1, end offset, this replica as voter}, then
//! the quorum state of term 1, then the log reset to that end.
//!
//! **Every start.**
//! 1. Load the newest whole snapshot, its mark ([`decode_mark`]) with it; the image begins with it.
//! 2. [`Recovery::new`] with the log's quorum state and its log start; [`Recovery::show`] for each batch from there to the
//!    end. What it says to apply is applied to the image.
//! 3. [`Recovery::finish`]. On [`Recovered::ResetLog`]: `reset` the log to the mark's end, and once more from 2. An error
//!    means that the directory has lost what was durable: it must not take part under its directory id.
//! 4. [`Quorum::new`].
//!
//! **Then**, one task does one thing at a time: an event in, then [`Quorum::poll_output`] until there is nothing.
//!
//! | event                                        | call                                                              |
//! |----------------------------------------------|-------------------------------------------------------------------|
//! | [`Quorum::next_timeout`] is reached          | [`Quorum::handle_timeout`]                                        |
//! | a frame of a peer                            | [`decode`], then [`Quorum::handle_message`]                       |
//! | a connection ended or cannot be made         | [`Quorum::handle_unreachable`]                                    |
//! | the controller has decided                   | [`Quorum::propose`]                                               |
//! | a write is durable                           | [`Quorum::handle_persisted`]; of several, with the last           |
//! | a read is done, or failed                    | [`Quorum::handle_entries_read`]                                   |
//! | a snapshot is fetched and synced, or failed  | [`Quorum::handle_snapshot_fetched`], [`Quorum::handle_snapshot_failed`] |
//! | a snapshot of one's own is synced            | [`Quorum::handle_snapshot_written`], then `advance_log_start`     |
//! | storage is fenced, or the disk hangs         | [`Quorum::resign`]                                                |
//!
//! | output                       | what to do                                                                            |
//! |------------------------------|---------------------------------------------------------------------------------------|
//! | [`Output::Write`]            | in order, each without waiting for the one before to be durable: `set_quorum_state`; install: make the fetched snapshot the one that counts, `reset` the log to its end, load its image; `truncate`; `append_replicated`. `truncate` and `reset` wait for what is under way, and what comes behind them waits for them. `admit` first; a full journal is waited for. Durable: the marks and the log's durable end |
//! | [`Output::Send`]             | [`encode`], to the connection of [`Message::to`]; drop it if there is none            |
//! | [`Output::Committed`]        | a decision: apply its records, set the high watermark; answer whoever proposed it if the term is that of [`Proposed`], else refuse |
//! | [`Output::Leadership`]       | a new leader: name it in answers. This replica: [`Quorum::set_observers`] with all registered brokers; decide when the LeaderChange of the term came out as committed. No more this replica: what was proposed is answered "not known" |
//! | [`Output::ReadEntries`]      | read from the log in another task, and cut what was read into batches                 |
//! | [`Output::FetchSnapshot`]    | fetch in another task, into a file of another name; it fails when its source is gone  |
//! | [`Output::DiscardSnapshot`]  | remove that file                                                                      |
//!
//! A snapshot: [`Quorum::snapshot_mark`] in the same step that takes the image, when every [`Output::Committed`] so far is in
//! it; write image and [`encode_mark`], sync; then the event above. It stays until a newer one is there and nobody fetches it.
//!
//! The peers' handshake refuses another cluster id, and shows each side's [`ReplicaKey`]: [`Message::from`] must be the one
//! shown. Image records have gaps in their offsets: control batches use some up.

mod bootstrap;
mod check;
mod codec;
mod consensus;
mod control;
mod convert;
mod effects;
mod entry;
mod entry_log;
mod fetch;
mod key;
mod machine;
mod members;
mod message;
mod place;
mod quorum;
mod recovery;
mod refusal;
mod settings;
mod status;
mod store;
mod writes;

pub use bootstrap::{Bootstrap, bootstrap};
pub use codec::{
    CODEC_VERSION, CodecError, FRAME_BYTES_MAX, Frame, MESSAGE_ENTRIES_MAX, decode, decode_mark,
    encode, encode_mark,
};
pub use control::ControlError;
pub use effects::{Committed, HardState, Leadership, Output, ReadEntries, Write, WriteNumber};
pub use entry::{ENTRY_BYTES_MAX, Entry, EntryError, EntryKind};
pub use key::{DirectoryId, ReplicaKey, VOTERS_MAX, VoterSet, VotersError};
pub use message::{Body, Message, SnapshotMark};
pub use place::{EntryId, EntryIndex, Term};
pub use quorum::Quorum;
pub use recovery::{Recovered, RecoveredLog, Recovery, RecoveryError, Shown};
pub use refusal::{MembershipRefusal, MessageRefusal, ProposeRefusal, TransferRefusal};
pub use settings::{OBSERVERS_MAX, PlantedFault, Settings};
pub use status::{Proposed, QuorumStatus, ReplicaStatus};
