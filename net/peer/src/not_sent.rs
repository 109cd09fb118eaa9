//! Why something does not leave this broker.
//!
//! Pure.

use crate::payload::Payload;
use crate::purpose::{Kind, Purpose};

/// Why something was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The address book does not have the broker.
    #[error("its address is not known")]
    Unknown,
    /// The last attempt to connect failed and the next one is not due, or the connection ended with it in the queue.
    #[error("there is no connection")]
    Unreachable,
    /// Too much waits to be sent, or too many requests are not answered.
    #[error("too much is under way")]
    Full,
    /// There are as many connections as there may be.
    #[error("there are too many connections")]
    TooMany,
    /// It waited too long.
    #[error("it waited too long")]
    TimedOut,
    /// It is longer than its purpose allows.
    #[error("it is too long")]
    TooLong,
    /// Such connections do not carry it.
    #[error("such connections do not carry it")]
    Misplaced,
    /// This side shuts down.
    #[error("this broker is shutting down")]
    Closing,
}

/// Whether such a frame may travel on a connection of that purpose at all.
pub(crate) fn check(purpose: Purpose, kind: Kind, payload: &Payload) -> Result<(), NotSent> {
    match purpose.payload_bytes_max(kind) {
        None => Err(NotSent::Misplaced),
        Some(most) if payload.size_bytes() > most => Err(NotSent::TooLong),
        Some(_) => Ok(()),
    }
}
