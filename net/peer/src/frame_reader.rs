//! Cuts a connection's bytes into frames.
//!
//! Owned by the one task that reads a connection. Invariants: a frame comes out whole or not at all; payloads are slices of
//! what was read; memory grows with the bytes that arrived, not with the length that was announced: at most
//! [`READ_BYTES`] more than twice of them.

use bytes::{Buf as _, Bytes, BytesMut};
use runtime::Stream;

use crate::frame::{FrameError, HEADER_BYTES, Header};
use crate::purpose::{Kind, Purpose};
use crate::settings::PlantedFault;

/// Room that is offered to a read.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// With less room than this a frame that needs more gets it before it is read on.
const SPARE_BYTES_MIN: usize = 4 << 10;

/// The reading half of a connection.
pub(crate) struct FrameReader<S> {
    stream: S,
    buffer: BytesMut,
    purpose: Purpose,
    planted: Option<PlantedFault>,
}

impl<S: Stream> FrameReader<S> {
    /// Reads frames of a connection of that purpose. `buffer` has what was read behind the handshake.
    pub(crate) fn new(
        stream: S,
        buffer: BytesMut,
        purpose: Purpose,
        planted: Option<PlantedFault>,
    ) -> FrameReader<S> {
        FrameReader {
            stream,
            buffer,
            purpose,
            planted,
        }
    }

    /// The header at the front, once it is there.
    fn header(&self) -> Result<Option<Header>, FrameError> {
        match self.buffer.first_chunk::<HEADER_BYTES>() {
            Some(bytes) => Header::decode_planted(bytes, self.purpose, self.planted).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes of the message at the front, as soon as it is known that there is one.
    pub(crate) fn message_bytes(&self) -> Result<Option<usize>, FrameError> {
        let header = self.header()?;
        let message = header.filter(|header| header.kind == Kind::Message);
        Ok(message.map(|header| header.length as usize))
    }

    /// The next frame if it is there whole. Never waits.
    pub(crate) fn frame(&mut self) -> Result<Option<(Header, Bytes)>, FrameError> {
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        let length = header.length as usize;
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some((header, self.buffer.split_to(length).freeze())))
    }

    /// Reads once, waiting for at least one byte. False when the other side has finished.
    pub(crate) async fn fill(&mut self) -> Result<bool, FillError> {
        let missing = self.missing()?;
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < missing.min(SPARE_BYTES_MIN) {
            self.grow(missing);
        }
        match self.stream.read(&mut self.buffer).await? {
            0 if self.buffer.is_empty() => Ok(false),
            0 => Err(FrameError::Torn.into()),
            _ => Ok(true),
        }
    }

    /// Makes room for what is missing. A block is used up before the next. A frame longer than a block has its room doubled
    /// each time, but gets no more than it needs: whoever keeps its payload keeps all of the room.
    fn grow(&mut self, missing: usize) {
        let here = self.buffer.len();
        let whole = here + missing;
        if whole <= READ_BYTES {
            // The same block again, if nobody has kept a payload of it.
            self.buffer.reserve(READ_BYTES);
            return;
        }
        // `reserve` would round up.
        let mut room = BytesMut::with_capacity((2 * here).clamp(READ_BYTES, whole));
        room.extend_from_slice(&self.buffer);
        self.buffer = room;
    }

    /// Bytes without which the frame at the front is not whole: at least one.
    fn missing(&self) -> Result<usize, FrameError> {
        let whole = match self.header()? {
            Some(header) => HEADER_BYTES + header.length as usize,
            None => HEADER_BYTES,
        };
        let missing = whole.checked_sub(self.buffer.len());
        Ok(missing.expect("whole frames are taken before more is read"))
    }
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
