//! A connection that is made anew when it breaks, with the next of the brokers that it knows.
//!
//! Owned by one client task. Invariant: after an error that leaves requests without an answer the connection is gone.

use std::net::SocketAddr;
use std::time::Duration;

use client::{ClientError, Connection, ConnectionOptions, Rpc};
use runtime::Io;
use runtime::sim::SimIo;

/// Requests on the way at once.
pub(super) const IN_FLIGHT_MAX: usize = 5;
/// How long an answer may take before the connection is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(800);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// Pause after a failed attempt to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);

/// See the module's text.
pub struct Link {
    io: SimIo,
    bootstrap: Vec<SocketAddr>,
    /// Which of them is next.
    turn: usize,
    request_timeout: Duration,
    connection: Option<Connection<SimIo>>,
    number: u64,
}

impl Link {
    /// Not connected yet.
    pub fn new(io: SimIo, bootstrap: &[SocketAddr]) -> Link {
        Link::patient(io, bootstrap, REQUEST_TIMEOUT)
    }

    /// One that waits so long for an answer before it gives the connection up.
    pub fn patient(io: SimIo, bootstrap: &[SocketAddr], request_timeout: Duration) -> Link {
        assert!(!bootstrap.is_empty(), "a client knows at least one broker");
        Link {
            io,
            bootstrap: bootstrap.to_vec(),
            turn: 0,
            request_timeout,
            connection: None,
            number: 0,
        }
    }

    /// Counts the connections made.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The connection, made now if need be; `None`, after a pause, if that fails.
    pub async fn connected(&mut self) -> Option<&mut Connection<SimIo>> {
        if self
            .connection
            .as_ref()
            .is_none_or(|connection| !connection.is_open())
        {
            self.lose();
            let address = self.bootstrap[self.turn];
            let options = ConnectionOptions {
                client_id: "sim".to_owned(),
                in_flight_max: IN_FLIGHT_MAX,
                request_timeout: self.request_timeout,
                connect_timeout: CONNECT_TIMEOUT,
                read_bytes: 16 << 10,
                ..ConnectionOptions::default()
            };
            match Connection::connect(&self.io, address, options).await {
                Ok(connection) => {
                    self.number += 1;
                    self.connection = Some(connection);
                }
                Err(_) => {
                    self.next_turn();
                    self.io.sleep(RECONNECT_PAUSE).await;
                }
            }
        }
        self.connection.as_mut()
    }

    /// The connection, if it is there: requests sent over an earlier one are lost.
    pub fn open(&mut self) -> Option<&mut Connection<SimIo>> {
        self.connection.as_mut()
    }

    /// Gives the connection up.
    pub fn lose(&mut self) {
        if self.connection.take().is_some() {
            self.next_turn();
        }
    }

    fn next_turn(&mut self) {
        self.turn = (self.turn + 1) % self.bootstrap.len();
    }

    /// Sends one request and waits for its answer. After an error it may have been carried out.
    pub async fn call<Q: Rpc>(&mut self, request: &Q) -> Result<Q::Response, ClientError> {
        let Some(connection) = self.connected().await else {
            return Err(ClientError::Closed);
        };
        let answer = connection.call(request).await;
        if answer.is_err() {
            self.lose();
        }
        answer
    }
}
