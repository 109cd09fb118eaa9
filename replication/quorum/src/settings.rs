//! What a quorum is told when it is made: times, sizes, and a seed for what must differ between replicas.

use std::time::Duration;

use crate::entry::ENTRY_BYTES_MAX;

/// Most observers that a leader serves: tens are meant. Each costs the leader a message per heartbeat and per decision.
pub const OBSERVERS_MAX: usize = 250;

/// Settings of one replica. They may differ between replicas but for the times, which should not.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time is counted in these.
    pub tick: Duration,
    /// The leader is heard of this often.
    pub heartbeat_ticks: usize,
    /// Without it for this long a voter stands for election, and a leader without its quorum steps down.
    pub election_ticks: usize,
    /// Up to so much later, so that voters do not stand at the same time.
    pub jitter_ticks: usize,
    /// From which that lateness is drawn. Replicas should have different ones; one seed gives one course.
    pub seed: u64,
    /// A leader whose disk has not finished a write for this long lets another lead, if there is one.
    pub stall_ticks: usize,
    /// Entries of one message, in bytes, but for a single larger one.
    pub message_bytes_max: usize,
    /// Messages with entries on their way to one follower.
    pub messages_in_flight_max: usize,
    /// Bytes of entries that a leader has proposed and that are not committed: more are refused.
    pub uncommitted_bytes_max: usize,
    /// Bytes that are handed out to be written and are not durable: a follower takes no more.
    pub unwritten_bytes_max: usize,
    /// Bytes of entries that stay in memory for followers though they are applied and durable.
    pub memory_bytes_max: usize,
    /// Entries of the log, of each of which a few words are in memory: a leader proposes no more before a snapshot.
    pub entries_max: usize,
    /// Entries that stay in the log behind a snapshot, for followers that lag a little.
    pub keep_entries: u64,
    /// What is wrong on purpose.
    #[doc(hidden)]
    pub planted: Option<PlantedFault>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks: 12,
            jitter_ticks: 12,
            stall_ticks: 60,
            seed: 0,
            message_bytes_max: 1 << 20,
            messages_in_flight_max: 32,
            uncommitted_bytes_max: 32 << 20,
            unwritten_bytes_max: 32 << 20,
            memory_bytes_max: 16 << 20,
            entries_max: 1 << 20,
            keep_entries: 10_000,
            planted: None,
        }
    }
}

impl Settings {
    /// Panics on settings with which no quorum works: the driver derives them from checked configuration.
    pub(crate) fn check(&self) {
        assert!(!self.tick.is_zero(), "time stands still");
        assert!(self.heartbeat_ticks > 0, "heartbeats without a pause");
        assert!(
            self.election_ticks > 2 * self.heartbeat_ticks,
            "one lost heartbeat is no reason for an election"
        );
        assert!(
            self.message_bytes_max <= ENTRY_BYTES_MAX,
            "a message of many entries is no longer than one of a single entry may be"
        );
        assert!(self.messages_in_flight_max > 0, "nothing is ever sent");
        assert!(
            self.keep_entries < self.entries_max as u64,
            "a snapshot makes no room"
        );
    }

    pub(crate) fn is_planted(&self, fault: PlantedFault) -> bool {
        self.planted == Some(fault)
    }
}

/// What is wrong on purpose, so that tests can show that they would notice.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedFault {
    /// Messages leave before what they promise is durable.
    SendsBeforePersisted,
    /// The term and the vote are not written.
    VoteNotWritten,
    /// The own disk counts as soon as it is asked to write.
    CommitsWithoutOwnDisk,
    /// A log that diverges is continued without cutting it.
    NoTruncation,
    /// A write that a later one cuts still counts in full.
    WritesNotClipped,
    /// A snapshot is installed over entries that are newer and committed.
    StaleSnapshot,
    /// Messages for another directory of this broker are taken.
    AnyDirectory,
    /// A single voter's messages leave although its term is not durable.
    SingleVoterHurries,
    /// After a restart, a change of voters that a later one proves committed is not in force.
    ForgetsProvenVoters,
    /// Entries are applied that are committed, but not durable here.
    AppliesBeforePersisted,
}
