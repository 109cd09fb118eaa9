//! The bytes of a request and of its answer, within their frames.
//!
//! Pure. A request is `checksum u32 | body`, an answer `checksum u32 | status u8 | body`; the checksum (CRC-32C) covers what
//! is behind it, because these bodies carry none of their own. A body is there only with status 0.

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::FrameError;
use crate::payload::Payload;
use crate::ticket::CallError;

const CHECKSUM_BYTES: usize = 4;
const ANSWER_HEAD_BYTES: usize = CHECKSUM_BYTES + 1;

const ANSWERED: u8 = 0;
const GIVEN_UP: u8 = 1;
const NOT_TAKEN: u8 = 2;

/// Why the other side has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It took the request.
    GivenUp,
    /// It did not.
    NotTaken,
}

impl From<NoAnswer> for CallError {
    fn from(no: NoAnswer) -> CallError {
        match no {
            NoAnswer::GivenUp => CallError::GivenUp,
            NoAnswer::NotTaken => CallError::NotTaken,
        }
    }
}

fn checksum(status: &[u8], body: &Payload) -> u32 {
    let pieces = body.pieces().iter();
    pieces.fold(crc32c::crc32c(status), |sum, piece| {
        crc32c::crc32c_append(sum, piece)
    })
}

pub(crate) fn request(body: Payload) -> Payload {
    let head = checksum(&[], &body).to_be_bytes();
    body.behind(Bytes::copy_from_slice(&head))
}

pub(crate) fn read_request(payload: &Bytes) -> Result<Bytes, FrameError> {
    let head = payload.first_chunk::<CHECKSUM_BYTES>();
    let expected = u32::from_be_bytes(*head.ok_or(FrameError::Meaningless)?);
    let body = payload.slice(CHECKSUM_BYTES..);
    if crc32c::crc32c(&body) != expected {
        return Err(FrameError::Payload);
    }
    Ok(body)
}

pub(crate) fn answer(answer: Result<Payload, NoAnswer>) -> Payload {
    let (status, body) = match answer {
        Ok(body) => (ANSWERED, body),
        Err(NoAnswer::GivenUp) => (GIVEN_UP, Payload::default()),
        Err(NoAnswer::NotTaken) => (NOT_TAKEN, Payload::default()),
    };
    let mut head = BytesMut::with_capacity(ANSWER_HEAD_BYTES);
    head.put_u32(checksum(&[status], &body));
    head.put_u8(status);
    body.behind(head.freeze())
}

pub(crate) fn read_answer(payload: &Bytes) -> Result<Result<Bytes, NoAnswer>, FrameError> {
    let checked = read_request(payload)?;
    let status = checked.first().copied().ok_or(FrameError::Meaningless)?;
    let body = checked.slice(1..);
    match status {
        ANSWERED => Ok(Ok(body)),
        GIVEN_UP if body.is_empty() => Ok(Err(NoAnswer::GivenUp)),
        NOT_TAKEN if body.is_empty() => Ok(Err(NoAnswer::NotTaken)),
        _ => Err(FrameError::Meaningless),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(payload: Payload) -> Bytes {
        payload.into_pieces().concat().into()
    }

    #[test]
    fn requests_and_answers_have_fixed_bytes_and_come_back() {
        let body = Payload::from(vec![
            Bytes::from_static(b"12345"),
            Bytes::from_static(b"6789"),
        ]);
        let bytes = flat(request(body.clone()));
        // The check value of CRC-32C.
        assert_eq!(&bytes[..], b"\xe3\x06\x92\x83123456789");
        assert_eq!(read_request(&bytes).unwrap(), "123456789");
        for sent in [Ok(body), Err(NoAnswer::GivenUp), Err(NoAnswer::NotTaken)] {
            let bytes = flat(answer(sent.clone()));
            assert_eq!(read_answer(&bytes).unwrap(), sent.map(flat));
        }
    }

    #[test]
    fn every_damage_of_one_bit_is_found() {
        let bytes = flat(answer(Ok(Bytes::from_static(b"body").into())));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_answer(&damaged.into()), Err(FrameError::Payload));
        }
        for length in 0..CHECKSUM_BYTES {
            let cut = bytes.slice(..length);
            assert_eq!(read_answer(&cut), Err(FrameError::Meaningless));
        }
        let empty = flat(request(Payload::default()));
        assert_eq!(read_answer(&empty), Err(FrameError::Meaningless));
    }
}
