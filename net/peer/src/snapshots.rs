//! Serving snapshots in pieces, and the bytes of questions and pieces.
//!
//! One shard. A snapshot is named and never changes. Within the request's body, big-endian: `offset u64 | length u32 | name`;
//! within the answer's: `status u8`, then with status 0 `total u64 | offset u64 | bytes`. The checksum around both is that of
//! every request (`call_codec.rs`).

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use model::primitives::{PrimitiveError, Reader};
use runtime::{Io, TaskClass};

use crate::connection::Remote;
use crate::payload::Payload;
use crate::purpose::CHUNK_BYTES_MAX;
use crate::requests::{Reply, RequestHandler};

/// Longest name of a snapshot.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a piece beside its contents.
const PIECE_HEAD_BYTES: usize = 17;
/// What is asked for at a time: an answer with it is within its bound.
pub(crate) const PIECE_BYTES: usize = CHUNK_BYTES_MAX - PIECE_HEAD_BYTES;

const HERE: u8 = 0;
const UNKNOWN: u8 = 1;
const FAILED: u8 = 2;

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the whole snapshot.
    pub total: u64,
    /// From the offset that was asked for.
    pub bytes: Bytes,
}

/// Why there is no piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPiece {
    /// There is no snapshot of that name, or no more.
    Unknown,
    /// It cannot be read now.
    Failed,
}

/// Has snapshots.
#[allow(async_fn_in_trait)]
pub trait SnapshotSource: 'static {
    /// Reads up to `length` bytes at `offset`; fewer only where the snapshot ends, none behind its end.
    async fn read(&self, name: &str, offset: u64, length: usize) -> Result<Piece, NoPiece>;
}

/// Answers questions for pieces.
pub(crate) struct Pieces<I, S> {
    io: I,
    source: Rc<S>,
}

impl<I: Io, S: SnapshotSource> Pieces<I, S> {
    pub(crate) fn new(io: I, source: S) -> Pieces<I, S> {
        Pieces {
            io,
            source: Rc::new(source),
        }
    }
}

impl<I: Io, S: SnapshotSource> RequestHandler for Pieces<I, S> {
    fn handle(&self, from: Remote, request: Bytes, reply: Reply) {
        let source = self.source.clone();
        self.io.spawn(TaskClass::Background, async move {
            let piece = match Question::decode(&request) {
                Ok(question) => question.answer(&*source).await,
                Err(_) => Err(NoPiece::Failed),
            };
            if let Err(no) = piece {
                let node = from.identity.node();
                tracing::info!(%node, ?no, "a piece of a snapshot was not sent");
            }
            let fits = reply.answer(encode_piece(piece));
            assert!(fits, "a piece is no longer than was asked for");
        });
    }
}

/// Asks for a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) name: String,
}

impl Question {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64(self.offset);
        out.put_u32(self.length);
        out.put_slice(self.name.as_bytes());
        out.freeze()
    }

    fn decode(body: &[u8]) -> Result<Question, PrimitiveError> {
        let mut reader = Reader::new(body);
        let (offset, length) = (reader.u64()?, reader.u32()?);
        let name = std::str::from_utf8(reader.rest()).map_err(|_| PrimitiveError::NotUtf8)?;
        Ok(Question {
            offset,
            length,
            name: name.to_owned(),
        })
    }

    async fn answer<S: SnapshotSource>(&self, source: &S) -> Result<(u64, Piece), NoPiece> {
        let length = (self.length as usize).min(PIECE_BYTES);
        let piece = source.read(&self.name, self.offset, length).await?;
        assert!(
            piece.bytes.len() <= length,
            "a source reads no more than that"
        );
        Ok((self.offset, piece))
    }
}

fn encode_piece(piece: Result<(u64, Piece), NoPiece>) -> Payload {
    let mut head = BytesMut::with_capacity(PIECE_HEAD_BYTES);
    match piece {
        Ok((offset, piece)) => {
            head.put_u8(HERE);
            head.put_u64(piece.total);
            head.put_u64(offset);
            Payload::from(vec![head.freeze(), piece.bytes])
        }
        Err(NoPiece::Unknown) => Bytes::from_static(&[UNKNOWN]).into(),
        Err(NoPiece::Failed) => Bytes::from_static(&[FAILED]).into(),
    }
}

/// `None` if it means nothing. A snapshot may end before the place that was asked for.
pub(crate) fn decode_piece(body: &Bytes, asked: u64) -> Option<Result<Piece, NoPiece>> {
    let mut reader = Reader::new(body);
    let piece = match reader.u8().ok()? {
        HERE => {
            let (total, offset) = (reader.u64().ok()?, reader.u64().ok()?);
            let bytes = body.slice(body.len() - reader.remaining()..);
            let end = offset.checked_add(bytes.len() as u64)?;
            if offset != asked || (end > total && !bytes.is_empty()) {
                return None;
            }
            return Some(Ok(Piece { total, bytes }));
        }
        UNKNOWN => NoPiece::Unknown,
        FAILED => NoPiece::Failed,
        _ => return None,
    };
    reader.is_empty().then_some(Err(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(payload: Payload) -> Bytes {
        payload.into_pieces().concat().into()
    }

    #[test]
    fn questions_and_pieces_have_fixed_bytes_and_come_back() {
        let question = Question {
            offset: 258,
            length: 7,
            name: "s-1".to_owned(),
        };
        let bytes = question.encode();
        assert_eq!(&bytes[..], b"\0\0\0\0\0\0\x01\x02\0\0\0\x07s-1");
        assert_eq!(Question::decode(&bytes), Ok(question));
        for length in 0..12 {
            assert!(Question::decode(&bytes[..length]).is_err());
        }
        let piece = Piece {
            total: 9,
            bytes: Bytes::from_static(b"xyz"),
        };
        let bytes = flat(encode_piece(Ok((6, piece.clone()))));
        assert_eq!(&bytes[..], b"\0\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x06xyz");
        assert_eq!(decode_piece(&bytes, 6), Some(Ok(piece)));
        assert_eq!(decode_piece(&bytes, 5), None, "another place");
        for no in [NoPiece::Unknown, NoPiece::Failed] {
            let bytes = flat(encode_piece(Err(no)));
            assert_eq!(decode_piece(&bytes, 6), Some(Err(no)));
        }
        for hostile in [
            &b""[..],
            b"\x03",
            b"\x01\0",
            b"\0",
            b"\0\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x06xyz",
            b"\0\0\0\0\0\0\0\0\x09\xff\xff\xff\xff\xff\xff\xff\xffx",
        ] {
            assert_eq!(decode_piece(&Bytes::from_static(hostile), 6), None);
        }
    }
}
