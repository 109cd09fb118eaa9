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
    ClientError, Cluster, ConnectionOptions, FrameReader, OffsetSpec, RawConnection, rpc,
};
use model::record::{
    BatchError, Batches, DecompressionScratch, RecordError, crc_matches, read_records,
};
use model::{ErrorCode, MonotonicTime, Offset, PartitionIndex};
use protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use protocol::{Message as _, Text};
use runtime::{Io, Stream as _, TaskClass};

use crate::consume_group;
use crate::core_state::{Bounds, CoreState, Expiry, Observer, Share, Watched};
use crate::process::Window;
use crate::tally::{AnswerTimes, Tally};
use crate::topology::{self, SharedTopology, Topology};
use crate::trace::Trace;
use crate::verify::{Place, Verifier};
use crate::workload::{ConsumeWorkload, From};

/// Space offered to each read: fetch responses are large.
const READ_BYTES: usize = 1 << 20;
/// The same where there are many connections.
const READ_BYTES_MANY: usize = 32 << 10;
/// From so many connections on, memory per connection matters more than system calls.
const CONNECTIONS_MANY: u64 = 256;
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
    Consuming::new(io, workload, share, observer).run().await
}

/// What the lanes of a core share.
pub(crate) struct Reading<I: Io> {
    pub(crate) core: Rc<CoreState<I>>,
    pub(crate) workload: ConsumeWorkload,
    pub(crate) topology: SharedTopology,
    verifier: RefCell<Verifier>,
    records_left: Cell<Option<u64>>,
    /// Traces of requests intended before this do not count.
    pub(crate) traced_from: Cell<MonotonicTime>,
}

/// A consuming load of one core that has not begun.
pub(crate) struct Consuming<I: Io> {
    pub(crate) reading: Rc<Reading<I>>,
    share: Share,
}

impl<I: Io> Consuming<I> {
    pub(crate) fn new(
        io: I,
        workload: ConsumeWorkload,
        share: Share,
        observer: Observer,
    ) -> Consuming<I> {
        // The planning counts as a lane until the lanes are known, so that the gate stays shut.
        let core = CoreState::new(
            io,
            1,
            Bounds {
                warmup: workload.warmup,
                duration: workload.limit.duration,
                stall: (workload.request_timeout + workload.wait) * 2,
            },
            observer,
        );
        let left = workload
            .limit
            .records
            .map(|records| records.div_ceil(share.cores.max(1)));
        let reading = Rc::new(Reading {
            topology: SharedTopology::new(workload.bootstrap.clone(), workload.topic_names()),
            core,
            verifier: RefCell::new(Verifier::new(workload.verify_run)),
            records_left: Cell::new(left),
            traced_from: Cell::new(MonotonicTime(0)),
            workload,
        });
        Consuming { reading, share }
    }

    pub(crate) async fn run(self) -> Consumed {
        let (reading, share) = (self.reading, self.share);
        let starter = reading.clone();
        reading.core.io.spawn(TaskClass::Foreground, async move {
            if let Err(error) = start(&starter, share).await {
                starter.core.give_up(error.to_string());
            }
            starter.core.arrived();
            starter.core.lane_done();
        });
        let outcome = reading.core.run().await;
        Consumed {
            tally: outcome.tally,
            elapsed: outcome.elapsed,
            verifier: reading.verifier.take(),
            window: outcome.window,
            fatal: outcome.fatal,
        }
    }
}

/// Starts the lanes of this core, or the members of the group.
async fn start<I: Io>(reading: &Rc<Reading<I>>, share: Share) -> Result<(), ClientError> {
    let topology = reading
        .topology
        .get(&reading.core.io, MonotonicTime(0))
        .await?;
    if reading.workload.verify_keys {
        for (number, topic) in (0..).zip(&topology.topics) {
            let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            reading.verifier.borrow_mut().keyed(number, partitions);
        }
    }
    if let Some(group) = &reading.workload.group {
        for _ in share.connections(group.members) {
            reading.core.add_lane();
            let member = consume_group::run(reading.clone(), group.clone());
            reading.core.io.spawn(TaskClass::Foreground, member);
        }
        return Ok(());
    }
    let options = topology::cluster_options("ringlog-load");
    let mut cluster =
        Cluster::connect(&reading.core.io, &reading.workload.bootstrap, options).await?;
    for cursors in plan_lanes(reading, &topology, &mut cluster, share).await? {
        reading.core.add_lane();
        let lane = Lane::new(reading.clone(), cursors);
        let core = reading.core.clone();
        core.clone().io.spawn(TaskClass::Foreground, async move {
            lane.run(true).await;
            core.lane_done();
        });
    }
    Ok(())
}

/// Where reading of one partition stands.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) place: Place,
    pub(crate) start: Offset,
    pub(crate) next: Offset,
    /// End of the partition when the load began.
    pub(crate) end: Offset,
    pub(crate) done: bool,
}

/// First and last offset of every partition of a load.
pub(crate) async fn bounds<I: Io>(
    topology: &Topology,
    cluster: &mut Cluster<I>,
) -> Result<BTreeMap<Place, (Offset, Offset)>, ClientError> {
    let mut bounds = BTreeMap::new();
    for (number, topic) in (0..).zip(&topology.topics) {
        let ends = cluster.offsets(&topic.name, OffsetSpec::Latest).await?;
        let starts = cluster.offsets(&topic.name, OffsetSpec::Earliest).await?;
        for ((partition, start), (_, end)) in starts.into_iter().zip(ends) {
            let place = Place {
                topic: number,
                partition,
            };
            bounds.insert(place, (start, end));
        }
    }
    Ok(bounds)
}

/// The partitions of each lane of this core: lane l reads from leader l modulo their count, and shares its partitions
/// with the other lanes of that leader.
async fn plan_lanes<I: Io>(
    reading: &Reading<I>,
    topology: &Topology,
    cluster: &mut Cluster<I>,
    share: Share,
) -> Result<Vec<Vec<Cursor>>, ClientError> {
    let workload = &reading.workload;
    let bounds = bounds(topology, cluster).await?;
    let leader_count = topology.leaders.len() as u64;
    let lane_count = workload.connections.max(leader_count);
    let mut lanes = Vec::new();
    for lane in share.connections(lane_count) {
        let leader = &topology.leaders[usize::try_from(lane % leader_count).unwrap_or(0)];
        let peers = (lane_count - lane % leader_count).div_ceil(leader_count);
        let own = leader.places.iter().enumerate();
        let own = own.filter(|(position, _)| *position as u64 % peers == lane / leader_count);
        let cursors: Vec<Cursor> = own
            .filter_map(|(_, place)| {
                let (first, end) = *bounds.get(place)?;
                let start = match workload.from {
                    From::Start => first,
                    From::End => end,
                };
                Some(Cursor {
                    place: *place,
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
    Ok(lanes)
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

    /// A fetch may wait for a long time, and its answer is not needed any more.
    fn interrupt(&self) {
        self.expiry.stream.shutdown();
    }
}

/// A fetch without an answer yet.
struct Flight {
    correlation: i32,
    sent: MonotonicTime,
    group: usize,
}

/// One connection of a load, across reconnections.
pub(crate) struct Lane<I: Io> {
    reading: Rc<Reading<I>>,
    groups: Vec<Vec<Cursor>>,
    scratch: DecompressionScratch,
    broken_at: MonotonicTime,
    /// Set when its partitions go to another member of the group.
    pub(crate) revoked: Rc<Cell<bool>>,
    /// Where reading stands, for commits.
    pub(crate) positions: Rc<RefCell<BTreeMap<Place, Offset>>>,
}

/// What a lane needs while its connection lives.
struct Session<I: Io> {
    link: Rc<Link<I>>,
    reader: FrameReader<I::Stream>,
    topology: Rc<Topology>,
    version: i16,
    flights: VecDeque<Flight>,
    next_correlation: i32,
}

impl<I: Io> Lane<I> {
    /// A lane that reads partitions of one leader, at least one.
    pub(crate) fn new(reading: Rc<Reading<I>>, cursors: Vec<Cursor>) -> Lane<I> {
        for cursor in &cursors {
            let mut verifier = reading.verifier.borrow_mut();
            verifier.begin(cursor.place, cursor.next);
        }
        Lane {
            groups: groups(cursors, reading.workload.in_flight),
            reading,
            scratch: DecompressionScratch::new(),
            broken_at: MonotonicTime(0),
            revoked: Rc::default(),
            positions: Rc::default(),
        }
    }

    /// Reads until the end. `gated`: together with the other lanes of the core, when all are connected.
    pub(crate) async fn run(mut self, gated: bool) {
        let core = self.reading.core.clone();
        let mut arrived = !gated;
        while !self.finished() {
            let opened = Box::pin(self.open()).await;
            if !std::mem::replace(&mut arrived, true) {
                core.arrived();
                core.gate.wait().await;
            }
            let outcome = match opened {
                Ok(mut session) => self.use_connection(&mut session).await,
                Err(error) => Err((error, 1)),
            };
            if let Err((error, count)) = outcome {
                core.failed(&error, count.max(1));
                if !error.is_retriable() && core.nothing_yet() {
                    core.give_up(error.to_string());
                }
            }
            if !self.finished() {
                self.broken_at = core.io.now();
                core.io.sleep(RECONNECT).await;
            }
        }
        if !arrived {
            core.arrived();
        }
    }

    async fn use_connection(&mut self, session: &mut Session<I>) -> Result<(), (ClientError, u64)> {
        let outcome = self.fetch_until_end(session).await;
        session.link.expiry.stream.shutdown();
        let unanswered = session.flights.len() as u64;
        match outcome {
            Err(_) if self.finished() && !session.link.expiry.expired.get() => Ok(()),
            Err(_) if session.link.expiry.expired.get() => {
                Err((ClientError::Timeout(session.link.timeout), unanswered))
            }
            Err(error) => Err((error, unanswered)),
            Ok(()) => Ok(()),
        }
    }

    pub(crate) fn finished(&self) -> bool {
        self.reading.core.stopping()
            || self.revoked.get()
            || self.reading.records_left.get() == Some(0)
            || self.groups.iter().flatten().all(|cursor| cursor.done)
    }

    async fn open(&mut self) -> Result<Session<I>, ClientError> {
        let reading = self.reading.clone();
        let (core, workload) = (&reading.core, &reading.workload);
        let _turn = core.connecting.take().await;
        let topology = reading.topology.get(&core.io, self.broken_at).await?;
        let first = self.groups.iter().flatten().find(|cursor| !cursor.done);
        let leader = topology
            .leaders
            .iter()
            .find(|leader| first.is_some_and(|c| leader.places.contains(&c.place)))
            .unwrap_or(&topology.leaders[0]);
        let options = ConnectionOptions {
            client_id: "ringlog-load".to_owned(),
            request_timeout: workload.request_timeout,
            read_bytes: match workload.connections {
                CONNECTIONS_MANY.. => READ_BYTES_MANY,
                _ => READ_BYTES,
            },
            ..ConnectionOptions::default()
        };
        let connection = topology::connect(&core.io, leader, &options).await?;
        let raw: RawConnection<I::Stream> = connection.into_raw()?;
        let version = raw.version(FetchRequest::API)?;
        let link = Rc::new(Link {
            expiry: Expiry::new(raw.stream),
            oldest: Cell::new(None),
            timeout: workload.request_timeout.saturating_add(workload.wait),
        });
        let watched: Weak<dyn Watched> = Rc::downgrade(&(link.clone() as Rc<dyn Watched>));
        core.watch(watched);
        core.interval.borrow_mut().connects += 1;
        Ok(Session {
            link,
            reader: raw.reader,
            topology,
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
            let core = self.reading.core.clone();
            let times = AnswerTimes::new(session.reader.arrived_at(), core.io.now());
            while let Some(frame) = session.reader.frame()? {
                let group = self.take_answer(session, &frame, times)?;
                drop(frame);
                if !self.finished() {
                    self.append_fetch(session, group, &mut frames)?;
                }
                core.io.yield_if_needed().await;
            }
            core.answered_at(times.read_at);
        }
    }

    fn append_fetch(
        &self,
        session: &mut Session<I>,
        group: usize,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), ClientError> {
        let workload = &self.reading.workload;
        let open = self.groups[group].iter().filter(|cursor| !cursor.done);
        let mut topics: BTreeMap<u16, Vec<FetchPartition>> = BTreeMap::new();
        for cursor in open {
            topics
                .entry(cursor.place.topic)
                .or_default()
                .push(FetchPartition {
                    partition: cursor.place.partition.0,
                    fetch_offset: cursor.next.0,
                    partition_max_bytes: workload.partition_bytes_max,
                    ..FetchPartition::default()
                });
        }
        if topics.is_empty() {
            return Ok(());
        }
        let topic = |(number, partitions): (u16, Vec<FetchPartition>)| {
            let topic = &session.topology.topics[usize::from(number)];
            FetchTopic {
                topic: Text::copy_from(&topic.name),
                topic_id: topic.id,
                partitions,
            }
        };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(workload.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: workload.bytes_min,
            max_bytes: workload.response_bytes_max,
            topics: topics.into_iter().map(topic).collect(),
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
            sent: self.reading.core.io.now(),
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
        times: AnswerTimes,
    ) -> Result<usize, ClientError> {
        let now = times.read_at;
        let Some(flight) = session.flights.front() else {
            return Err(ClientError::Misuse("an answer without a request"));
        };
        rpc::check_correlation(frame, flight.correlation)?;
        let response: FetchResponse = rpc::decode(frame, session.version)?;
        ClientError::check("fetching", response.error_code, None)?;
        let (group, sent) = (flight.group, flight.sent);
        session.flights.pop_front();
        session
            .link
            .oldest
            .set(session.flights.front().map(|f| f.sent));
        {
            let mut tally = self.reading.core.interval.borrow_mut();
            tally.answered(now.since(sent));
            tally.served(sent, times);
        }
        for topic in response.responses {
            let number = topic_number(&session.topology, &topic)?;
            for data in topic.partitions {
                let place = Place {
                    topic: number,
                    partition: PartitionIndex(data.partition_index),
                };
                self.take_partition(group, place, data, now)?;
            }
        }
        Ok(group)
    }

    fn take_partition(
        &mut self,
        group: usize,
        place: Place,
        data: PartitionData,
        now: MonotonicTime,
    ) -> Result<(), ClientError> {
        let core = &self.reading.core;
        let cursors = &mut self.groups[group];
        let Some(cursor) = cursors.iter_mut().find(|c| c.place == place) else {
            return Err(malformed(format!("partition {place} was not asked for")));
        };
        if data.error_code == ErrorCode::OffsetOutOfRange.code() {
            core.interval.borrow_mut().failed("OFFSET_OUT_OF_RANGE", 1);
            cursor.next = Offset(data.log_start_offset.max(0));
            return Ok(());
        }
        ClientError::check(
            &format!("fetching partition {place}"),
            data.error_code,
            None,
        )?;
        let records = data.records.unwrap_or_default().into_bytes();
        let reader = PartitionReader {
            reading: &self.reading,
            scratch: &mut self.scratch,
            now,
        };
        let (count, bytes) = reader.read(cursor, &records)?;
        let mut tally = core.interval.borrow_mut();
        tally.records += count;
        tally.batch_bytes += bytes;
        drop(tally);
        self.positions.borrow_mut().insert(place, cursor.next);
        let left = self.reading.records_left.get();
        self.reading
            .records_left
            .set(left.map(|left| left.saturating_sub(count)));
        if cursor.next >= cursor.end {
            if self.reading.workload.repeat && cursor.start < cursor.end {
                cursor.next = cursor.start;
            } else if self.reading.workload.until_end {
                cursor.done = true;
            }
        }
        Ok(())
    }
}

fn malformed(reason: String) -> ClientError {
    ClientError::Malformed {
        api: "Fetch",
        reason,
    }
}

/// Number of the topic of an answer, which names it or, from version 13 on, has its id.
fn topic_number(topology: &Topology, answer: &FetchableTopicResponse) -> Result<u16, ClientError> {
    let mut topics = (0..).zip(&topology.topics);
    let is_it = |topic: &client::Topic| match answer.topic.as_str() {
        "" => topic.id == answer.topic_id,
        name => topic.name == name,
    };
    let found = topics.find(|(_, topic)| is_it(topic));
    found
        .map(|(number, _)| number)
        .ok_or_else(|| malformed("a topic that was not asked for".to_owned()))
}

/// Reads the batches of one partition's answer.
struct PartitionReader<'a, I: Io> {
    reading: &'a Reading<I>,
    scratch: &'a mut DecompressionScratch,
    now: MonotonicTime,
}

impl<I: Io> PartitionReader<'_, I> {
    /// Moves the cursor behind the batches; records from the cursor on, and bytes.
    fn read(mut self, cursor: &mut Cursor, bytes: &[u8]) -> Result<(u64, u64), ClientError> {
        let (mut records, mut batch_bytes) = (0, 0);
        let workload = &self.reading.workload;
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
            if workload.verify && !crc_matches(batch) {
                let place = format!("partition {} offset {}", cursor.place, cursor.next);
                return Err(malformed(format!("{place}: batch checksum mismatch")));
            }
            if !header.is_control() {
                if workload.verify {
                    let seen = self.observe(cursor, batch);
                    seen.map_err(|error| malformed(error.to_string()))?;
                }
                if let Some(run) = workload.traced_run {
                    let seen = self.measure(run, batch);
                    seen.map_err(|error| malformed(error.to_string()))?;
                }
                records += u64::try_from(header.record_count).unwrap_or(0);
            }
            batch_bytes += batch.len() as u64;
            cursor.next = next;
        }
        Ok((records, batch_bytes))
    }

    fn observe(&mut self, cursor: &Cursor, batch: &[u8]) -> Result<(), RecordError> {
        let mut verifier = self.reading.verifier.borrow_mut();
        for record in read_records(batch, self.scratch)? {
            let record = record?;
            if record.offset >= cursor.next {
                verifier.observe(cursor.place, record.offset, record.key, record.value);
            }
        }
        Ok(())
    }

    /// Counts the time from the trace in a batch's first record.
    fn measure(&mut self, run: u64, batch: &[u8]) -> Result<(), RecordError> {
        let Some(first) = read_records(batch, self.scratch)?.next() else {
            return Ok(());
        };
        let trace = Trace::read(first?.value.unwrap_or_default());
        if let Some(trace) = trace.filter(|t| t.run == run)
            && trace.intended >= self.reading.traced_from.get()
        {
            let mut tally = self.reading.core.interval.borrow_mut();
            tally.received(self.now.since(trace.intended));
        }
        Ok(())
    }
}
