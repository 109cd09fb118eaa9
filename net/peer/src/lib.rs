//! Brokers among themselves: who connects to whom, what travels, and what is told when it does not.
//!
//! Everything goes through [`runtime::Io`], so that the simulator plays it. [`PeerNetwork`] belongs to one shard. What the
//! bytes are stands in `net/peer/README.md`, and in the texts of [`handshake`] and [`frame`].
//!
//! # How a driver uses it
//!
//! ```ignore
//! let wake = Signal::new();
//! let network = PeerNetwork::new(io.clone(), local, Settings::default(), resolve, wake.clone())?;
//! network.serve_requests(handler);                             // if others may forward requests to this broker
//! network.listen(io.listen(address, false).await?);
//! network.set_book(brokers)?;                                  // again whenever the metadata says so
//! loop {
//!     wake.wait().await;                                       // the driver's own events may raise the same signal
//!     while let Some(received) = network.take_message() { /* from: received.from.identity.key, received.payload */ }
//!     while let Some(event) = network.take_event() { /* Unreachable(target, Purpose::Raft): handle_unreachable */ }
//!     // for each message to send:
//!     if network.send(broker, Purpose::Raft, frame).is_err() { /* handle_unreachable */ }
//! }
//! ```
//!
//! The signal says that there may be something: the driver takes until there is nothing. A message that was taken keeps its
//! memory charged until it is dropped, so a driver that is slow slows down those who send.
//!
//! # Streams
//!
//! Every shard has a network of its own; the first one's has all of the above, the others' have streams only. Where `listen` is
//! called, a way to the other shards is set before, and on each of them a task takes what comes by it:
//!
//! ```ignore
//! network.hand_over_by(move |passage| match mailboxes.get(passage.shard()) {
//!     None => Err(HandBack::NoShard(passage)),
//!     Some(mailbox) => mailbox.try_send(passage).map_err(|full| HandBack::Full(full.0)),
//! });
//! // on the other shard:
//! network.take_over(inbox.next().await);
//! ```
//!
//! The driver of a shard that follows or leads:
//!
//! ```ignore
//! network.serve_streams();
//! network.set_epoch(epoch);                 // on every shard, after each registration: ends the streams of the one before
//! while let Some(event) = network.take_stream_event() {
//!     match event {
//!         StreamEvent::Up(shard, identity) => { /* subscribe, if this shard follows that one */ }
//!         StreamEvent::Message(message) => { /* message.from, message.identity.epoch, message.payload */ }
//!         StreamEvent::Room(shard) => { /* push on */ }
//!         StreamEvent::Down(shard) => { /* forget what was subscribed, either way; to begin anew, send */ }
//!     }
//! }
//! match network.stream_send(shard, pieces) {
//!     Ok(()) => { /* it is behind those before it, and lost only with a Down */ }
//!     Err(NotSent::Full) => { /* not now: Room or Down follows */ }
//!     Err(NotSent::Unreachable) => { /* no connection: Up or Down follows */ }
//!     Err(_) => { /* the driver's own: not in the book, too long, shutting down */ }
//! }
//! ```
//!
//! Whoever only answers sends nothing after a `Down`: sending is what makes a connection.
//!
//! # Promises
//!
//! * On one connection, messages arrive in the order in which they were sent, each once and unchanged, or the connection
//!   ends. Over several connections there is no order; a message whose connection ended may or may not have arrived.
//! * Two shards have one stream at most, and both are told of the end of each connection before anything of the next.
//! * Both ends of a connection belong to one cluster and are the brokers, with the directories, that the other side's
//!   address book names.
//! * When the network is whole again, a message that is sent after [`Settings::backoff_max`] and a
//!   [`Settings::connect_timeout`] per address has passed is sent on a connection, and a dead connection is known as such
//!   after [`Settings::silence_max`].
//! * Memory is bounded: [`Settings`] names every queue.
//!
//! They do not cover a hostile network: nothing is encrypted, and a handshake shows names, not proofs.
//!
//! | file                                                | owns                                                             |
//! |-----------------------------------------------------|------------------------------------------------------------------|
//! | `purpose.rs`, `frame.rs`, `call_codec.rs`           | what may travel, and its bytes (pure)                            |
//! | `handshake.rs`, `admission.rs`, `identity.rs`       | the first words, and who is let in (pure)                        |
//! | `settings.rs`, `backoff.rs`                         | times and sizes (pure)                                           |
//! | `payload.rs`, `not_sent.rs`, `outbox.rs`            | what waits to be sent, and what does not                         |
//! | `ticket.rs`, `calls.rs`                             | requests without an answer                                       |
//! | `connection.rs`, `frame_reader.rs`, `greeting.rs`   | one connection: its two tasks                                    |
//! | `keeper.rs`                                         | all connections and their times                                  |
//! | `book.rs`, `dial.rs`, `pauses.rs`, `attempt.rs`     | making a connection                                              |
//! | `link.rs`                                           | connections of this side                                         |
//! | `listener.rs`, `service.rs`, `passage.rs`           | connections of others, who serves them, and on which shard       |
//! | `streams.rs`, `stream_link.rs`, `stream_events.rs`  | streams: all of them, one of them, what they bring               |
//! | `incoming.rs`, `requests.rs`, `probe.rs`            | raft messages, requests, probes                                  |
//! | `snapshots.rs`, `fetch.rs`                          | snapshots, on either side                                        |
//! | `events.rs`, `told.rs`                              | what the driver and the log are told                             |
//! | `context.rs`, `network.rs`                          | the parts together                                               |

mod admission;
mod attempt;
mod backoff;
mod book;
mod call_codec;
mod calls;
mod connection;
mod context;
mod dial;
mod events;
mod fetch;
pub mod frame;
mod frame_reader;
mod greeting;
pub mod handshake;
mod identity;
mod incoming;
mod keeper;
mod link;
mod listener;
mod network;
mod not_sent;
mod outbox;
mod passage;
mod pauses;
mod payload;
mod probe;
mod purpose;
mod requests;
mod service;
mod settings;
mod snapshots;
mod stream_events;
mod stream_link;
mod streams;
mod ticket;
mod told;

pub use admission::{Admission, House};
pub use book::{ADDRESSES_MAX, BROKERS_MAX, BookEntry, Resolve, TooManyBrokers, resolve_literal};
pub use connection::{Connection, End, Inbound, Receiver, Remote};
pub use context::Counters;
pub use events::PeerEvent;
pub use fetch::{FetchEnd, FetchError, SnapshotSink, fetch};
pub use handshake::Refusal;
pub use identity::{Local, PeerIdentity, Target};
pub use incoming::Received;
pub use link::{LinkState, LinkStatus};
pub use network::{ClusterName, PeerNetwork};
pub use not_sent::NotSent;
pub use passage::{HandBack, Passage};
pub use payload::Payload;
pub use probe::ProbeError;
pub use purpose::{
    CALL_HEAD_BYTES_MAX, CHUNK_BYTES_MAX, FORWARD_BYTES_MAX, Kind, Purpose, STREAM_BYTES_MAX,
};
pub use requests::{Reply, RequestHandler};
pub use service::{Service, Serving};
pub use settings::{PlantedFault, Settings};
pub use snapshots::{NAME_BYTES_MAX, NoPiece, Piece, SnapshotSource};
pub use stream_events::{StreamEvent, StreamMessage};
pub use ticket::CallError;
