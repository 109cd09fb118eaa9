//! Little-endian fields of our own files: a writer that appends and a reader that never reads past its end.

use model::{Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};

/// Appends fields to a vector.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }
    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn offset(&mut self, value: Offset) {
        self.i64(value.0);
    }
    pub(crate) fn timestamp(&mut self, value: Timestamp) {
        self.i64(value.0);
    }
    pub(crate) fn topic_partition(&mut self, value: TopicPartition) {
        self.bytes.extend_from_slice(&value.topic.0);
        self.i32(value.partition.0);
    }
    /// A count, before that many items.
    pub(crate) fn count(&mut self, value: usize) {
        assert!(u32::try_from(value).is_ok(), "counts fit 32 bits");
        self.u32(value as u32);
    }
}

/// Fewer bytes than a field needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short;

/// Takes fields from the front of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { rest: bytes }
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Short)?;
        self.rest = rest;
        Ok(*head)
    }
    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        Ok(self.array::<1>()?[0])
    }
    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub(crate) fn i16(&mut self) -> Result<i16, Short> {
        Ok(i16::from_le_bytes(self.array()?))
    }
    pub(crate) fn i32(&mut self) -> Result<i32, Short> {
        Ok(i32::from_le_bytes(self.array()?))
    }
    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    pub(crate) fn i64(&mut self) -> Result<i64, Short> {
        Ok(i64::from_le_bytes(self.array()?))
    }
    pub(crate) fn offset(&mut self) -> Result<Offset, Short> {
        Ok(Offset(self.i64()?))
    }
    pub(crate) fn timestamp(&mut self) -> Result<Timestamp, Short> {
        Ok(Timestamp(self.i64()?))
    }
    pub(crate) fn topic_partition(&mut self) -> Result<TopicPartition, Short> {
        Ok(TopicPartition {
            topic: TopicId(self.array()?),
            partition: PartitionIndex(self.i32()?),
        })
    }
    /// A count of items of at least `item_bytes` each: more than the rest can hold is an error, so that nothing is
    /// reserved on a damaged count's word.
    pub(crate) fn count(&mut self, item_bytes: usize) -> Result<usize, Short> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / item_bytes.max(1) {
            return Err(Short);
        }
        Ok(count)
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}
