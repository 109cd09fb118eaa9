//! A record that lies in more than one piece of a decompressed batch.
//!
//! Read token by token: what a token needs is a few bytes, and keys, values and headers are only counted down.
//! Invariant: `left` is what remains of the record's own length, and nothing is read beyond it.

use crate::primitives::{PrimitiveError, Reader, VARINT_BYTES_MAX, VARLONG_BYTES_MAX};

use super::walk::Fields;

/// Attributes, both deltas and the length of the key: the longest token.
pub(super) const TOKEN_BYTES_MAX: usize = 1 + VARLONG_BYTES_MAX + 2 * VARINT_BYTES_MAX;

/// What is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(super) enum PartialError {
    Primitive(PrimitiveError),
    /// The fields do not fill the record.
    Overlong,
}

/// What comes next.
#[derive(Clone, Copy)]
enum Token {
    Front,
    ValueLength,
    HeaderCount,
    HeaderKeyLength { headers: u32 },
    HeaderValueLength { headers: u32 },
    End,
}

pub(super) struct PartialRecord {
    left: u32,
    /// Bytes to pass over before the next token.
    skip: u32,
    next: Token,
    fields: Fields,
}

impl PartialRecord {
    /// A record of which the length has been read.
    pub(super) fn new(length: u32) -> PartialRecord {
        PartialRecord {
            left: length,
            skip: 0,
            next: Token::Front,
            fields: Fields {
                timestamp_delta: 0,
                offset_delta: 0,
                has_key: false,
            },
        }
    }

    /// Goes on as far as `rest` goes. Gives the fields at the record's end.
    pub(super) fn read(&mut self, rest: &mut Reader<'_>) -> Result<Option<Fields>, PartialError> {
        loop {
            let skipped = rest.remaining().min(self.skip as usize);
            rest.take(skipped).map_err(PartialError::Primitive)?;
            // It is at most `skip`, and `skip` at most `left`.
            self.skip -= skipped as u32;
            self.left -= skipped as u32;
            if self.skip > 0 {
                return Ok(None);
            }
            if matches!(self.next, Token::End) {
                return if self.left == 0 {
                    Ok(Some(self.fields))
                } else {
                    Err(PartialError::Overlong)
                };
            }
            let whole = rest.remaining() >= self.left as usize;
            let here = rest.remaining().min(self.left as usize);
            let mut token = Reader::new(&rest.rest()[..here]);
            match self.token(&mut token) {
                Ok(()) => {}
                // More bytes may follow, unless there were enough for any token.
                Err(PrimitiveError::Underflow) if !whole && here < TOKEN_BYTES_MAX => {
                    return Ok(None);
                }
                Err(error) => return Err(PartialError::Primitive(error)),
            }
            let taken = here - token.remaining();
            rest.take(taken).map_err(PartialError::Primitive)?;
            self.left -= taken as u32;
            if self.skip > self.left {
                return Err(PartialError::Primitive(PrimitiveError::Underflow));
            }
        }
    }

    /// Reads one token. Changes nothing if it is not all there.
    fn token(&mut self, token: &mut Reader<'_>) -> Result<(), PrimitiveError> {
        let left = self.left as usize;
        match self.next {
            Token::Front => {
                token.u8()?;
                let timestamp_delta = token.varlong()?;
                let offset_delta = token.varint()?;
                let key = nullable_length(token)?;
                self.fields = Fields {
                    timestamp_delta,
                    offset_delta,
                    has_key: key.is_some(),
                };
                self.then(key, Token::ValueLength);
            }
            Token::ValueLength => {
                let value = nullable_length(token)?;
                self.then(value, Token::HeaderCount);
            }
            Token::HeaderCount => {
                let before = token.remaining();
                let headers =
                    u32::try_from(token.varint()?).map_err(|_| PrimitiveError::NegativeLength)?;
                // A header takes two bytes or more.
                if headers as usize > (left - (before - token.remaining())) / 2 {
                    return Err(PrimitiveError::ArrayTooLong);
                }
                self.next = headers_left(headers);
            }
            Token::HeaderKeyLength { headers } => {
                let key = nullable_length(token)?.ok_or(PrimitiveError::UnexpectedNull)?;
                self.then(Some(key), Token::HeaderValueLength { headers });
            }
            Token::HeaderValueLength { headers } => {
                let value = nullable_length(token)?;
                self.then(value, headers_left(headers - 1));
            }
            Token::End => {}
        }
        Ok(())
    }

    fn then(&mut self, skip: Option<u32>, next: Token) {
        self.skip = skip.unwrap_or(0);
        self.next = next;
    }
}

fn headers_left(headers: u32) -> Token {
    match headers {
        0 => Token::End,
        headers => Token::HeaderKeyLength { headers },
    }
}

/// The length of a field; `None` is null.
fn nullable_length(token: &mut Reader<'_>) -> Result<Option<u32>, PrimitiveError> {
    match token.varint()? {
        -1 => Ok(None),
        length => u32::try_from(length)
            .map(Some)
            .map_err(|_| PrimitiveError::NegativeLength),
    }
}
