//! The producing side of a load: lanes, each one connection that keeps requests in flight.
//!
//! A lane is two tasks: this one writes, [`read_answers`] reads; they share a [`Link`]. Invariants: at most `in_flight`
//! requests of a lane are unanswered; every request sent is counted exactly once, as answered or as failed; a batch is
//! never sent twice.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use client::{Acks, ClientError, ConnectionOptions, FrameReader, init_producer_id_request, rpc};
use model::{MonotonicTime, PartitionIndex, ProducerEpoch, ProducerId};
use protocol::{Message as _, ProduceRequest, ProduceResponse};
use runtime::{Io, Signal, Stream as _, TaskClass};

use crate::core_state::{Bounds, CoreState, Expiry, Observer, Share, Watched};
use crate::keys::{KeyDistribution, KeySource};
use crate::process::Window;
use crate::schedule::{OpenSchedule, Schedule};
use crate::tally::Tally;
use crate::template::{
    BatchShape, BatchTemplate, FrameBuffer, Identity, RequestTemplates, Send, Target,
};
use crate::topology;
use crate::verify::{Ledger, StreamKey};
use crate::workload::ProduceWorkload;

/// Bytes handed to one vectored write.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Different batches kept ready when records have keys.
const VARIANTS_MAX: usize = 16;
/// Bytes of all different batches.
const VARIANT_BYTES_MAX: usize = 64 << 20;
/// Prefixes of all different batches and partitions.
const PREFIXES_MAX: usize = 1 << 17;
/// First wait before connecting again; doubles.
const RECONNECT_MIN: Duration = Duration::from_millis(50);
/// Longest wait before connecting again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// Shortest sleep of an open-loop ticker: finer ones cost more CPU than they give precision.
const TICK_MIN: Duration = Duration::from_micros(50);

/// What producing came to on one core.
#[derive(Debug)]
pub struct Produced {
    /// Counts since the warm-up.
    pub tally: Tally,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// Everything that was sent, the warm-up included, if records are stamped.
    pub ledger: Ledger,
    /// The processes' counters at both ends of that time.
    pub window: Window,
    /// Why the load was given up, if it was.
    pub fatal: Option<String>,
}

/// Runs this core's share of a load.
pub async fn produce<I: Io>(
    io: I,
    workload: ProduceWorkload,
    share: Share,
    observer: Observer,
) -> Produced {
    let lanes: Vec<u64> = share.connections(workload.connections).collect();
    let core = CoreState::new(
        io,
        lanes.len() as u64,
        Bounds {
            warmup: workload.warmup,
            duration: workload.limit.duration,
            stall: workload.stall(),
        },
        observer,
    );
    let (workload, ledger) = (Rc::new(workload), Rc::new(RefCell::new(Ledger::default())));
    for index in lanes {
        let lane = Lane {
            core: core.clone(),
            workload: workload.clone(),
            ledger: ledger.clone(),
            index,
            requests_left: None,
            schedule: None,
            sequences: BTreeMap::new(),
            turn: index,
        };
        core.io.spawn(TaskClass::Foreground, lane.run());
    }
    let outcome = core.run().await;
    Produced {
        tally: outcome.tally,
        elapsed: outcome.elapsed,
        ledger: ledger.take(),
        window: outcome.window,
        fatal: outcome.fatal,
    }
}

/// A request without an answer yet.
struct Flight {
    correlation: i32,
    intended: MonotonicTime,
    sent: MonotonicTime,
    variant: usize,
    batch_bytes: usize,
    /// Its stamps, if there are any.
    stamped: Option<(StreamKey, u64)>,
}

/// What the two tasks of a lane share for the life of one connection.
struct Link<I: Io> {
    expiry: Expiry<I::Stream>,
    flights: RefCell<VecDeque<Flight>>,
    wake: Rc<Signal>,
    timeout: Duration,
    /// Set by the reader when it ends.
    ended: RefCell<Option<ClientError>>,
    /// Set when the connection is to be left, because of an answer that asks for it.
    leave: Cell<bool>,
}

impl<I: Io> Watched for Link<I> {
    fn deadline(&self) -> Option<MonotonicTime> {
        Some(self.flights.borrow().front()?.sent.plus(self.timeout))
    }

    fn expire(&self) {
        self.expiry.expire();
    }

    fn wake(&self) {
        self.wake.raise();
    }
}

/// One connection of a load, across reconnections.
struct Lane<I: Io> {
    core: Rc<CoreState<I>>,
    workload: Rc<ProduceWorkload>,
    ledger: Rc<RefCell<Ledger>>,
    /// Number of the connection over all cores; also the producer's number in stamps.
    index: u64,
    /// Requests this lane still may send; known when the batch size is.
    requests_left: Option<u64>,
    schedule: Option<Schedule>,
    /// Next stamp of each partition.
    sequences: BTreeMap<PartitionIndex, u64>,
    /// Counts requests, for the round robin over partitions and batches.
    turn: u64,
}

/// A connection and the frames for what it leads.
struct Opened<I: Io> {
    link: Rc<Link<I>>,
    templates: Rc<RequestTemplates>,
    producer: (ProducerId, ProducerEpoch),
    base_sequences: Vec<i32>,
}

impl<I: Io> Lane<I> {
    async fn run(mut self) {
        let mut wait = RECONNECT_MIN;
        while !self.core.stopping() && self.requests_left != Some(0) {
            match self.open().await {
                Ok(opened) => {
                    wait = RECONNECT_MIN;
                    self.use_connection(opened).await;
                }
                Err(error) => {
                    self.core.failed(&error, 1);
                    if !error.is_retriable() && self.core.nothing_yet() {
                        self.core.give_up(error.to_string());
                    }
                }
            }
            if !self.core.stopping() && self.requests_left != Some(0) {
                self.core.io.sleep(wait).await;
                wait = (wait * 2).min(RECONNECT_MAX);
            }
        }
        if let Some(schedule) = &self.schedule {
            let unsent = schedule.backlog(self.core.io.now());
            let unsent = self.requests_left.map_or(unsent, |left| unsent.min(left));
            self.core.interval.borrow_mut().unsent += unsent;
        }
        self.core.lane_done();
    }

    async fn open(&mut self) -> Result<Opened<I>, ClientError> {
        let workload = self.workload.clone();
        let io = &self.core.io.clone();
        let (topic, leaders) = topology::leaders(io, &workload.bootstrap, &workload.topic).await?;
        let chosen = usize::try_from(self.index).unwrap_or(0) % leaders.len();
        let leader = &leaders[chosen];
        let options = ConnectionOptions {
            client_id: "ringlog-load".to_owned(),
            request_timeout: workload.request_timeout,
            ..ConnectionOptions::default()
        };
        let mut connection = topology::connect(io, leader, &options).await?;
        let producer = if workload.idempotent {
            let response = connection.call(&init_producer_id_request()).await?;
            ClientError::check("InitProducerId", response.error_code, None)?;
            (
                ProducerId(response.producer_id),
                ProducerEpoch(response.producer_epoch),
            )
        } else {
            (ProducerId::NONE, ProducerEpoch::NONE)
        };
        let raw = connection.into_raw()?;
        let records = workload.records_per_batch(topic.partitions.len());
        self.plan(records);
        let target = Target {
            topic: topic.name.clone(),
            topic_id: topic.id,
            version: raw.version(ProduceRequest::API)?,
            acks: workload.acks,
            timeout_ms: i32::try_from(workload.request_timeout.as_millis()).unwrap_or(i32::MAX),
            client_id: options.client_id.clone(),
        };
        let version = target.version;
        let batches = self.batches(records, leader.partitions.len())?;
        let templates = Rc::new(RequestTemplates::new(
            target,
            leader.partitions.clone(),
            batches,
        )?);
        self.core.interval.borrow_mut().connects += 1;
        let link = Rc::new(Link {
            expiry: Expiry::new(raw.stream),
            flights: RefCell::default(),
            wake: Signal::new(),
            timeout: workload.request_timeout,
            ended: RefCell::default(),
            leave: Cell::new(false),
        });
        let watched: Weak<dyn Watched> = Rc::downgrade(&(link.clone() as Rc<dyn Watched>));
        self.core.watch(watched);
        let answers = Answers {
            core: self.core.clone(),
            link: link.clone(),
            ledger: self.ledger.clone(),
            templates: templates.clone(),
            version,
            idempotent: workload.idempotent,
        };
        io.spawn(TaskClass::Foreground, read_answers(raw.reader, answers));
        Ok(Opened {
            link,
            base_sequences: vec![0; templates.partitions().len()],
            templates,
            producer,
        })
    }

    /// On the first connection: how many requests this lane sends and when.
    fn plan(&mut self, records_per_request: u64) {
        let workload = &self.workload;
        let (lane, lanes) = (self.index, workload.connections);
        if self.schedule.is_some() {
            return;
        }
        self.requests_left = workload.limit.records.map(|records| {
            let requests = records.div_ceil(records_per_request);
            requests / lanes + u64::from(lane < requests % lanes)
        });
        self.schedule = Some(match workload.rate {
            None => Schedule::Closed,
            Some(rate) => {
                let start = self.core.start();
                Schedule::Open(OpenSchedule::new(
                    start,
                    rate,
                    records_per_request,
                    lane,
                    lanes,
                ))
            }
        });
    }

    fn batches(&self, records: u64, partitions: usize) -> Result<Vec<BatchTemplate>, ClientError> {
        let workload = &self.workload;
        let shape = BatchShape {
            records,
            record_bytes: workload.record_bytes,
            compression: workload.compression,
        };
        let mut keys = KeySource::new(workload.keys, self.index);
        let build = |keys: &mut KeySource| {
            BatchTemplate::build(shape, keys).map_err(|error| ClientError::Malformed {
                api: "Produce",
                reason: error.to_string(),
            })
        };
        let mut batches = vec![build(&mut keys)?];
        if workload.keys != KeyDistribution::None {
            let by_bytes = VARIANT_BYTES_MAX / batches[0].batch_bytes().max(1);
            let by_prefixes = PREFIXES_MAX / partitions.max(1);
            for _ in 1..VARIANTS_MAX.min(by_bytes).min(by_prefixes) {
                batches.push(build(&mut keys)?);
            }
        }
        Ok(batches)
    }

    /// Sends until the end, or until the connection breaks; then counts what got no answer.
    async fn use_connection(&mut self, mut opened: Opened<I>) {
        let link = opened.link.clone();
        self.start_ticker(&link);
        let error = self.send_until_end(&mut opened).await;
        link.expiry.stream.shutdown();
        while link.ended.borrow().is_none() {
            link.wake.wait().await;
        }
        let lost: Vec<Flight> = link.flights.borrow_mut().drain(..).collect();
        let reported = link.ended.borrow_mut().take();
        if lost.is_empty() && error.is_none() {
            return;
        }
        let error = match (link.expiry.expired.get(), error, reported) {
            (true, _, _) => ClientError::Timeout(link.timeout),
            (false, Some(error), _) | (false, None, Some(error)) => error,
            (false, None, None) => ClientError::Closed,
        };
        self.core.failed(&error, lost.len() as u64);
        for flight in lost {
            not_acknowledged(&self.ledger, &flight, &opened.templates);
        }
    }

    async fn send_until_end(&mut self, opened: &mut Opened<I>) -> Option<ClientError> {
        let link = opened.link.clone();
        let mut frames = FrameBuffer::default();
        loop {
            self.core.io.yield_if_needed().await;
            if link.ended.borrow().is_some() {
                return None;
            }
            let finished =
                self.core.stopping() || link.leave.get() || self.requests_left == Some(0);
            if finished && link.flights.borrow().is_empty() {
                return None;
            }
            let appended = if finished {
                Ok(())
            } else {
                self.append_due(opened, &mut frames)
            };
            if let Err(error) = appended {
                self.core.give_up(error.to_string());
                return Some(error);
            }
            if frames.bytes() == 0 {
                link.wake.wait().await;
                continue;
            }
            if let Err(error) = link.expiry.stream.write_all(frames.slices()).await {
                return Some(ClientError::Lost(error));
            }
            if self.workload.acks == Acks::None {
                self.count_unanswered(&link, &opened.templates);
            }
        }
    }

    /// Appends the requests that are due and that the in-flight limit allows.
    fn append_due(
        &mut self,
        opened: &mut Opened<I>,
        frames: &mut FrameBuffer,
    ) -> Result<(), ClientError> {
        let now = self.core.io.now();
        let timestamp = self.core.io.wall_clock();
        let mut flights = opened.link.flights.borrow_mut();
        while flights.len() < self.workload.in_flight
            && frames.bytes() < WRITE_BYTES_MAX
            && self.requests_left != Some(0)
        {
            let Some(intended) = self.schedule.as_mut().and_then(|s| s.take(now)) else {
                break;
            };
            let slots = opened.templates.partitions().len() as u64;
            let slot = usize::try_from(self.turn % slots).unwrap_or(0);
            let variant = usize::try_from(self.turn / slots).unwrap_or(0);
            let records = opened.templates.batch(variant).records();
            let base_sequence = match opened.producer.0 {
                ProducerId::NONE => -1,
                _ => take_sequences(&mut opened.base_sequences[slot], records),
            };
            let correlation = i32::try_from(self.turn & 0x7fff_ffff).unwrap_or(0);
            let stamp = self.take_stamps(opened.templates.partitions()[slot], records);
            let send = Send {
                slot,
                variant,
                correlation,
                identity: Identity {
                    producer_id: opened.producer.0,
                    producer_epoch: opened.producer.1,
                    base_sequence,
                    timestamp,
                },
                stamp,
            };
            let batch_bytes = opened.templates.append(send, frames)?;
            flights.push_back(Flight {
                correlation,
                intended,
                sent: now,
                variant,
                batch_bytes,
                stamped: stamp,
            });
            self.turn = self.turn.wrapping_add(1);
            self.requests_left = self.requests_left.map(|left| left.saturating_sub(1));
        }
        Ok(())
    }

    fn take_stamps(&mut self, partition: PartitionIndex, records: u64) -> Option<(StreamKey, u64)> {
        let run = self.workload.stamp_run?;
        let key = StreamKey {
            run,
            producer: u32::try_from(self.index).unwrap_or(u32::MAX),
            partition,
        };
        let next = self.sequences.entry(partition).or_default();
        let first = *next;
        *next = next.saturating_add(records);
        self.ledger.borrow_mut().sent(key, first, records);
        Some((key, first))
    }

    /// acks=0: what was written counts as done; whether it arrived is unknown.
    fn count_unanswered(&self, link: &Link<I>, templates: &RequestTemplates) {
        let now = self.core.io.now();
        let mut tally = self.core.interval.borrow_mut();
        for flight in link.flights.borrow_mut().drain(..) {
            count(&mut tally, &flight, templates, now);
            not_acknowledged(&self.ledger, &flight, templates);
        }
        self.core.answered_at(now);
    }

    /// Open loop: wakes the writer at the intended times, for as long as the connection lives.
    fn start_ticker(&self, link: &Rc<Link<I>>) {
        let Some(Schedule::Open(_)) = &self.schedule else {
            return;
        };
        let (Some(mut schedule), link) = (self.schedule.clone(), Rc::downgrade(link)) else {
            return;
        };
        let io = self.core.io.clone();
        self.core.io.spawn(TaskClass::Foreground, async move {
            while let Some(wait) = schedule.wait(io.now()) {
                io.sleep(wait.max(TICK_MIN)).await;
                let Some(link) = link.upgrade() else {
                    return;
                };
                if link.ended.borrow().is_some() {
                    return;
                }
                let now = io.now();
                while schedule.take(now).is_some() {}
                link.wake.raise();
            }
        });
    }
}

fn count(tally: &mut Tally, flight: &Flight, templates: &RequestTemplates, now: MonotonicTime) {
    let batch = templates.batch(flight.variant);
    tally.answered(now.since(flight.intended));
    tally.records += batch.records();
    tally.record_bytes += batch.record_bytes;
    tally.batch_bytes += flight.batch_bytes as u64;
}

fn not_acknowledged(ledger: &RefCell<Ledger>, flight: &Flight, templates: &RequestTemplates) {
    if let Some((key, first)) = flight.stamped {
        let records = templates.batch(flight.variant).records();
        ledger.borrow_mut().unknown(key, first, records);
    }
}

/// The base sequence of a batch; sequences wrap to 0 behind 2^31 - 1.
fn take_sequences(next: &mut i32, records: u64) -> i32 {
    let first = *next;
    let after = u64::from(first.unsigned_abs()) + records;
    *next = i32::try_from(after % (1 << 31)).unwrap_or(0);
    first
}

/// What the reading task works with.
struct Answers<I: Io> {
    core: Rc<CoreState<I>>,
    link: Rc<Link<I>>,
    ledger: Rc<RefCell<Ledger>>,
    templates: Rc<RequestTemplates>,
    version: i16,
    idempotent: bool,
}

/// Reads answers until the connection ends, for whatever reason, and says so to the writer.
async fn read_answers<I: Io>(mut reader: FrameReader<I::Stream>, answers: Answers<I>) {
    let error = loop {
        if let Err(error) = reader.fill().await {
            break error;
        }
        if let Err(error) = answers.take_all(&mut reader) {
            break error;
        }
        answers.link.wake.raise();
    };
    *answers.link.ended.borrow_mut() = Some(error);
    answers.link.wake.raise();
}

impl<I: Io> Answers<I> {
    /// Takes every whole frame that has arrived.
    fn take_all(&self, reader: &mut FrameReader<I::Stream>) -> Result<(), ClientError> {
        let now = self.core.io.now();
        while let Some(frame) = reader.frame()? {
            let Some(flight) = self.link.flights.borrow_mut().pop_front() else {
                return Err(ClientError::Misuse("an answer without a request"));
            };
            if let Err(error) = self.take(&frame, &flight, now) {
                // Back into the queue: the writer counts what is left there as failed.
                self.link.flights.borrow_mut().push_front(flight);
                return Err(error);
            }
        }
        self.core.answered_at(now);
        Ok(())
    }

    fn take(
        &self,
        frame: &bytes::Bytes,
        flight: &Flight,
        now: MonotonicTime,
    ) -> Result<(), ClientError> {
        rpc::check_correlation(frame, flight.correlation)?;
        let response: ProduceResponse = rpc::decode(frame, self.version)?;
        let answers = response.responses.first();
        let Some(answer) = answers.and_then(|topic| topic.partition_responses.first()) else {
            return Err(ClientError::Malformed {
                api: "Produce",
                reason: "no partition in the answer".to_owned(),
            });
        };
        if answer.error_code == 0 {
            count(
                &mut self.core.interval.borrow_mut(),
                flight,
                &self.templates,
                now,
            );
            return Ok(());
        }
        let message = answer.error_message.as_ref().map(|m| m.as_str().to_owned());
        let what = format!("producing to partition {}", answer.index);
        if let Err(error) = ClientError::check(&what, answer.error_code, message) {
            self.refused(flight, &error);
        }
        Ok(())
    }

    /// The broker said no to one request.
    fn refused(&self, flight: &Flight, error: &ClientError) {
        self.core.failed(error, 1);
        not_acknowledged(&self.ledger, flight, &self.templates);
        if !error.is_retriable() && self.core.nothing_yet() {
            self.core.give_up(error.to_string());
        }
        // New leaders, or a new producer id: both come with a new connection.
        if error.is_retriable() || self.idempotent {
            self.link.leave.set(true);
        }
    }
}
