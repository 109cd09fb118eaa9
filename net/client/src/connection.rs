//! One connection to one broker: requests out, responses in, in the same order.
//!
//! Owned by one task. Invariants: at most `in_flight_max` requests are unanswered; a response is accepted only for the
//! oldest of them; after any error that [`ClientError`] calls fatal the connection is of no further use.
//! Deadlines: a watch task ends the stream when the oldest request has waited too long, so no read waits for ever.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::MonotonicTime;
use protocol::{Api, Message};
use runtime::{Io, Oneshot, Stream, TaskClass};

use crate::error::ClientError;
use crate::frame::{FrameReader, READ_BYTES, RESPONSE_BYTES_MAX};
use crate::rpc::{self, Rpc};
use crate::versions::Versions;

/// Requests on the way at once unless told otherwise, as Kafka's producer has.
pub const IN_FLIGHT_MAX: usize = 5;
/// How long a response may take unless told otherwise, as Kafka's clients wait.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connecting may take unless told otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often deadlines are looked at: the precision of timeouts.
const DEADLINE_CHECK: Duration = Duration::from_millis(100);

/// Settings of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Name the broker logs.
    pub client_id: String,
    /// Unanswered requests allowed, at least 1.
    pub in_flight_max: usize,
    /// Largest response in bytes.
    pub response_bytes_max: usize,
    /// Space offered to each read in bytes.
    pub read_bytes: usize,
    /// Time a response may take.
    pub request_timeout: Duration,
    /// Time connecting may take.
    pub connect_timeout: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions {
            client_id: "ringlog".to_owned(),
            in_flight_max: IN_FLIGHT_MAX,
            response_bytes_max: RESPONSE_BYTES_MAX,
            read_bytes: READ_BYTES,
            request_timeout: REQUEST_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

/// A request that was sent; gives its response to [`Connection::receive`].
#[must_use]
#[derive(Debug)]
pub struct Pending<R> {
    correlation: i32,
    version: i16,
    response: PhantomData<R>,
}

impl<R> Pending<R> {
    /// The correlation id on the wire.
    pub fn correlation(&self) -> i32 {
        self.correlation
    }
}

/// What the connection shares with its watch task.
struct Watch {
    /// When the oldest request is overdue; `None` while nothing is in flight.
    deadline: Cell<Option<MonotonicTime>>,
    expired: Cell<bool>,
    closed: Cell<bool>,
}

struct InFlight {
    correlation: i32,
    deadline: MonotonicTime,
}

/// A connection whose versions are negotiated.
pub struct Connection<I: Io> {
    io: I,
    stream: I::Stream,
    reader: FrameReader<I::Stream>,
    options: ConnectionOptions,
    versions: Versions,
    next_correlation: i32,
    in_flight: VecDeque<InFlight>,
    watch: Rc<Watch>,
}

impl<I: Io> Drop for Connection<I> {
    fn drop(&mut self) {
        if !self.watch.closed.replace(true) {
            self.stream.shutdown();
        }
    }
}

impl<I: Io> Connection<I> {
    /// Connects and asks for the broker's versions (KIP-511).
    pub async fn connect(
        io: &I,
        address: SocketAddr,
        options: ConnectionOptions,
    ) -> Result<Connection<I>, ClientError> {
        let stream = connect_within(io, address, options.connect_timeout).await?;
        let watch = Rc::new(Watch {
            deadline: Cell::new(None),
            expired: Cell::new(false),
            closed: Cell::new(false),
        });
        let mut connection = Connection {
            io: io.clone(),
            reader: FrameReader::new(
                stream.clone(),
                options.response_bytes_max,
                options.read_bytes,
            ),
            stream,
            options,
            versions: Versions::unknown(),
            next_correlation: 0,
            in_flight: VecDeque::new(),
            watch,
        };
        connection.start_watch();
        connection.versions = Versions::negotiate(&mut connection).await?;
        Ok(connection)
    }

    /// What the broker serves.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Sends a request in the highest version both sides know, without waiting for its response.
    pub async fn send<Q: Rpc>(&mut self, request: &Q) -> Result<Pending<Q::Response>, ClientError> {
        let version = self.versions.choose(Q::API)?;
        self.send_version(request, version).await
    }

    /// Sends a request in a given version.
    pub async fn send_version<Q: Rpc>(
        &mut self,
        request: &Q,
        version: i16,
    ) -> Result<Pending<Q::Response>, ClientError> {
        let correlation = self.next_correlation;
        let frame = rpc::encode(request, version, correlation, &self.options.client_id)?;
        self.send_frame(frame, correlation).await?;
        Ok(Pending {
            correlation,
            version,
            response: PhantomData,
        })
    }

    async fn send_frame(
        &mut self,
        mut frame: Vec<Bytes>,
        correlation: i32,
    ) -> Result<(), ClientError> {
        if self.in_flight.len() >= self.options.in_flight_max.max(1) {
            return Err(ClientError::Misuse("too many requests in flight"));
        }
        self.next_correlation = self.next_correlation.wrapping_add(1) & i32::MAX;
        self.in_flight.push_back(InFlight {
            correlation,
            deadline: self.io.now().plus(self.options.request_timeout),
        });
        self.watch_oldest();
        let written = self.stream.write_all(&mut frame).await;
        written.map_err(|error| self.explain(ClientError::Lost(error)))
    }

    /// Waits for the response to the oldest request in flight, which must be `pending`.
    pub async fn receive<R: Message>(&mut self, pending: Pending<R>) -> Result<R, ClientError> {
        let frame = self.receive_frame(pending.correlation).await?;
        rpc::decode(&frame, pending.version)
    }

    /// Sends a request and waits for its response.
    pub async fn call<Q: Rpc>(&mut self, request: &Q) -> Result<Q::Response, ClientError> {
        let pending = self.send(request).await?;
        self.receive(pending).await
    }

    /// Sends a request that has no response (produce with acks=0).
    pub async fn send_unanswered<Q: Rpc>(&mut self, request: &Q) -> Result<(), ClientError> {
        let pending = self.send(request).await?;
        if self
            .in_flight
            .back()
            .is_some_and(|newest| newest.correlation == pending.correlation)
        {
            self.in_flight.pop_back();
        }
        self.watch_oldest();
        Ok(())
    }

    /// The frame (header included) of the oldest request, whose correlation id must be `correlation`.
    pub(crate) async fn receive_frame(&mut self, correlation: i32) -> Result<Bytes, ClientError> {
        match self.in_flight.front() {
            None => return Err(ClientError::Misuse("no request is in flight")),
            Some(oldest) if oldest.correlation != correlation => {
                return Err(ClientError::Misuse("an older request is in flight"));
            }
            Some(_) => {}
        }
        let received = self.reader.next().await;
        let frame = received.map_err(|error| self.explain(error))?;
        self.in_flight.pop_front();
        self.watch_oldest();
        rpc::check_correlation(&frame, correlation)?;
        Ok(frame)
    }

    /// Gives up request matching: the writing half, the reading half and the versions, for callers that build frames
    /// themselves and keep their own deadlines. Nothing may be in flight.
    pub fn into_raw(self) -> Result<RawConnection<I::Stream>, ClientError> {
        if !self.in_flight.is_empty() {
            return Err(ClientError::Misuse("a request is in flight"));
        }
        self.watch.closed.set(true);
        Ok(RawConnection {
            stream: self.stream.clone(),
            reader: FrameReader::new(
                self.stream.clone(),
                self.options.response_bytes_max,
                self.options.read_bytes,
            ),
            versions: self.versions.clone(),
        })
    }

    /// Whether the connection can still be used.
    pub fn is_open(&self) -> bool {
        !self.watch.closed.get() && !self.watch.expired.get()
    }

    fn watch_oldest(&self) {
        self.watch
            .deadline
            .set(self.in_flight.front().map(|oldest| oldest.deadline));
    }

    /// A stream that the watch task ended failed because of the deadline, whatever the error says.
    fn explain(&self, error: ClientError) -> ClientError {
        if self.watch.expired.get() {
            return ClientError::Timeout(self.options.request_timeout);
        }
        error
    }

    fn start_watch(&self) {
        let (io, stream, watch) = (self.io.clone(), self.stream.clone(), self.watch.clone());
        self.io.spawn(TaskClass::Foreground, async move {
            while !watch.closed.get() {
                if watch.deadline.get().is_some_and(|d| d <= io.now()) {
                    watch.expired.set(true);
                    stream.shutdown();
                    return;
                }
                io.sleep(DEADLINE_CHECK).await;
            }
        });
    }

    /// For [`Versions::negotiate`]: sends ApiVersions and returns its frame undecoded.
    pub(crate) async fn exchange_frame<Q: Rpc>(
        &mut self,
        request: &Q,
        version: i16,
    ) -> Result<Bytes, ClientError> {
        let pending = self.send_version(request, version).await?;
        self.receive_frame(pending.correlation).await
    }
}

/// A negotiated connection without request matching.
pub struct RawConnection<S> {
    /// Writes frames; `shutdown` ends both halves.
    pub stream: S,
    /// Reads frames.
    pub reader: FrameReader<S>,
    /// What the broker serves.
    pub versions: Versions,
}

/// The version for one API that a raw connection should use.
impl<S> RawConnection<S> {
    /// The highest version both sides know.
    pub fn version(&self, api: &'static Api) -> Result<i16, ClientError> {
        self.versions.choose(api)
    }
}

/// Connects, or gives up in time. A connection that comes too late is closed.
async fn connect_within<I: Io>(
    io: &I,
    address: SocketAddr,
    timeout: Duration,
) -> Result<I::Stream, ClientError> {
    let slot: Rc<Oneshot<io::Result<I::Stream>>> = Oneshot::new();
    let decided = Rc::new(Cell::new(false));
    let (task_io, task_slot, task_decided) = (io.clone(), slot.clone(), decided.clone());
    io.spawn(TaskClass::Foreground, async move {
        let connected = task_io.connect(address).await;
        if task_decided.replace(true) {
            if let Ok(late) = connected {
                late.shutdown();
            }
            return;
        }
        task_slot.set(connected);
    });
    let (timer_io, timer_slot) = (io.clone(), slot.clone());
    io.spawn(TaskClass::Foreground, async move {
        let end = timer_io.now().plus(timeout);
        while !decided.get() {
            if timer_io.now() >= end {
                decided.set(true);
                timer_slot.set(Err(io::ErrorKind::TimedOut.into()));
                return;
            }
            timer_io
                .sleep(DEADLINE_CHECK.min(end.since(timer_io.now())))
                .await;
        }
    });
    slot.take().await.map_err(|source| ClientError::Connect {
        address: address.to_string(),
        source,
    })
}
