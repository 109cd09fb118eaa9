//! Reads from segments for followers that are behind: a few tasks, each one piece at a time, so that every partition has
//! its turn.

use std::rc::Rc;

use model::record::Batches;
use replica::stream::{Pushed, RECORDS_BYTES_MAX, Records, SubscribeRefusal};
use runtime::{Io, Signal};
use storage::{ReadBatches, ReadRequest};

use super::Streams;
use super::led::ReadJob;
use super::limits::READ_BYTES;
use super::push::part;
use crate::throttle;

/// Why a follower cannot be given what it needs.
#[derive(Debug, thiserror::Error)]
enum ReadFailure {
    #[error(transparent)]
    Read(#[from] storage::ReadError),
    #[error("a batch: {0}")]
    Batch(#[from] model::record::BatchError),
    #[error("a follower's log ends in the middle of a batch")]
    Middle,
    #[error("a batch of {0} bytes is too long to be replicated")]
    TooLong(usize),
}

pub(super) async fn run<I: Io>(streams: Rc<Streams<I>>) {
    let signal = Signal::new();
    loop {
        let job = streams.reads.next(&signal).await;
        let rate = streams.rate_of(&job);
        if let Some(rate) = rate {
            let now = streams.io.now();
            if !streams.throttle.borrow_mut().is_open(now, rate) {
                streams.throttled.borrow_mut().push(job);
                continue;
            }
        }
        let found = read(&streams, &job).await;
        if let (Some(_), Ok(Some(part))) = (rate, &found) {
            let bytes = part.records.size_bytes();
            streams.throttle.borrow_mut().owe(bytes);
        }
        let mut led = streams.led.borrow_mut();
        match found {
            Ok(found) => {
                if let Some(stream) = led.stream_of(&job) {
                    let is_empty = found.is_none();
                    stream.read_done(&job, found);
                    if is_empty {
                        // It was cut, or is about to be written: the next look says what is there.
                        streams.events.appended(job.partition);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(partition = %job.partition, peer = %job.peer, %error, "a follower cannot be served");
                if let Some(stream) = led.stream_of(&job) {
                    stream.read_done(&job, None);
                    led.refuse(
                        job.peer,
                        job.partition,
                        job.leader_epoch,
                        SubscribeRefusal::Ended,
                    );
                }
            }
        }
        drop(led);
        streams.events.stream_wanted.raise();
    }
}

impl<I: Io> Streams<I> {
    /// This shard's share of what limits a read; `None` when nothing does.
    fn rate_of(&self, job: &ReadJob) -> Option<u64> {
        let place = self.partitions.place();
        let image = self.cache.image();
        let rate = throttle::rate_of(&image, place.broker, job.partition, job.peer.broker)?;
        // A rate that is smaller than the count of shards still moves something.
        Some((rate / u64::from(place.shard_count)).max(rate.min(1)))
    }
}

async fn read<I: Io>(streams: &Streams<I>, job: &ReadJob) -> Result<Option<Pushed>, ReadFailure> {
    let Some(partition) = streams.partitions.get(job.partition) else {
        return Ok(None);
    };
    let request = ReadRequest {
        from: job.from,
        end: partition.log.log_end_offset(),
        bytes_max: READ_BYTES,
        at_least_one_batch: true,
    };
    let read = streams.storage.read(&partition.log, request).await?;
    if read.bytes == 0 {
        return Ok(None);
    }
    if read.bytes > RECORDS_BYTES_MAX {
        return Err(ReadFailure::TooLong(read.bytes));
    }
    let end = read.next_offset;
    let records = records(job, read)?;
    let mut led = streams.led.borrow_mut();
    let stream = led.stream_of(job);
    let served = stream.and_then(|stream| stream.served(job.partition).copied());
    // Whoever was subscribed anew meanwhile is read for again.
    Ok(served
        .filter(|served| served.position == job.from)
        .map(|served| part(&partition, &served, end, records)))
}

/// The batches of a read. Which record of a batch has the largest timestamp is not stored: as Kafka's followers, these take
/// the last, unless all have the same.
fn records(job: &ReadJob, read: ReadBatches) -> Result<Records, ReadFailure> {
    let mut records = Records::none();
    let mut follows = job.from;
    for slice in &read.batches {
        for batch in Batches::new(slice) {
            let (header, _) = batch?;
            if header.base_offset < follows {
                return Err(ReadFailure::Middle);
            }
            follows = header.next_offset();
            let delta = match header.max_timestamp == header.base_timestamp {
                true => 0,
                false => header.last_offset_delta,
            };
            records.max_timestamp_deltas.push(delta);
            records.last_epoch = header.leader_epoch;
        }
    }
    records.slices = read.batches.into_vec();
    Ok(records)
}
