//! Sizes and times of streams.

use std::time::Duration;

/// Bytes that a leader has under way on one stream: sent, and not taken by the follower. It bounds what waits on a follower
/// whose journal is full.
pub(crate) const CREDIT_BYTES: usize = 8 << 20;

/// So many of them may come from segments: who catches up leaves the rest to what has just been appended.
pub(crate) const READ_CREDIT_BYTES: usize = CREDIT_BYTES / 2;

/// What is read at once from segments.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Records of one message, but for the last batch: a message stays short, so that others have their turn.
pub(crate) const PUSH_BYTES: usize = 1 << 20;

/// A partition's share of a message when many have something, but for the last batch.
pub(crate) const TURN_BYTES_MIN: usize = 64 << 10;

/// What a part of a message counts beside its records.
pub(crate) const PART_COST_BYTES: usize = 64;

/// A follower tells what it has taken, though nothing is durable yet, when so much has come.
pub(crate) const TOLD_BYTES: usize = CREDIT_BYTES / 4;

/// The first pause before a stream that broke is begun anew; it doubles with each time.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest one.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A partition that was refused is asked for again after this time.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// The same of one whose records do not go into the log.
pub(crate) const UNFIT_PAUSE: Duration = Duration::from_secs(1);

/// A stream whose subscriptions are not answered for so long is begun anew.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Tasks of a shard that read segments for followers.
pub(crate) const READERS: usize = 4;

const _: () = assert!(READ_BYTES <= READ_CREDIT_BYTES && PUSH_BYTES < CREDIT_BYTES);
