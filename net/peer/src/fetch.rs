//! Fetching a snapshot, piece by piece.
//!
//! One shard. One piece is asked for after the other, so one is in memory at a time whatever the snapshot's size, and a fetch
//! may go on later where it stopped, from another broker too. Invariant: what a sink is given is without gaps, and belongs
//! to a snapshot of one length.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use runtime::Io;

use crate::identity::Target;
use crate::network::PeerNetwork;
use crate::not_sent::NotSent;
use crate::purpose::Purpose;
use crate::snapshots::{NAME_BYTES_MAX, NoPiece, PIECE_BYTES, Question, decode_piece};
use crate::ticket::CallError;

/// How long the answer to one question may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions for one piece before the fetch stops.
const TRIES_MAX: u32 = 5;
/// Pause before a question is asked again.
const TRY_PAUSE: Duration = Duration::from_millis(250);

/// Takes a snapshot.
#[allow(async_fn_in_trait)]
pub trait SnapshotSink {
    /// Writes `bytes` at `offset`, which is where the last ones ended.
    async fn write(&mut self, offset: u64, bytes: Bytes) -> io::Result<()>;
}

/// Why a fetch stopped.
#[derive(Debug, thiserror::Error)]
pub enum FetchEnd {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("the other side does not have it")]
    Unknown,
    #[error("the other side cannot read it")]
    Failed,
    #[error("its length was {was} bytes and is {is}")]
    Changed {
        /// What was known of it, or is here already.
        was: u64,
        /// What the other side says.
        is: u64,
    },
    #[error("an answer that means nothing")]
    Broken,
    #[error("writing it: {0}")]
    Sink(#[from] io::Error),
}

/// A fetch that stopped. What is before `reached` is written: another fetch may begin there.
#[derive(Debug, thiserror::Error)]
#[error("at {reached}: {why}")]
pub struct FetchError {
    /// Bytes that the sink has.
    pub reached: u64,
    /// Why.
    pub why: FetchEnd,
}

/// Fetches a snapshot from `already` on and gives its length. A question without an answer is asked again a few times.
pub async fn fetch<I: Io>(
    network: &PeerNetwork<I>,
    from: Target,
    name: &str,
    already: u64,
    sink: &mut impl SnapshotSink,
) -> Result<u64, FetchError> {
    let mut reached = already;
    let mut total = None;
    loop {
        let step = fetch_piece(network, from, name, reached, &mut total, sink).await;
        reached += step.map_err(|why| FetchError { reached, why })?;
        if total == Some(reached) {
            return Ok(reached);
        }
    }
}

/// Fetches the piece at `offset`; its bytes.
async fn fetch_piece<I: Io>(
    network: &PeerNetwork<I>,
    from: Target,
    name: &str,
    offset: u64,
    total: &mut Option<u64>,
    sink: &mut impl SnapshotSink,
) -> Result<u64, FetchEnd> {
    if name.len() > NAME_BYTES_MAX {
        return Err(CallError::NotSent(NotSent::TooLong).into());
    }
    let question = Question {
        offset,
        length: u32::try_from(PIECE_BYTES).expect("a megabyte"),
        name: name.to_owned(),
    };
    let body = ask(network, from, question.encode()).await?;
    let piece = match decode_piece(&body, offset).ok_or(FetchEnd::Broken)? {
        Ok(piece) => piece,
        Err(NoPiece::Unknown) => return Err(FetchEnd::Unknown),
        Err(NoPiece::Failed) => return Err(FetchEnd::Failed),
    };
    let is = piece.total;
    let was = *total.get_or_insert(is.max(offset));
    if was != is {
        return Err(FetchEnd::Changed { was, is });
    }
    let length = piece.bytes.len() as u64;
    if length == 0 && offset < is {
        return Err(FetchEnd::Broken);
    }
    if length > 0 {
        sink.write(offset, piece.bytes).await?;
    }
    Ok(length)
}

/// Reading changes nothing, so it may be asked again whatever became of the question.
async fn ask<I: Io>(
    network: &PeerNetwork<I>,
    from: Target,
    question: Bytes,
) -> Result<Bytes, CallError> {
    let mut tries = 0;
    loop {
        let asked = network.call(from, Purpose::Snapshot, question.clone(), PIECE_TIMEOUT);
        match asked.await {
            Ok(body) => return Ok(body),
            Err(error) => {
                tries += 1;
                if tries == TRIES_MAX {
                    return Err(error);
                }
                network.pause(TRY_PAUSE).await;
            }
        }
    }
}
