//! `Writer`: primitive types into a frame, with record batches spliced in by reference.
//!
//! Everything but large record batches goes into one buffer; batches are remembered with the position where they
//! belong, so a fetch response is `[header, batch, header, batch, ...]` without a copy of the records.
//! The first thing that cannot be expressed is remembered and returned by `finish`: encoding itself cannot fail.

use bytes::Bytes;

use crate::error::EncodeError;
use crate::records::Records;
use crate::text::TEXT_BYTES_MAX;

/// Record slices shorter than this are copied: a copy costs less than one more entry of a vectored send.
pub const SPLICE_BYTES_MIN: usize = 2 * 1024;
/// Room for a small response without growing.
const HEAD_BYTES: usize = 256;
/// Length prefix of a frame.
const FRAME_LENGTH_BYTES: usize = 4;

/// Collects one frame.
#[derive(Debug)]
pub struct Writer {
    head: Vec<u8>,
    /// Slices that belong into `head` before the byte at the given position. Positions never decrease.
    splices: Vec<(usize, Bytes)>,
    splice_bytes: usize,
    error: Option<EncodeError>,
    pub(crate) version: i16,
    pub(crate) flexible: bool,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer::new()
    }
}

impl Writer {
    /// Starts a frame; its length is filled in by `finish`.
    pub fn new() -> Writer {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&[0; FRAME_LENGTH_BYTES]);
        Writer {
            head,
            splices: Vec::new(),
            splice_bytes: 0,
            error: None,
            version: 0,
            flexible: false,
        }
    }

    /// Remembers the first error.
    #[cold]
    pub(crate) fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(bytes);
    }

    #[inline]
    pub(crate) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.head.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.head.push(value as u8);
    }

    #[inline]
    fn compact_length(&mut self, length: Option<usize>) {
        match length {
            None => self.head.push(0),
            Some(length) => match i32::try_from(length) {
                Ok(length) => self.varint(length.unsigned_abs() + 1),
                Err(_) => self.fail(EncodeError::TooLong(length)),
            },
        }
    }

    /// Length of a byte string or count of an array: i32, or compact if flexible. `None` is null.
    #[inline]
    pub(crate) fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            return self.compact_length(length);
        }
        match length.map_or(Ok(-1), i32::try_from) {
            Ok(length) => self.put(&length.to_be_bytes()),
            Err(_) => self.fail(EncodeError::TooLong(length.unwrap_or_default())),
        }
    }

    /// A nullable string.
    #[inline]
    pub(crate) fn text(&mut self, text: Option<&[u8]>) {
        if !self.flexible {
            return self.text_fixed(text);
        }
        let bytes = text.unwrap_or_default();
        if bytes.len() > TEXT_BYTES_MAX {
            return self.fail(EncodeError::TextTooLong(bytes.len()));
        }
        self.compact_length(text.map(<[u8]>::len));
        self.put(bytes);
    }

    /// A nullable string with an i16 length, whatever the version: the client id of a request header.
    pub(crate) fn text_fixed(&mut self, text: Option<&[u8]>) {
        let bytes = text.unwrap_or_default();
        match text.map_or(Ok(-1), |bytes| i16::try_from(bytes.len())) {
            Ok(length) => self.put(&length.to_be_bytes()),
            Err(_) => return self.fail(EncodeError::TextTooLong(bytes.len())),
        }
        self.put(bytes);
    }

    /// Nullable record batches.
    pub(crate) fn records(&mut self, records: Option<&Records>) {
        self.length(records.map(Records::byte_count));
        for piece in records.map(Records::pieces).unwrap_or_default() {
            if piece.len() < SPLICE_BYTES_MIN {
                self.put(piece);
            } else {
                self.splice_bytes = self.splice_bytes.saturating_add(piece.len());
                self.splices.push((self.head.len(), piece.clone()));
            }
        }
    }

    /// Starts the tagged fields that end a flexible struct; returns where their count lies.
    #[inline]
    pub(crate) fn tagged_fields(&mut self) -> usize {
        let position = self.head.len();
        // The count is one byte: no struct of any schema has 128 tags.
        self.head.push(0);
        position
    }

    /// Writes one tagged field and counts it at `fields`. Tags must come in ascending order. No schema has records in
    /// a tagged field, so what moves here moves no splice.
    pub(crate) fn tagged_field(
        &mut self,
        fields: usize,
        tag: u32,
        content: impl FnOnce(&mut Writer),
    ) {
        self.head[fields] += 1;
        self.varint(tag);
        // The size comes before the content: leave the usual one byte for it, and make room if it needs more.
        let size_at = self.head.len();
        self.head.push(0);
        content(self);
        let size = self.head.len() - size_at - 1;
        let Ok(mut size) = u32::try_from(size) else {
            return self.fail(EncodeError::TooLong(size));
        };
        let mut encoded = [0u8; 5];
        let mut length = 0;
        while size >= 0x80 {
            encoded[length] = size as u8 | 0x80;
            size >>= 7;
            length += 1;
        }
        encoded[length] = size as u8;
        self.head
            .splice(size_at..=size_at, encoded[..=length].iter().copied());
    }

    /// The frame with its length in front, as slices to be sent in order.
    pub fn finish(self) -> Result<Vec<Bytes>, EncodeError> {
        let mut slices = Vec::with_capacity(self.splices.len() * 2 + 1);
        self.finish_into(&mut slices)?;
        Ok(slices)
    }

    /// Appends the frame to `slices`, which may hold others already; adds nothing if it fails.
    pub fn finish_into(mut self, slices: &mut Vec<Bytes>) -> Result<(), EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let length = (self.head.len() - FRAME_LENGTH_BYTES).saturating_add(self.splice_bytes);
        let prefix = i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?;
        self.head[..FRAME_LENGTH_BYTES].copy_from_slice(&prefix.to_be_bytes());
        let head = Bytes::from(self.head);
        let mut taken = 0;
        for (position, piece) in self.splices {
            if position > taken {
                slices.push(head.slice(taken..position));
            }
            slices.push(piece);
            taken = position;
        }
        if taken == 0 {
            slices.push(head);
        } else if taken < head.len() {
            slices.push(head.slice(taken..));
        }
        Ok(())
    }
}
