//! Where the time of one request goes: contiguous stages, carried with the request and its answer.
//!
//! Invariant: each stage ends where the next begins, so the stages of a request add up to the whole. A moment that is
//! reported late or out of order (another shard's, a partition that was ready earlier) is taken as "not before the one
//! before it" and never makes a gap or an overlap.

use model::MonotonicTime;
use protocol::ApiKey;
use shard::request::{Acks, FetchTimes, ProduceTimes};

/// A part of a request's time on the broker. A stage may be entered more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// First bytes of the frame at the socket, until the whole frame is in memory: also the time until the shard looked.
    Read,
    /// Its turn has come, until it is decoded, checked and split by shard.
    Decode,
    /// Waiting: behind earlier requests of the connection, for a budget, for another shard to begin or to answer.
    Queue,
    /// Produce: validation and copying into the commit group. Fetch: reading.
    Append,
    /// In the commit group, until its write is submitted.
    JournalWait,
    /// The group's write is under way, until it is durable at the topic's level.
    DeviceWrite,
    /// Durable here, until the high watermark has passed.
    ReplicationWait,
    /// Fetch: waiting for bytes or time. Produce: acknowledged, until the answer has come to the connection's shard.
    Purgatory,
    /// The answer's contents are there, until its bytes are accepted by the socket, behind those of earlier requests.
    Send,
}

pub const STAGE_COUNT: usize = 9;

impl Stage {
    /// All stages in their usual order.
    pub const ALL: [Stage; STAGE_COUNT] = [
        Stage::Read,
        Stage::Decode,
        Stage::Queue,
        Stage::Append,
        Stage::JournalWait,
        Stage::DeviceWrite,
        Stage::ReplicationWait,
        Stage::Purgatory,
        Stage::Send,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Decode => "decode",
            Stage::Queue => "queue",
            Stage::Append => "append",
            Stage::JournalWait => "journal_wait",
            Stage::DeviceWrite => "device_write",
            Stage::ReplicationWait => "replication_wait",
            Stage::Purgatory => "purgatory",
            Stage::Send => "send",
        }
    }
}

/// What a request is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Produce, at this acks level.
    Produce(Acks),
    Api(ApiKey),
}

#[derive(Clone, Copy, Debug)]
pub struct RequestClock {
    /// What it is counted as.
    pub kind: RequestKind,
    begun_at: MonotonicTime,
    last_at: MonotonicTime,
    nanos: [u64; STAGE_COUNT],
}

impl RequestClock {
    /// The clock of a request whose frame began, was complete and got its turn at these times. `budget_nanos` of the
    /// time between the first two were spent waiting for memory.
    pub fn new(
        begun_at: MonotonicTime,
        complete_at: MonotonicTime,
        turn_at: MonotonicTime,
        budget_nanos: u64,
    ) -> RequestClock {
        let mut clock = RequestClock {
            kind: RequestKind::Api(ApiKey::ApiVersions),
            begun_at,
            last_at: begun_at,
            nanos: [0; STAGE_COUNT],
        };
        clock.end(Stage::Read, complete_at);
        let read = &mut clock.nanos[Stage::Read as usize];
        let waited = budget_nanos.min(*read);
        *read -= waited;
        clock.nanos[Stage::Queue as usize] = waited;
        clock.end(Stage::Queue, turn_at);
        clock
    }

    /// Ends a stage: the time since the last moment belongs to it.
    pub fn end(&mut self, stage: Stage, at: MonotonicTime) {
        let at = at.max(self.last_at);
        self.nanos[stage as usize] += at.0 - self.last_at.0;
        self.last_at = at;
    }

    /// Adds what the shard of the last partition to be acknowledged told.
    pub fn produced(&mut self, times: &ProduceTimes) {
        self.end(Stage::Queue, times.begun_at);
        self.end(Stage::Append, times.staged_at);
        self.end(Stage::JournalWait, times.submitted_at);
        self.end(Stage::DeviceWrite, times.durable_at);
        self.end(Stage::ReplicationWait, times.acknowledged_at);
        self.end(Stage::Purgatory, times.answered_at);
    }

    /// Adds what another shard told about the read that was waited for; its answer was picked up at `now`.
    pub fn fetched(&mut self, times: &FetchTimes, now: MonotonicTime) {
        self.end(Stage::Queue, times.begun_at);
        self.end(Stage::Append, times.done_at);
        self.end(Stage::Queue, now);
    }

    /// Nanoseconds spent in a stage so far.
    pub fn stage_nanos(&self, stage: Stage) -> u64 {
        self.nanos[stage as usize]
    }

    /// Nanoseconds from the first byte to the end of the last stage.
    pub fn whole_nanos(&self) -> u64 {
        self.last_at.0 - self.begun_at.0
    }
}

#[cfg(test)]
mod tests {
    use model::MonotonicTime;
    use shard::request::{FetchTimes, ProduceTimes};

    use super::{RequestClock, Stage};

    fn at(nanos: u64) -> MonotonicTime {
        MonotonicTime(nanos)
    }

    #[test]
    fn stages_add_up_to_the_whole_whatever_order_moments_come_in() {
        let times = ProduceTimes {
            begun_at: at(60),
            staged_at: at(70),
            // The group of this partition left before another partition of the request was staged.
            submitted_at: at(65),
            durable_at: at(90),
            acknowledged_at: at(0),
            answered_at: at(95),
        };
        let mut clock = RequestClock::new(at(10), at(30), at(40), 15);
        clock.end(Stage::Decode, at(50));
        clock.produced(&times);
        clock.end(Stage::Send, at(100));
        let stages = Stage::ALL.map(|stage| clock.stage_nanos(stage));
        assert_eq!(stages, [5, 10, 35, 10, 0, 20, 0, 5, 5]);
        assert_eq!(clock.whole_nanos(), 90);
        assert_eq!(stages.iter().sum::<u64>(), 90);
    }

    #[test]
    fn a_fetch_of_another_shard_waits_there_and_back() {
        let mut clock = RequestClock::new(at(0), at(0), at(0), 99);
        let times = FetchTimes {
            begun_at: at(5),
            done_at: at(8),
        };
        clock.fetched(&times, at(10));
        assert_eq!(clock.stage_nanos(Stage::Queue), 7);
        assert_eq!(clock.stage_nanos(Stage::Append), 3);
        assert_eq!(clock.whole_nanos(), 10);
    }
}
