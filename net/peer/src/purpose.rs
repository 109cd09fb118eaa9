//! What a connection is for, and what may travel on it.
//!
//! Pure. A connection has one purpose for its life, so bulk never stands in front of what is urgent, and each purpose
//! has bounds of its own.

use quorum::FRAME_BYTES_MAX as RAFT_BYTES_MAX;

/// Longest body of a forwarded request, and of its answer.
pub const FORWARD_BYTES_MAX: usize = 1 << 20;
/// Longest piece of a snapshot.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Longest frame of a replication stream: one commit group of the leader.
pub const STREAM_BYTES_MAX: usize = 32 << 20;
/// What stands in front of the body of a request or an answer, at most.
pub const CALL_HEAD_BYTES_MAX: usize = 64;
/// Longest question for a piece of a snapshot: its place, and a name of 255 bytes.
const CHUNK_QUESTION_BYTES_MAX: usize = 512;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Messages of the metadata quorum, from the side that connected to the other.
    Raft = 1,
    /// Requests that the controller answers.
    Forward = 2,
    /// Replication between two shards, both ways.
    Stream = 3,
    /// Nothing but pings: whether the broker is there.
    Probe = 4,
    /// Snapshots of the metadata log, in pieces.
    Snapshot = 5,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A message without an answer.
    Message = 1,
    /// A request, from the side that connected.
    Request = 2,
    /// The answer to it.
    Answer = 3,
    /// "I am there." Each side sends them.
    Ping = 4,
    /// The answer to a ping.
    Pong = 5,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 5] = [
        Purpose::Raft,
        Purpose::Forward,
        Purpose::Stream,
        Purpose::Probe,
        Purpose::Snapshot,
    ];

    /// Its number in the handshake.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The purpose of that number.
    pub fn from_code(code: u8) -> Option<Purpose> {
        Purpose::ALL
            .into_iter()
            .find(|purpose| purpose.code() == code)
    }

    /// The longest payload of such a frame on a connection of this purpose; `None` if it may not be there at all.
    pub fn payload_bytes_max(self, kind: Kind) -> Option<usize> {
        match (self, kind) {
            (_, Kind::Ping | Kind::Pong) => Some(0),
            (Purpose::Raft, Kind::Message) => Some(RAFT_BYTES_MAX),
            (Purpose::Stream, Kind::Message) => Some(STREAM_BYTES_MAX),
            (Purpose::Forward, Kind::Request | Kind::Answer) => {
                Some(FORWARD_BYTES_MAX + CALL_HEAD_BYTES_MAX)
            }
            (Purpose::Snapshot, Kind::Request) => Some(CHUNK_QUESTION_BYTES_MAX),
            (Purpose::Snapshot, Kind::Answer) => Some(CHUNK_BYTES_MAX + CALL_HEAD_BYTES_MAX),
            _ => None,
        }
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [
        Kind::Message,
        Kind::Request,
        Kind::Answer,
        Kind::Ping,
        Kind::Pong,
    ];

    /// Its number in a frame's header.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind of that number.
    pub fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }
}
