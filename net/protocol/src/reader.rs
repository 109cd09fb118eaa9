//! `Reader`: primitive types out of a frame, within a memory budget.
//!
//! Invariants: never reads past the frame; never allocates more than `memory_max(frame length)` over its life,
//! whatever counts the frame announces; byte strings are slices of the frame.
//! Source: Kafka's protocol guide ("Protocol Primitive Types"), KIP-482 for the compact forms.

use bytes::Bytes;

use crate::error::DecodeError;
use crate::text::{TEXT_BYTES_MAX, Text};

/// Most elements of one array.
pub const ARRAY_ELEMENTS_MAX: usize = 1_000_000;
/// Most tagged fields of one struct.
pub const TAGGED_FIELDS_MAX: usize = 10_000;
/// Decoded bytes allowed for each byte of the frame.
pub const MEMORY_PER_FRAME_BYTE: usize = 8;
/// Decoded bytes allowed for any frame, however small.
pub const MEMORY_FLOOR_BYTES: usize = 64 * 1024;
/// What the reference count of the frame itself may take, once.
const SHARE_BYTES: usize = 64;
/// Longest unsigned varint of 32 bits.
const VARINT_BYTES_MAX: usize = 5;

/// Most heap bytes that the decoded form of a frame may take, beside the frame itself.
pub const fn memory_max(frame_bytes: usize) -> usize {
    frame_bytes
        .saturating_mul(MEMORY_PER_FRAME_BYTE)
        .saturating_add(MEMORY_FLOOR_BYTES)
}

/// A cursor over one frame.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    /// The part not read yet; always a tail of `frame`, or of the tagged field being read.
    rest: &'a [u8],
    memory_left: usize,
    pub(crate) version: i16,
    pub(crate) flexible: bool,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `frame`.
    pub fn new(frame: &'a Bytes) -> Reader<'a> {
        Reader {
            frame,
            rest: frame,
            memory_left: memory_max(frame.len()) - SHARE_BYTES,
            version: 0,
            flexible: false,
        }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(DecodeError::UnexpectedEnd),
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(DecodeError::UnexpectedEnd),
        }
    }

    #[inline]
    pub(crate) fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// An unsigned varint of at most 32 bits.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u32::from(byte))
            }
            Some(_) => self.varint_long(),
            None => Err(DecodeError::UnexpectedEnd),
        }
    }

    fn varint_long(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for index in 0..VARINT_BYTES_MAX {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| DecodeError::VarintTooLong);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A compact length: the varint minus one, 0 being null.
    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.varint()?.checked_sub(1).map(|length| length as usize))
    }

    /// Length of a byte string or count of an array: i32, or compact if flexible.
    #[inline]
    fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return self.compact_length();
        }
        signed_length(self.i32()?)
    }

    /// A slice of the frame, shared.
    #[inline]
    fn shared(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let slice = self.take(length)?;
        if slice.is_empty() {
            return Ok(Bytes::new());
        }
        Ok(self.frame.slice_ref(slice))
    }

    /// A nullable byte string.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match self.length()? {
            Some(length) => Ok(Some(self.shared(length)?)),
            None => Ok(None),
        }
    }

    /// A nullable string.
    #[inline]
    pub(crate) fn text(&mut self) -> Result<Option<Text>, DecodeError> {
        let length = if self.flexible {
            self.compact_length()?
        } else {
            signed_length(i32::from(self.i16()?))?
        };
        self.text_of(length)
    }

    /// A nullable string with an i16 length, whatever the version: the client id of a request header.
    pub(crate) fn text_fixed(&mut self) -> Result<Option<Text>, DecodeError> {
        let length = signed_length(i32::from(self.i16()?))?;
        self.text_of(length)
    }

    #[inline]
    fn text_of(&mut self, length: Option<usize>) -> Result<Option<Text>, DecodeError> {
        match length {
            None => Ok(None),
            Some(length) if length > TEXT_BYTES_MAX => Err(DecodeError::TextTooLong(length)),
            Some(length) => Ok(Some(Text::from_utf8(self.shared(length)?)?)),
        }
    }

    /// The count of an array whose elements take at least `wire_bytes_min` each on the wire and `memory_bytes` each
    /// in memory. The caller may reserve that many: they are charged to the budget here.
    pub(crate) fn element_count(
        &mut self,
        wire_bytes_min: usize,
        memory_bytes: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length()? else {
            return Ok(None);
        };
        if count > ARRAY_ELEMENTS_MAX || count > self.remaining() / wire_bytes_min.max(1) {
            return Err(DecodeError::ArrayTooLong(count));
        }
        // Neither factor can be large here, so the product cannot overflow.
        self.memory_left = self
            .memory_left
            .checked_sub(count * memory_bytes)
            .ok_or(DecodeError::MemoryBudget)?;
        Ok(Some(count))
    }

    /// Reads the tagged fields that end a flexible struct. `known` decodes the tag it is given and says whether it
    /// knew it; what it does not know is skipped without being kept.
    #[inline]
    pub(crate) fn tagged_fields(
        &mut self,
        known: impl FnMut(&mut Reader<'a>, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        match self.varint()? {
            0 => Ok(()),
            count => self.tagged_fields_some(count as usize, known),
        }
    }

    fn tagged_fields_some(
        &mut self,
        count: usize,
        mut known: impl FnMut(&mut Reader<'a>, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if count > TAGGED_FIELDS_MAX {
            return Err(DecodeError::TooManyTaggedFields(count));
        }
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let field = self.take(size)?;
            let after = std::mem::replace(&mut self.rest, field);
            if known(self, tag)? && !self.rest.is_empty() {
                return Err(DecodeError::TaggedFieldSize(tag));
            }
            self.rest = after;
        }
        Ok(())
    }
}

#[inline]
fn signed_length(length: i32) -> Result<Option<usize>, DecodeError> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length)
            .map(Some)
            .map_err(|_| DecodeError::NegativeLength(length)),
    }
}
