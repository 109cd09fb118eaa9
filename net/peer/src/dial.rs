//! Connecting to one of a broker's addresses, in time.
//!
//! An attempt that takes too long is left to end by itself, because an operation under way cannot be dropped; what it may
//! still bring is closed. Bounded by [`ATTEMPTS_MAX`], those left to themselves included.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use runtime::{Io, Oneshot, Stream, TaskClass};

use crate::book::{ADDRESSES_MAX, BookEntry};
use crate::context::Context;

/// Attempts under way in one network. The machine gives one up after ten to twenty seconds.
const ATTEMPTS_MAX: usize = 256;

/// Why no address of a broker could be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("it has no address that can be looked up: {0}")]
    NoAddress(io::Error),
    /// There is nobody at any of them.
    #[error("every address refuses connections")]
    Refused,
    #[error("{address}: {error}")]
    Failed {
        address: SocketAddr,
        error: io::Error,
    },
}

/// Tries the addresses in turn.
pub(crate) async fn dial<I: Io>(
    context: &Rc<Context<I>>,
    entry: &BookEntry,
) -> Result<I::Stream, DialError> {
    let mut addresses = Vec::new();
    let mut unknown = io::Error::from(io::ErrorKind::NotFound);
    for (host, port) in &entry.addresses {
        match (context.resolve)(host, *port) {
            Ok(found) => addresses.extend(found),
            Err(error) => unknown = error,
        }
    }
    addresses.truncate(ADDRESSES_MAX);
    let mut failure = None;
    let mut refused = 0;
    for address in &addresses {
        match connect_in_time(context, *address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                refused += usize::from(error.kind() == io::ErrorKind::ConnectionRefused);
                failure = Some((*address, error));
            }
        }
    }
    Err(match failure {
        None => DialError::NoAddress(unknown),
        Some(_) if refused == addresses.len() => DialError::Refused,
        Some((address, error)) => DialError::Failed { address, error },
    })
}

async fn connect_in_time<I: Io>(
    context: &Rc<Context<I>>,
    address: SocketAddr,
) -> io::Result<I::Stream> {
    if context.attempts.get() >= ATTEMPTS_MAX {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    context.attempts.set(context.attempts.get() + 1);
    let outcome = Oneshot::new();
    let is_decided = Rc::new(Cell::new(false));
    let (attempt, decides, slot) = (context.clone(), is_decided.clone(), outcome.clone());
    context.io.spawn(TaskClass::Foreground, async move {
        let connected = attempt.io.connect(address).await;
        attempt.attempts.set(attempt.attempts.get() - 1);
        if !decides.replace(true) {
            slot.set(connected);
        } else if let Ok(late) = connected {
            late.shutdown();
        }
    });
    let (io, slot) = (context.io.clone(), outcome.clone());
    let timeout = context.settings.connect_timeout;
    context.io.spawn(TaskClass::Foreground, async move {
        io.sleep(timeout).await;
        if !is_decided.replace(true) {
            slot.set(Err(io::ErrorKind::TimedOut.into()));
        }
    });
    outcome.take().await
}
