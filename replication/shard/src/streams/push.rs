//! What the leaders of this shard push to followers: answers, then what is in memory, then what was read from segments.

use model::{Offset, TopicPartition};
use replica::stream::{
    MESSAGE_PARTITIONS_MAX, Pushed, RECORDS_BYTES_MAX, Records, StreamBody, StreamNumber,
    SubscribeRefusal,
};
use runtime::Io;
use storage::{ReadRequest, TailRead};

use super::led::{LedStream, Served};
use super::limits::{PUSH_BYTES, TURN_BYTES_MIN};
use super::{PeerShard, Streams};
use crate::partition::Partition;

/// What becomes of a partition's turn.
enum Turn {
    /// Records, or only a high watermark or a start; then perhaps with more in the open commit group.
    Part(Pushed),
    /// Nothing new that can be read.
    Nothing,
    /// What follows is in the open commit group.
    Unsealed,
    InSegments,
    /// It is not served any more.
    Over(Option<SubscribeRefusal>),
}

impl<I: Io> Streams<I> {
    /// The next message to a follower's shard, if it has credit.
    pub(super) fn push(&self, peer: PeerShard) -> Option<(StreamNumber, u64, StreamBody)> {
        let mut led = self.led.borrow_mut();
        let stream = led.stream(peer)?;
        if let Some(answers) = stream.take_answers() {
            return Some((stream.number, stream.sent(0, 0, 0), answers));
        }
        if !stream.has_credit() {
            return None;
        }
        let mut over = Vec::new();
        let (mut parts, mut bytes) = (Vec::new(), 0);
        self.take_tails(peer, stream, &mut parts, &mut bytes, &mut over);
        while let Some(job) = stream.next_read(peer) {
            self.reads.push(job);
        }
        let room = match bytes < PUSH_BYTES && parts.len() < MESSAGE_PARTITIONS_MAX {
            true => RECORDS_BYTES_MAX - bytes,
            false => 0,
        };
        let mut read_bytes = 0;
        if let Some(read) = stream.take_read(room) {
            read_bytes = read.records.size_bytes();
            stream.pushed(&read);
            // It has more, or everything by now.
            stream.mark_ready(read.partition);
            parts.push(read);
        }
        let message = (!parts.is_empty()).then(|| {
            let number = stream.sent(parts.len(), bytes + read_bytes, read_bytes);
            (stream.number, number, StreamBody::Push(parts))
        });
        for (id, served, refusal) in over {
            match refusal {
                Some(refusal) => {
                    led.refuse(peer, id, served.leader_epoch, refusal);
                    self.events.stream_wanted.raise();
                }
                None => led.leave(peer, id),
            }
        }
        message
    }

    /// Adds what is in memory, partition by partition.
    fn take_tails(
        &self,
        peer: PeerShard,
        stream: &mut LedStream,
        parts: &mut Vec<Pushed>,
        bytes: &mut usize,
        over: &mut Vec<(TopicPartition, Served, Option<SubscribeRefusal>)>,
    ) {
        let count = stream.ready_count();
        let turn_bytes = (PUSH_BYTES / count.max(1)).max(TURN_BYTES_MIN);
        for _ in 0..count {
            if *bytes >= PUSH_BYTES || parts.len() >= MESSAGE_PARTITIONS_MAX {
                return;
            }
            let Some((id, served)) = stream.next_ready() else {
                return;
            };
            match self.turn(peer, stream, id, &served, turn_bytes) {
                Turn::Part(part) => {
                    let size = part.records.size_bytes();
                    if *bytes > 0 && *bytes + size > PUSH_BYTES {
                        return stream.put_back(id);
                    }
                    *bytes += size;
                    stream.pushed(&part);
                    if size > 0 {
                        stream.mark_ready(id);
                    } else if self.has_more(id, part.end_offset) {
                        self.events.appended(id);
                    }
                    parts.push(part);
                }
                Turn::Nothing => {}
                Turn::Unsealed => self.events.appended(id),
                Turn::InSegments => stream.mark_behind(id),
                Turn::Over(refusal) => over.push((id, served, refusal)),
            }
        }
    }

    /// Whether a log goes on behind what can be read.
    fn has_more(&self, id: TopicPartition, end: Offset) -> bool {
        let partition = self.partitions.get(id);
        partition.is_some_and(|partition| partition.log.log_end_offset() > end)
    }

    fn turn(
        &self,
        peer: PeerShard,
        stream: &LedStream,
        id: TopicPartition,
        served: &Served,
        bytes_max: usize,
    ) -> Turn {
        let Some(partition) = self.partitions.get(id) else {
            return Turn::Over(None);
        };
        // It hears of another epoch by the metadata.
        if partition.serves(peer.broker, stream.process) != Some(served.leader_epoch) {
            return Turn::Over(None);
        }
        let end = partition.log.log_end_offset();
        let request = ReadRequest {
            from: served.position,
            end,
            bytes_max,
            at_least_one_batch: true,
        };
        let nothing = |partition: &Partition| {
            let is_news = partition.high_watermark() > served.told_high_watermark
                || partition.log.log_start_offset() > served.told_log_start;
            if is_news {
                let none = Records::none();
                Turn::Part(part(partition, served, served.position, none))
            } else if served.position < end {
                Turn::Unsealed
            } else {
                Turn::Nothing
            }
        };
        match self.storage.read_tail(&partition.log, &request) {
            Ok(TailRead::Nothing) => nothing(&partition),
            Ok(TailRead::InSegments) => Turn::InSegments,
            Ok(TailRead::Batches(read, _)) if read.bytes > RECORDS_BYTES_MAX => {
                tracing::error!(partition = %id, bytes = read.bytes, "a batch is too long to be replicated");
                Turn::Over(Some(SubscribeRefusal::Ended))
            }
            Ok(TailRead::Batches(read, max_timestamp_deltas)) => {
                let records = Records {
                    slices: read.batches.into_vec(),
                    max_timestamp_deltas,
                    last_epoch: served.leader_epoch,
                };
                Turn::Part(part(&partition, served, read.next_offset, records))
            }
            // What the follower needs is gone: it asks anew, and is told where to begin.
            Err(error) => {
                tracing::debug!(partition = %id, %error, "a follower is left behind");
                Turn::Over(Some(SubscribeRefusal::Ended))
            }
        }
    }
}

/// What a follower gets to know with records, or without.
pub(super) fn part(
    partition: &Partition,
    served: &Served,
    end_offset: Offset,
    records: Records,
) -> Pushed {
    Pushed {
        partition: partition.id,
        leader_epoch: served.leader_epoch,
        base_offset: served.position,
        end_offset,
        high_watermark: partition.high_watermark(),
        log_start_offset: partition.log.log_start_offset(),
        records,
    }
}
