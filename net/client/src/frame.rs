//! Cuts a byte stream into response frames.
//!
//! Owned by the one task that reads a connection. Invariants: a frame is handed out whole or not at all; memory grows
//! with the bytes that arrived, not with the length that was announced.

use bytes::{Buf as _, Bytes, BytesMut};
use model::MonotonicTime;
use runtime::Stream;

use crate::error::ClientError;

/// Bytes of the length that precedes every frame.
pub const LENGTH_BYTES: usize = 4;
/// Largest response accepted unless told otherwise: Kafka's `socket.request.max.bytes`, 100 MiB, which also bounds
/// what a fetch asks for.
pub const RESPONSE_BYTES_MAX: usize = 100 << 20;
/// Space offered to a read when nothing is known about what comes.
pub const READ_BYTES: usize = 64 << 10;
/// An announced length up to this is reserved at once; beyond it, space doubles as bytes arrive.
const RESERVE_BYTES_MAX: usize = 4 << 20;

/// The reading half of a connection.
pub struct FrameReader<S> {
    stream: S,
    buffer: BytesMut,
    frame_bytes_max: usize,
    read_bytes: usize,
}

impl<S: Stream> FrameReader<S> {
    /// Reads frames of at most `frame_bytes_max` bytes, offering at least `read_bytes` to each read.
    pub fn new(stream: S, frame_bytes_max: usize, read_bytes: usize) -> FrameReader<S> {
        FrameReader {
            stream,
            buffer: BytesMut::new(),
            frame_bytes_max,
            read_bytes: read_bytes.max(1),
        }
    }

    /// Offers so many bytes to each read from now on.
    pub fn offer(&mut self, read_bytes: usize) {
        self.read_bytes = read_bytes.max(1);
    }

    /// Reads once, waiting for at least one byte.
    pub async fn fill(&mut self) -> Result<(), ClientError> {
        let wanted = self.wanted();
        self.buffer.reserve(wanted);
        match self.stream.read(&mut self.buffer).await? {
            0 => Err(ClientError::Closed),
            _ => Ok(()),
        }
    }

    /// When the newest bytes of the last read arrived at this host, where the system notes it.
    pub fn arrived_at(&self) -> Option<MonotonicTime> {
        self.stream.arrived_at()
    }

    /// The next frame (without its length) if it has arrived whole. Never waits.
    pub fn frame(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(length) = self.announced()? else {
            return Ok(None);
        };
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Waits for the next frame.
    pub async fn next(&mut self) -> Result<Bytes, ClientError> {
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    fn announced(&self) -> Result<Option<usize>, ClientError> {
        let Some(head) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let announced = i32::from_be_bytes(*head);
        match usize::try_from(announced) {
            Ok(length) if length <= self.frame_bytes_max => Ok(Some(length)),
            _ => Err(ClientError::FrameLength {
                announced,
                limit: self.frame_bytes_max,
            }),
        }
    }

    /// Free space to offer to the next read.
    fn wanted(&self) -> usize {
        let have = self.buffer.len();
        let missing = match self.announced() {
            Ok(Some(length)) => (LENGTH_BYTES + length).saturating_sub(have),
            _ => 0,
        };
        missing
            .min(RESERVE_BYTES_MAX.max(have))
            .max(self.read_bytes)
    }
}
