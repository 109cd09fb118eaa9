//! The consuming side of a load: lanes, each one connection that keeps fetches in flight.
//!
//! The partitions of a lane are divided into groups, one per request in flight, because a partition's next fetch starts
//! where its last answer ended. Invariants: a partition belongs to one group of one lane; its offset only rises, except
//! where the workload repeats.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use client::{
    ClientError, Cluster, ConnectionOptions, FrameReader, OffsetSpec, RawConnection, Topic, rpc,
};
use model::record::{
    BatchError, Batches, DecompressionScratch, RecordError, crc_matches, read_records,
};
use model::{ErrorCode, MonotonicTime, Offset, PartitionIndex};
use protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use protocol::{Message as _, Text};
use runtime::{Io, Stream as _, TaskClass};

use crate::core_state::{Bounds, CoreState, Expiry, Observer, Share, Watched};
use crate::process::Window;
use crate::tally::Tally;
use crate::topology;
use crate::verify::Verifier;
use crate::workload::{ConsumeWorkload, From};

/// Space offered to each read: fetch responses are large.
const READ_BYTES: usize = 1 << 20;
/// Wait before connecting again.
const RECONNECT: Duration = Duration::from_millis(200);

/// What consuming came to on one core.
#[derive(Debug)]
pub struct Consumed {
    /// Counts since the warm-up.
    pub tally: Tally,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// What was read, if it was verified.
    pub verifier: Verifier,
    /// The processes' counters at both ends of that time.
    pub window: Window,
    /// Why the load was given up, if it was.
    pub fatal: Option<String>,
}

/// Runs this core's share of a load.
pub async fn consume<I: Io>(
    io: I,
    workload: ConsumeWorkload,
    share: Share,
    observer: Observer,
) -> Consumed {
    let workload = Rc::new(workload);
    let mut plan = Plan::default();
    let failure = match plan_partitions(&io, &workload, share).await {
        Ok(made) => {
            plan = made;
            None
        }
        Err(error) => Some(error.to_string()),
    };
    let core = CoreState::new(
        io,
        plan.lanes.len() as u64,
        Bounds {
            warmup: workload.warmup,
            duration: workload.limit.duration,
            stall: (workload.request_timeout + workload.wait) * 2,
        },
        observer,
    );
    let verifier = Rc::new(RefCell::new(Verifier::new(workload.verify_run)));
    let left = workload
        .limit
        .records
        .map(|records| records.div_ceil(share.cores.max(1)));
    let records_left = Rc::new(Cell::new(left));
    for cursors in plan.lanes {
        for cursor in &cursors {
            verifier.borrow_mut().begin(cursor.partition, cursor.next);
        }
        let lane = Lane {
            core: core.clone(),
            workload: workload.clone(),
            verifier: verifier.clone(),
            records_left: records_left.clone(),
            groups: groups(cursors, workload.in_flight),
            scratch: DecompressionScratch::new(),
        };
        core.io.spawn(TaskClass::Foreground, lane.run());
    }
    let outcome = core.run().await;
    Consumed {
        tally: outcome.tally,
        elapsed: outcome.elapsed,
        verifier: verifier.take(),
        window: outcome.window,
        fatal: failure.or(outcome.fatal),
    }
}

/// Where reading of one partition stands.
#[derive(Clone, Debug)]
struct Cursor {
    partition: PartitionIndex,
    start: Offset,
    next: Offset,
    /// End of the partition when the load began.
    end: Offset,
    done: bool,
}

/// The partitions of each lane of this core.
#[derive(Default)]
struct Plan {
    lanes: Vec<Vec<Cursor>>,
}

async fn plan_partitions<I: Io>(
    io: &I,
    workload: &ConsumeWorkload,
    share: Share,
) -> Result<Plan, ClientError> {
    let (_, leaders) = topology::leaders(io, &workload.bootstrap, &workload.topic).await?;
    let options = topology::cluster_options("ringlog-load");
    let mut cluster = Cluster::connect(io, &workload.bootstrap, options).await?;
    let ends = cluster.offsets(&workload.topic, OffsetSpec::Latest).await?;
    let ends: BTreeMap<PartitionIndex, Offset> = ends.into_iter().collect();
    let starts = match workload.from {
        From::Start => {
            let starts = cluster
                .offsets(&workload.topic, OffsetSpec::Earliest)
                .await?;
            starts.into_iter().collect()
        }
        From::End => ends.clone(),
    };
    // Lane l reads from leader l modulo their count, and shares its partitions with the other lanes of that leader.
    let lane_count = workload.connections.max(leaders.len() as u64);
    let leader_count = leaders.len() as u64;
    let mut lanes = Vec::new();
    for lane in share.connections(lane_count) {
        let leader = &leaders[usize::try_from(lane % leader_count).unwrap_or(0)];
        let peers = (lane_count - lane % leader_count).div_ceil(leader_count);
        let own = leader.partitions.iter().enumerate();
        let own = own.filter(|(position, _)| *position as u64 % peers == lane / leader_count);
        let cursors: Vec<Cursor> = own
            .filter_map(|(_, partition)| {
                let (start, end) = (*starts.get(partition)?, *ends.get(partition)?);
                Some(Cursor {
                    partition: *partition,
                    start,
                    next: start,
                    end,
                    done: workload.until_end && start >= end,
                })
            })
            .collect();
        if !cursors.is_empty() {
            lanes.push(cursors);
        }
    }
    Ok(Plan { lanes })
}

fn groups(cursors: Vec<Cursor>, in_flight: usize) -> Vec<Vec<Cursor>> {
    let count = in_flight.min(cursors.len()).max(1);
    let mut groups = vec![Vec::new(); count];
    for (position, cursor) in cursors.into_iter().enumerate() {
        groups[position % count].push(cursor);
    }
    groups
}

/// The deadline of a lane's connection, for the core's watch task.
struct Link<I: Io> {
    expiry: Expiry<I::Stream>,
    oldest: Cell<Option<MonotonicTime>>,
    timeout: Duration,
}

impl<I: Io> Watched for Link<I> {
    fn deadline(&self) -> Option<MonotonicTime> {
        Some(self.oldest.get()?.plus(self.timeout))
    }

    fn expire(&self) {
        self.expiry.expire();
    }

    fn wake(&self) {}
}

/// A fetch without an answer yet.
struct Flight {
    correlation: i32,
    sent: MonotonicTime,
    group: usize,
}

/// One connection of a load, across reconnections.
struct Lane<I: Io> {
    core: Rc<CoreState<I>>,
    workload: Rc<ConsumeWorkload>,
    verifier: Rc<RefCell<Verifier>>,
    records_left: Rc<Cell<Option<u64>>>,
    groups: Vec<Vec<Cursor>>,
    scratch: DecompressionScratch,
}

/// What a lane needs while its connection lives.
struct Session<I: Io> {
    link: Rc<Link<I>>,
    reader: FrameReader<I::Stream>,
    topic: Topic,
    version: i16,
    flights: VecDeque<Flight>,
    next_correlation: i32,
}

impl<I: Io> Lane<I> {
    async fn run(mut self) {
        while !self.finished() {
            let outcome = match self.open().await {
                Ok(mut session) => {
                    let outcome = self.fetch_until_end(&mut session).await;
                    session.link.expiry.stream.shutdown();
                    let unanswered = session.flights.len() as u64;
                    if outcome.is_err() || !self.finished() {
                        let expired = session.link.expiry.expired.get();
                        let timeout = ClientError::Timeout(session.link.timeout);
                        match outcome {
                            Err(_) if expired => Err((timeout, unanswered)),
                            Err(error) => Err((error, unanswered)),
                            Ok(()) => Ok(()),
                        }
                    } else {
                        Ok(())
                    }
                }
                Err(error) => Err((error, 1)),
            };
            if let Err((error, count)) = outcome {
                self.core.failed(&error, count.max(1));
                if !error.is_retriable() && self.core.nothing_yet() {
                    self.core.give_up(error.to_string());
                }
            }
            if !self.finished() {
                self.core.io.sleep(RECONNECT).await;
            }
        }
        self.core.lane_done();
    }

    fn finished(&self) -> bool {
        self.core.stopping()
            || self.records_left.get() == Some(0)
            || self.groups.iter().flatten().all(|cursor| cursor.done)
    }

    async fn open(&mut self) -> Result<Session<I>, ClientError> {
        let io = &self.core.io;
        let workload = &self.workload;
        let (topic, leaders) = topology::leaders(io, &workload.bootstrap, &workload.topic).await?;
        let first = self.groups.iter().flatten().find(|cursor| !cursor.done);
        let leader = leaders
            .iter()
            .find(|leader| first.is_some_and(|c| leader.partitions.contains(&c.partition)))
            .unwrap_or(&leaders[0]);
        let options = ConnectionOptions {
            client_id: "ringlog-load".to_owned(),
            request_timeout: workload.request_timeout,
            read_bytes: READ_BYTES,
            ..ConnectionOptions::default()
        };
        let connection = topology::connect(io, leader, &options).await?;
        let raw: RawConnection<I::Stream> = connection.into_raw()?;
        let version = raw.version(FetchRequest::API)?;
        let link = Rc::new(Link {
            expiry: Expiry::new(raw.stream),
            oldest: Cell::new(None),
            timeout: workload.request_timeout.saturating_add(workload.wait),
        });
        let watched: Weak<dyn Watched> = Rc::downgrade(&(link.clone() as Rc<dyn Watched>));
        self.core.watch(watched);
        self.core.interval.borrow_mut().connects += 1;
        Ok(Session {
            link,
            reader: raw.reader,
            topic,
            version,
            flights: VecDeque::new(),
            next_correlation: 0,
        })
    }

    async fn fetch_until_end(&mut self, session: &mut Session<I>) -> Result<(), ClientError> {
        let mut frames: Vec<Bytes> = Vec::new();
        for group in 0..self.groups.len() {
            self.append_fetch(session, group, &mut frames)?;
        }
        loop {
            if !frames.is_empty() {
                session.link.expiry.stream.write_all(&mut frames).await?;
            }
            if session.flights.is_empty() || self.finished() {
                return Ok(());
            }
            session.reader.fill().await?;
            let now = self.core.io.now();
            while let Some(frame) = session.reader.frame()? {
                let group = self.take_answer(session, &frame, now)?;
                drop(frame);
                if !self.finished() {
                    self.append_fetch(session, group, &mut frames)?;
                }
                self.core.io.yield_if_needed().await;
            }
            self.core.answered_at(now);
        }
    }

    fn append_fetch(
        &self,
        session: &mut Session<I>,
        group: usize,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), ClientError> {
        let workload = &self.workload;
        let open = self.groups[group].iter().filter(|cursor| !cursor.done);
        let partitions: Vec<FetchPartition> = open
            .map(|cursor| FetchPartition {
                partition: cursor.partition.0,
                fetch_offset: cursor.next.0,
                partition_max_bytes: workload.partition_bytes_max,
                ..FetchPartition::default()
            })
            .collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let request = FetchRequest {
            max_wait_ms: i32::try_from(workload.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: workload.bytes_min,
            max_bytes: workload.response_bytes_max,
            topics: vec![FetchTopic {
                topic: Text::copy_from(&session.topic.name),
                topic_id: session.topic.id,
                partitions,
            }],
            ..FetchRequest::default()
        };
        let correlation = session.next_correlation;
        session.next_correlation = correlation.wrapping_add(1) & i32::MAX;
        frames.extend(rpc::encode(
            &request,
            session.version,
            correlation,
            "ringlog-load",
        )?);
        session.flights.push_back(Flight {
            correlation,
            sent: self.core.io.now(),
            group,
        });
        session
            .link
            .oldest
            .set(session.flights.front().map(|f| f.sent));
        Ok(())
    }

    /// Takes the answer to the oldest fetch; its group.
    fn take_answer(
        &mut self,
        session: &mut Session<I>,
        frame: &Bytes,
        now: MonotonicTime,
    ) -> Result<usize, ClientError> {
        let Some(flight) = session.flights.front() else {
            return Err(ClientError::Misuse("an answer without a request"));
        };
        rpc::check_correlation(frame, flight.correlation)?;
        let response: FetchResponse = rpc::decode(frame, session.version)?;
        ClientError::check("fetching", response.error_code, None)?;
        let (group, latency) = (flight.group, now.since(flight.sent));
        session.flights.pop_front();
        session
            .link
            .oldest
            .set(session.flights.front().map(|f| f.sent));
        self.core.interval.borrow_mut().answered(latency);
        for data in response
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
        {
            self.take_partition(group, data)?;
        }
        Ok(group)
    }

    fn take_partition(&mut self, group: usize, data: PartitionData) -> Result<(), ClientError> {
        let partition = PartitionIndex(data.partition_index);
        let cursors = &mut self.groups[group];
        let Some(cursor) = cursors.iter_mut().find(|c| c.partition == partition) else {
            return Err(ClientError::Malformed {
                api: "Fetch",
                reason: format!("partition {partition} was not asked for"),
            });
        };
        if data.error_code == ErrorCode::OffsetOutOfRange.code() {
            self.core
                .interval
                .borrow_mut()
                .failed("OFFSET_OUT_OF_RANGE", 1);
            cursor.next = Offset(data.log_start_offset.max(0));
            return Ok(());
        }
        ClientError::check(
            &format!("fetching partition {partition}"),
            data.error_code,
            None,
        )?;
        let records = data.records.unwrap_or_default().into_bytes();
        let reader = PartitionReader {
            workload: &self.workload,
            verifier: &self.verifier,
            scratch: &mut self.scratch,
        };
        let (count, bytes) = reader.read(cursor, &records)?;
        let mut tally = self.core.interval.borrow_mut();
        tally.records += count;
        tally.batch_bytes += bytes;
        drop(tally);
        let left = self.records_left.get();
        self.records_left
            .set(left.map(|left| left.saturating_sub(count)));
        if cursor.next >= cursor.end {
            if self.workload.repeat && cursor.start < cursor.end {
                cursor.next = cursor.start;
            } else if self.workload.until_end {
                cursor.done = true;
            }
        }
        Ok(())
    }
}

/// Reads the batches of one partition's answer.
struct PartitionReader<'a> {
    workload: &'a ConsumeWorkload,
    verifier: &'a RefCell<Verifier>,
    scratch: &'a mut DecompressionScratch,
}

impl PartitionReader<'_> {
    /// Moves the cursor behind the batches; records from the cursor on, and bytes.
    fn read(mut self, cursor: &mut Cursor, bytes: &[u8]) -> Result<(u64, u64), ClientError> {
        let malformed = |reason: String| ClientError::Malformed {
            api: "Fetch",
            reason,
        };
        let (mut records, mut batch_bytes) = (0, 0);
        for batch in Batches::new(bytes) {
            let (header, batch) = match batch {
                Ok(batch) => batch,
                // The last batch of an answer may be cut off.
                Err(BatchError::Cut { .. } | BatchError::HeaderCut(_)) => break,
                Err(error) => return Err(malformed(error.to_string())),
            };
            let next = header.next_offset();
            if next <= cursor.next {
                continue;
            }
            if self.workload.verify {
                if !crc_matches(batch) {
                    let place = format!("partition {} offset {}", cursor.partition, cursor.next);
                    return Err(malformed(format!("{place}: batch checksum mismatch")));
                }
                if !header.is_control() {
                    let seen = self.observe(cursor, batch);
                    seen.map_err(|error| malformed(error.to_string()))?;
                }
            }
            if !header.is_control() {
                records += u64::try_from(header.record_count).unwrap_or(0);
            }
            batch_bytes += batch.len() as u64;
            cursor.next = next;
        }
        Ok((records, batch_bytes))
    }

    fn observe(&mut self, cursor: &Cursor, batch: &[u8]) -> Result<(), RecordError> {
        for record in read_records(batch, self.scratch)? {
            let record = record?;
            if record.offset >= cursor.next {
                let mut verifier = self.verifier.borrow_mut();
                verifier.observe(cursor.partition, record.offset, record.value);
            }
        }
        Ok(())
    }
}
