//! The bytes around everything that travels on a connection after its handshake.
//!
//! Pure. Big-endian: `length u32 | kind u8 | flags u8 | number u64 | checksum u32 | payload`. The checksum (CRC-32C) covers the
//! header before it, so that no wrong length is ever followed; payloads carry checksums of their own (records and raft
//! messages have them, requests and answers get them in `requests.rs`). `net/peer/README.md` has the numbers.
//!
//! Invariants: a header that decodes is within the bounds of its connection's purpose; numbers of one kind and direction
//! only grow, and those of messages without a gap, so a frame that is lost or comes twice ends its connection.

use bytes::{BufMut, Bytes, BytesMut};
use model::primitives::Reader;

use crate::purpose::{Kind, Purpose};
use crate::settings::PlantedFault;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 18;
const CHECKED_BYTES: usize = HEADER_BYTES - 4;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub length: u32,
    /// What it is.
    pub kind: Kind,
    /// Of a message: its place on the connection in this direction, from 1. Of a request: greater than those before. Of an
    /// answer: the request's. Of pings and pongs likewise.
    pub number: u64,
}

/// Why a frame is refused. Its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the checksum of a header differs")]
    Checksum,
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    #[error("flags {0:#04x} have no meaning")]
    Flags(u8),
    #[error("a {kind:?} does not belong on a connection of purpose {purpose:?} in this direction")]
    Misplaced {
        /// What came.
        kind: Kind,
        /// What the connection is for.
        purpose: Purpose,
    },
    #[error("a {kind:?} of {length} bytes is too long")]
    TooLong {
        /// What came.
        kind: Kind,
        /// Its payload's announced length.
        length: u32,
    },
    #[error("a {kind:?} has number {found} behind {last}")]
    Number {
        /// What came.
        kind: Kind,
        /// The number before.
        last: u64,
        /// The number it has.
        found: u64,
    },
    #[error("the connection ends inside a frame")]
    Torn,
    #[error("the checksum of a payload differs")]
    Payload,
    #[error("a payload that means nothing")]
    Meaningless,
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES);
        bytes.put_u32(self.length);
        bytes.put_u8(self.kind.code());
        bytes.put_u8(0);
        bytes.put_u64(self.number);
        let checksum = crc32c::crc32c(&bytes);
        bytes.put_u32(checksum);
        bytes.freeze()
    }

    /// Reads a header and holds it against what may travel on a connection of that purpose.
    pub fn decode(bytes: &[u8; HEADER_BYTES], purpose: Purpose) -> Result<Header, FrameError> {
        Header::decode_planted(bytes, purpose, None)
    }

    pub(crate) fn decode_planted(
        bytes: &[u8; HEADER_BYTES],
        purpose: Purpose,
        planted: Option<PlantedFault>,
    ) -> Result<Header, FrameError> {
        let mut reader = Reader::new(bytes);
        // A header has its size: none of these reads can fail.
        let mut read = || -> Result<_, model::primitives::PrimitiveError> {
            Ok((
                reader.u32()?,
                reader.u8()?,
                reader.u8()?,
                reader.u64()?,
                reader.u32()?,
            ))
        };
        let (length, kind, flags, number, checksum) = read().map_err(|_| FrameError::Torn)?;
        let is_checked = planted != Some(PlantedFault::HeaderUnchecked);
        if is_checked && checksum != crc32c::crc32c(&bytes[..CHECKED_BYTES]) {
            return Err(FrameError::Checksum);
        }
        let kind = Kind::from_code(kind).ok_or(FrameError::Kind(kind))?;
        if flags != 0 {
            return Err(FrameError::Flags(flags));
        }
        let most = purpose
            .payload_bytes_max(kind)
            .ok_or(FrameError::Misplaced { kind, purpose })?;
        if length as usize > most {
            return Err(FrameError::TooLong { kind, length });
        }
        Ok(Header {
            length,
            kind,
            number,
        })
    }
}

/// The numbers of what has come on one connection, by kind.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    message: u64,
    request: u64,
    ping: u64,
}

impl Numbers {
    /// Takes note of a frame, which must stand behind those before it. Answers and pongs name what they answer and are not
    /// looked at here.
    pub fn check(&mut self, header: &Header) -> Result<(), FrameError> {
        let (last, is_dense) = match header.kind {
            Kind::Message => (&mut self.message, true),
            Kind::Request => (&mut self.request, false),
            Kind::Ping => (&mut self.ping, false),
            Kind::Answer | Kind::Pong => return Ok(()),
        };
        let follows = if is_dense {
            last.checked_add(1) == Some(header.number)
        } else {
            header.number > *last
        };
        if !follows {
            return Err(FrameError::Number {
                kind: header.kind,
                last: *last,
                found: header.number,
            });
        }
        *last = header.number;
        Ok(())
    }
}
