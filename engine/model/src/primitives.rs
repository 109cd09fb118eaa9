//! Varints, strings, byte fields, tagged fields and fixed integers, as Kafka writes them.
//!
//! Pure. [`Reader`] never panics, never allocates and never reads past its slice: what it returns borrows from the input.
//! The write functions are the exact inverse and append to any [`BufMut`].
//! Sources: kafka.apache.org/protocol (primitive types), KIP-482 (compact types and tagged fields).

use bytes::BufMut;

use crate::ids::TopicId;

/// Bytes of the longest 32-bit varint.
pub const VARINT_BYTES_MAX: usize = 5;
/// Bytes of the longest 64-bit varint.
pub const VARLONG_BYTES_MAX: usize = 10;

/// Why a primitive could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrimitiveError {
    /// The input ends before the value does.
    #[error("the input ends inside a value")]
    Underflow,
    /// A varint has more bits than its type.
    #[error("a varint is too long")]
    VarintTooLong,
    /// A length below what its type allows.
    #[error("a length is negative")]
    NegativeLength,
    /// A null where the field must be present.
    #[error("a value is null where it must not be")]
    UnexpectedNull,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// An array announces more elements than the remaining bytes can hold.
    #[error("an array is longer than its input")]
    ArrayTooLong,
    /// Tags of tagged fields must ascend.
    #[error("tagged fields are not in ascending order")]
    TagsUnordered,
}

/// Reads primitives from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $name(&mut self) -> Result<$type, PrimitiveError> {
                Ok(<$type>::from_be_bytes(self.array()?))
            }
        )*
    };
}

impl<'a> Reader<'a> {
    /// A reader at the front of `input`.
    #[inline(always)]
    pub fn new(input: &'a [u8]) -> Reader<'a> {
        Reader { rest: input }
    }

    /// What has not been read yet.
    #[inline(always)]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Count of bytes not read yet.
    #[inline(always)]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `N` bytes.
    #[inline(always)]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], PrimitiveError> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(PrimitiveError::Underflow)?;
        self.rest = tail;
        Ok(*head)
    }

    /// The next `count` bytes.
    #[inline(always)]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], PrimitiveError> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or(PrimitiveError::Underflow)?;
        self.rest = tail;
        Ok(head)
    }

    fixed! {
        /// An unsigned byte.
        u8 -> u8;
        /// A signed byte.
        i8 -> i8;
        /// A big-endian unsigned 16-bit integer.
        u16 -> u16;
        /// A big-endian 16-bit integer.
        i16 -> i16;
        /// A big-endian unsigned 32-bit integer.
        u32 -> u32;
        /// A big-endian 32-bit integer.
        i32 -> i32;
        /// A big-endian unsigned 64-bit integer.
        u64 -> u64;
        /// A big-endian 64-bit integer.
        i64 -> i64;
        /// A big-endian IEEE 754 double.
        f64 -> f64;
    }

    /// A boolean: any byte but 0 is true.
    #[inline(always)]
    pub fn bool(&mut self) -> Result<bool, PrimitiveError> {
        Ok(self.u8()? != 0)
    }

    /// A UUID, most significant byte first.
    pub fn uuid(&mut self) -> Result<TopicId, PrimitiveError> {
        Ok(TopicId(self.array()?))
    }

    /// An unsigned varint of at most 32 bits.
    #[inline(always)]
    pub fn uvarint(&mut self) -> Result<u32, PrimitiveError> {
        match self.rest {
            [a, tail @ ..] if *a < 0x80 => {
                self.rest = tail;
                Ok(u32::from(*a))
            }
            [a, b, tail @ ..] if *b < 0x80 => {
                self.rest = tail;
                Ok(u32::from(*a & 0x7f) | u32::from(*b) << 7)
            }
            _ => self.uvarint_long(),
        }
    }

    #[cold]
    fn uvarint_long(&mut self) -> Result<u32, PrimitiveError> {
        let mut value = 0u32;
        for index in 0..VARINT_BYTES_MAX {
            let byte = self.u8()?;
            if index == VARINT_BYTES_MAX - 1 && byte > 0x0f {
                return Err(PrimitiveError::VarintTooLong);
            }
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(PrimitiveError::VarintTooLong)
    }

    /// An unsigned varint of at most 64 bits.
    #[inline(always)]
    pub fn uvarlong(&mut self) -> Result<u64, PrimitiveError> {
        match self.rest {
            [a, tail @ ..] if *a < 0x80 => {
                self.rest = tail;
                Ok(u64::from(*a))
            }
            [a, b, tail @ ..] if *b < 0x80 => {
                self.rest = tail;
                Ok(u64::from(*a & 0x7f) | u64::from(*b) << 7)
            }
            _ => self.uvarlong_long(),
        }
    }

    fn uvarlong_long(&mut self) -> Result<u64, PrimitiveError> {
        let mut value = 0u64;
        for index in 0..VARLONG_BYTES_MAX {
            let byte = self.u8()?;
            if index == VARLONG_BYTES_MAX - 1 && byte > 0x01 {
                return Err(PrimitiveError::VarintTooLong);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(PrimitiveError::VarintTooLong)
    }

    /// A zig-zag varint of at most 32 bits.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<i32, PrimitiveError> {
        Ok(unzigzag(self.uvarint()?))
    }

    /// A zig-zag varint of at most 64 bits.
    #[inline(always)]
    pub fn varlong(&mut self) -> Result<i64, PrimitiveError> {
        Ok(unzigzag_long(self.uvarlong()?))
    }

    /// A length as compact types write it: `None` is null (0), else length + 1.
    pub fn compact_length(&mut self) -> Result<Option<usize>, PrimitiveError> {
        Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize))
    }

    /// Count of elements of a non-null compact array whose elements take at least `element_bytes_min` bytes each.
    ///
    /// The count is checked against the remaining input, so that it may size an allocation.
    pub fn compact_array_count(
        &mut self,
        element_bytes_min: usize,
    ) -> Result<usize, PrimitiveError> {
        let count = self
            .compact_length()?
            .ok_or(PrimitiveError::UnexpectedNull)?;
        self.check_count(count, element_bytes_min)
    }

    /// Count of elements of a non-null classic array (i32 count), checked as in [`Reader::compact_array_count`].
    pub fn array_count(&mut self, element_bytes_min: usize) -> Result<usize, PrimitiveError> {
        let count = usize::try_from(self.i32()?).map_err(|_| PrimitiveError::NegativeLength)?;
        self.check_count(count, element_bytes_min)
    }

    fn check_count(&self, count: usize, element_bytes_min: usize) -> Result<usize, PrimitiveError> {
        match count.checked_mul(element_bytes_min.max(1)) {
            Some(bytes) if bytes <= self.remaining() => Ok(count),
            _ => Err(PrimitiveError::ArrayTooLong),
        }
    }

    /// Compact bytes that may be null.
    pub fn compact_nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, PrimitiveError> {
        match self.compact_length()? {
            None => Ok(None),
            Some(length) => Ok(Some(self.take(length)?)),
        }
    }

    /// Compact bytes.
    pub fn compact_bytes(&mut self) -> Result<&'a [u8], PrimitiveError> {
        self.compact_nullable_bytes()?
            .ok_or(PrimitiveError::UnexpectedNull)
    }

    /// A compact string that may be null.
    pub fn compact_nullable_string(&mut self) -> Result<Option<&'a str>, PrimitiveError> {
        self.compact_nullable_bytes()?.map(utf8).transpose()
    }

    /// A compact string.
    pub fn compact_string(&mut self) -> Result<&'a str, PrimitiveError> {
        self.compact_nullable_string()?
            .ok_or(PrimitiveError::UnexpectedNull)
    }

    /// Classic bytes (i32 length) that may be null (-1).
    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, PrimitiveError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| PrimitiveError::NegativeLength)?;
                Ok(Some(self.take(length)?))
            }
        }
    }

    /// Classic bytes (i32 length).
    pub fn bytes(&mut self) -> Result<&'a [u8], PrimitiveError> {
        self.nullable_bytes()?.ok_or(PrimitiveError::UnexpectedNull)
    }

    /// A classic string (i16 length) that may be null (-1).
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, PrimitiveError> {
        match self.i16()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| PrimitiveError::NegativeLength)?;
                Ok(Some(utf8(self.take(length)?)?))
            }
        }
    }

    /// A classic string (i16 length).
    pub fn string(&mut self) -> Result<&'a str, PrimitiveError> {
        self.nullable_string()?
            .ok_or(PrimitiveError::UnexpectedNull)
    }

    /// Bytes with a zig-zag varint length, -1 is null: the form inside records.
    #[inline(always)]
    pub fn varint_nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, PrimitiveError> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| PrimitiveError::NegativeLength)?;
                Ok(Some(self.take(length)?))
            }
        }
    }

    /// The next tagged field: call `tagged_field_count` times after reading that count.
    pub fn tagged_field(&mut self) -> Result<(u32, &'a [u8]), PrimitiveError> {
        let tag = self.uvarint()?;
        let size = self.uvarint()? as usize;
        Ok((tag, self.take(size)?))
    }

    /// Calls `on_field` for each tagged field of a struct; unknown tags are the caller's to ignore.
    pub fn tagged_fields<E: From<PrimitiveError>>(
        &mut self,
        mut on_field: impl FnMut(u32, &'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let count = self.uvarint()? as usize;
        // The smallest tagged field takes two bytes.
        let count = self.check_count(count, 2)?;
        let mut previous: Option<u32> = None;
        for _ in 0..count {
            let (tag, payload) = self.tagged_field()?;
            if previous.is_some_and(|previous| previous >= tag) {
                return Err(PrimitiveError::TagsUnordered.into());
            }
            previous = Some(tag);
            on_field(tag, payload)?;
        }
        Ok(())
    }

    /// Skips the tagged fields of a struct.
    pub fn skip_tagged_fields(&mut self) -> Result<(), PrimitiveError> {
        self.tagged_fields(|_, _| Ok(()))
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, PrimitiveError> {
    std::str::from_utf8(bytes).map_err(|_| PrimitiveError::NotUtf8)
}

/// Undoes [`zigzag`].
#[inline(always)]
pub fn unzigzag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Undoes [`zigzag_long`].
#[inline(always)]
pub fn unzigzag_long(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Maps small magnitudes to small numbers: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline(always)]
pub fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

/// [`zigzag`] for 64 bits.
#[inline(always)]
pub fn zigzag_long(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Bytes that [`put_uvarlong`] writes, and [`put_uvarint`] for the same value.
#[inline(always)]
pub fn uvarlong_size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes that [`put_varint`] writes.
#[inline(always)]
pub fn varint_size(value: i32) -> usize {
    uvarlong_size(u64::from(zigzag(value)))
}

/// Bytes that [`put_varlong`] writes.
#[inline(always)]
pub fn varlong_size(value: i64) -> usize {
    uvarlong_size(zigzag_long(value))
}

/// Appends an unsigned varint.
#[inline(always)]
pub fn put_uvarint(out: &mut impl BufMut, value: u32) {
    put_uvarlong(out, u64::from(value));
}

/// Appends an unsigned 64-bit varint.
#[inline(always)]
pub fn put_uvarlong(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends a zig-zag varint.
#[inline(always)]
pub fn put_varint(out: &mut impl BufMut, value: i32) {
    put_uvarint(out, zigzag(value));
}

/// Appends a zig-zag 64-bit varint.
#[inline(always)]
pub fn put_varlong(out: &mut impl BufMut, value: i64) {
    put_uvarlong(out, zigzag_long(value));
}

/// Appends the count of a compact array.
///
/// Panics if `count` does not fit the wire; lengths come from memory we built, never from input.
pub fn put_compact_count(out: &mut impl BufMut, count: usize) {
    let count = u32::try_from(count)
        .ok()
        .and_then(|count| count.checked_add(1));
    put_uvarint(out, count.expect("a compact length has at most 32 bits"));
}

/// Appends compact bytes, `None` as null.
pub fn put_compact_nullable_bytes(out: &mut impl BufMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_uvarint(out, 0),
        Some(bytes) => {
            put_compact_count(out, bytes.len());
            out.put_slice(bytes);
        }
    }
}

/// Appends compact bytes.
pub fn put_compact_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    put_compact_nullable_bytes(out, Some(bytes));
}

/// Appends a compact string, `None` as null.
pub fn put_compact_nullable_string(out: &mut impl BufMut, text: Option<&str>) {
    put_compact_nullable_bytes(out, text.map(str::as_bytes));
}

/// Appends a compact string.
pub fn put_compact_string(out: &mut impl BufMut, text: &str) {
    put_compact_nullable_bytes(out, Some(text.as_bytes()));
}

/// Appends classic bytes (i32 length), `None` as null. Panics beyond 2 GiB.
pub fn put_nullable_bytes(out: &mut impl BufMut, bytes: Option<&[u8]>) {
    match bytes {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(i32::try_from(bytes.len()).expect("bytes have at most 2^31 - 1 bytes"));
            out.put_slice(bytes);
        }
    }
}

/// Appends a classic string (i16 length), `None` as null. Panics beyond 32,767 bytes: the caller has checked.
pub fn put_nullable_string(out: &mut impl BufMut, text: Option<&str>) {
    match text {
        None => out.put_i16(-1),
        Some(text) => {
            out.put_i16(i16::try_from(text.len()).expect("a string has at most 32,767 bytes"));
            out.put_slice(text.as_bytes());
        }
    }
}

/// Appends a classic string (i16 length). Panics beyond 32,767 bytes: the caller has checked.
pub fn put_string(out: &mut impl BufMut, text: &str) {
    put_nullable_string(out, Some(text));
}

/// Appends bytes with a zig-zag varint length, `None` as -1: the form inside records. Panics beyond 2 GiB.
#[inline]
pub fn put_varint_nullable_bytes(out: &mut impl BufMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(
                out,
                i32::try_from(bytes.len()).expect("at most 2^31 - 1 bytes"),
            );
            out.put_slice(bytes);
        }
    }
}

/// Appends a UUID, most significant byte first.
pub fn put_uuid(out: &mut impl BufMut, id: TopicId) {
    out.put_slice(&id.0);
}

/// Appends "no tagged fields".
pub fn put_no_tagged_fields(out: &mut impl BufMut) {
    out.put_u8(0);
}

/// Appends tagged fields, which must come in ascending order of their tags.
pub fn put_tagged_fields(out: &mut impl BufMut, fields: &[(u32, &[u8])]) {
    debug_assert!(fields.is_sorted_by(|a, b| a.0 < b.0), "tags ascend");
    put_uvarint(out, u32::try_from(fields.len()).expect("few tagged fields"));
    for (tag, payload) in fields {
        put_uvarint(out, *tag);
        put_uvarint(
            out,
            u32::try_from(payload.len()).expect("a tagged field has at most 32 bits"),
        );
        out.put_slice(payload);
    }
}
