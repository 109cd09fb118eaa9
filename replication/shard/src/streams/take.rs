//! Takes what leaders have pushed: one task for all streams of the shard, because all of them wait for the same room.
//!
//! Everything of a message is appended without a pause, so that it shares its commit group, unless the journal is full. Then
//! nothing more is taken until there is room; the leaders' credits bound what waits.

use std::rc::Rc;
use std::time::Duration;

use model::Offset;
use model::record::BatchHeader;
use replica::stream::{Answer, Answered, Pushed, StreamBody, StreamNumber};
use replica::{EpochEnd, Frame, FrameRefusal, SubscribeAnswer};
use runtime::Io;
use storage::{AppendError, FollowError, ReplicatedBatch};

use super::limits::{REFUSED_PAUSE, UNFIT_PAUSE};
use super::{PeerShard, Streams};
use crate::partition::{Partition, TakeRefusal};

/// Pause before a full journal or device is tried again.
const ROOM_PAUSE: Duration = Duration::from_millis(1);
const SPACE_PAUSE: Duration = Duration::from_millis(50);

/// A message of a leader.
pub(super) struct Arrived {
    pub(super) peer: PeerShard,
    pub(super) stream: StreamNumber,
    pub(super) number: u64,
    pub(super) bytes: usize,
    /// Answers or a push.
    pub(super) body: StreamBody,
}

/// What became of a part of a push.
enum Taken {
    /// Its records were appended.
    Appended,
    /// There was nothing to append, or nobody wants it.
    Passed,
    /// There is no room now.
    NoRoom(Duration),
    /// The storage takes nothing more.
    Closed,
}

pub(super) async fn run<I: Io>(streams: Rc<Streams<I>>) {
    loop {
        let next = streams.arrived.borrow_mut().pop_front();
        let Some(arrived) = next else {
            streams.arrived_wanted.wait().await;
            continue;
        };
        match &arrived.body {
            StreamBody::Answer(answers) => {
                for answered in answers {
                    streams.take_answer(arrived.peer, arrived.stream, answered);
                }
            }
            StreamBody::Push(parts) => {
                for part in parts {
                    match take_part(&streams, &arrived, part).await {
                        Taken::Appended | Taken::Passed => {}
                        Taken::NoRoom(_) => unreachable!("that was waited for"),
                        Taken::Closed => return,
                    }
                }
            }
            StreamBody::Subscribe(_) | StreamBody::Acknowledge { .. } => {
                unreachable!("a follower takes what its leader says")
            }
        }
        let mut followed = streams.followed.borrow_mut();
        let (peer, stream, number) = (arrived.peer, arrived.stream, arrived.number);
        if followed.taken(peer, stream, number, arrived.bytes) {
            streams.events.stream_wanted.raise();
        }
    }
}

/// Takes a part once there is room for it.
async fn take_part<I: Io>(streams: &Streams<I>, arrived: &Arrived, part: &Pushed) -> Taken {
    loop {
        match streams.take_now(arrived.peer, arrived.stream, part) {
            Taken::NoRoom(pause) => {
                // Who asks for room makes the storage look for some; whether there is any, the next attempt finds out.
                if let Err(error) = streams.storage.admit(part.records.size_bytes()).await {
                    tracing::debug!(%error, "a follower waits for room");
                }
                streams.io.sleep(pause).await;
            }
            taken => return taken,
        }
    }
}

impl<I: Io> Streams<I> {
    fn take_answer(&self, peer: PeerShard, stream: StreamNumber, answered: &Answered) {
        let id = answered.partition;
        let now = self.io.now();
        let mut followed = self.followed.borrow_mut();
        if !followed.takes(peer, stream, id) {
            return;
        }
        followed.answered(now, peer, id);
        let Some(partition) = self.partitions.get(id) else {
            return;
        };
        match answered.answer {
            Answer::Log(answer) => {
                drop(followed);
                let own = match answer {
                    SubscribeAnswer::Diverged(at) => self
                        .storage
                        .end_offset_for_epoch(&partition.log, at.epoch)
                        .map(|(epoch, end_offset)| EpochEnd { epoch, end_offset }),
                    _ => None,
                };
                partition.subscribed(answered.leader_epoch, answer, own);
            }
            Answer::Refused(refusal) => {
                tracing::debug!(partition = %id, %peer, %refusal, "not followed yet");
                followed.retry_at(id, now.plus(REFUSED_PAUSE));
            }
        }
    }

    fn take_now(&self, peer: PeerShard, stream: StreamNumber, part: &Pushed) -> Taken {
        let id = part.partition;
        if !self.followed.borrow().takes(peer, stream, id) {
            return Taken::Passed;
        }
        let Some(partition) = self.partitions.get(id) else {
            return Taken::Passed;
        };
        // A subscription that is not accepted yet, or a log that is being cut: this was pushed before.
        let Some(at) = partition.takes_at() else {
            return Taken::Passed;
        };
        if part.end_offset <= at && part.base_offset < part.end_offset {
            return Taken::Passed;
        }
        let rest = rest_of(part, at);
        match self.append(&partition, part, at, &rest) {
            Err(TakeRefusal::Append(FollowError::Append(AppendError::JournalFull)))
                if rest.len() > 1 =>
            {
                self.append_one_by_one(&partition, part, &rest)
            }
            taken => self.judge(&partition, part, taken, !rest.is_empty()),
        }
    }

    /// A journal that does not have room for all may have it for some.
    fn append_one_by_one(
        &self,
        partition: &Partition,
        part: &Pushed,
        rest: &[ReplicatedBatch<'_>],
    ) -> Taken {
        let mut taken = Taken::Passed;
        for batch in rest {
            let at = partition.log.log_end_offset();
            let appended = self.append(partition, part, at, &[*batch]);
            taken = self.judge(partition, part, appended, true);
            if !matches!(taken, Taken::Appended) {
                break;
            }
        }
        taken
    }

    /// Appends these batches of a part to a log that ends at `at`, and tells the role.
    fn append(
        &self,
        partition: &Partition,
        part: &Pushed,
        at: Offset,
        batches: &[ReplicatedBatch<'_>],
    ) -> Result<(), TakeRefusal<FollowError>> {
        let last = batches
            .last()
            .map(|last| BatchHeader::parse(last.bytes).expect("it was read with the message"));
        // A part that was taken before in pieces goes on where the log ends. One whose batches do not come to a border there
        // moves nothing, and the next one is refused for the gap.
        let base_offset = part.base_offset.max(at);
        let frame = Frame {
            leader_epoch: part.leader_epoch,
            base_offset,
            end_offset: last.map_or(base_offset, |last| last.next_offset()),
            last_epoch: last.map_or(part.records.last_epoch, |last| last.leader_epoch),
            high_watermark: part.high_watermark,
        };
        let durability = partition.rules().durability;
        partition.take_frame(frame, || {
            if batches.is_empty() {
                return Ok(());
            }
            let now = self.io.wall_clock();
            let appended = self
                .storage
                .append_replicated(&partition.log, batches, durability, now);
            appended.map(drop)
        })
    }

    fn judge(
        &self,
        partition: &Partition,
        part: &Pushed,
        taken: Result<(), TakeRefusal<FollowError>>,
        has_records: bool,
    ) -> Taken {
        match taken {
            Ok(()) => {
                self.follow_start(partition, part.log_start_offset);
                match has_records {
                    true => Taken::Appended,
                    false => Taken::Passed,
                }
            }
            Err(TakeRefusal::Append(FollowError::Append(error))) if is_closed(&error) => {
                Taken::Closed
            }
            Err(TakeRefusal::Append(FollowError::Append(AppendError::JournalFull))) => {
                Taken::NoRoom(ROOM_PAUSE)
            }
            Err(TakeRefusal::Append(FollowError::Append(AppendError::DiskFull))) => {
                Taken::NoRoom(SPACE_PAUSE)
            }
            // Pushed before the present subscription, or to a role that is over.
            Err(
                TakeRefusal::NotFollowing
                | TakeRefusal::Frame(FrameRefusal::NotSubscribed | FrameRefusal::AnotherEpoch { .. }),
            ) => Taken::Passed,
            Err(refusal) => {
                tracing::error!(partition = %partition.id, %refusal, "what the leader has pushed is not taken: it is asked anew");
                let at = self.io.now().plus(UNFIT_PAUSE);
                self.followed.borrow_mut().retry_at(partition.id, at);
                Taken::Passed
            }
        }
    }

    /// What is gone from the front of the leader's log goes here, too: with the next records if there is no room now.
    fn follow_start(&self, partition: &Partition, leader_start: Offset) {
        let log = &partition.log;
        let start = leader_start.min(log.log_end_offset());
        if start > log.log_start_offset()
            && let Err(error) = self.storage.advance_log_start(log, start)
        {
            tracing::debug!(partition = %partition.id, %error, "the log starts where it did");
        }
    }
}

/// The batches of a part that are not in a log that ends at `at`.
fn rest_of(part: &Pushed, at: Offset) -> Vec<ReplicatedBatch<'_>> {
    let is_missing =
        |bytes: &[u8]| BatchHeader::parse(bytes).is_ok_and(|header| header.base_offset >= at);
    let batches = part
        .records
        .batches()
        .filter(|(bytes, _)| is_missing(bytes));
    let batches = batches.map(|(bytes, delta)| ReplicatedBatch {
        bytes,
        offset_delta_of_max_timestamp: delta,
    });
    batches.collect()
}

fn is_closed(error: &AppendError) -> bool {
    matches!(error, AppendError::Closing | AppendError::Fenced(_))
}
