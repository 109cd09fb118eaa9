//! Brokers among themselves: the bytes that travel between them, and who is let in.
//!
//! What the bytes are stands in `net/peer/README.md`, and in the texts of [`handshake`] and [`frame`].

mod admission;
pub mod frame;
pub mod handshake;
mod identity;
mod purpose;
mod settings;

pub use admission::House;
pub use handshake::Refusal;
pub use identity::{Local, PeerIdentity, Target};
pub use purpose::{
    CALL_HEAD_BYTES_MAX, CHUNK_BYTES_MAX, FORWARD_BYTES_MAX, Kind, Purpose, STREAM_BYTES_MAX,
};
pub use settings::PlantedFault;
