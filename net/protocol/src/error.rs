//! What can be wrong with bytes that arrive, and with messages that are to be sent.

use thiserror::Error;

/// Bytes that are not a message of the expected schema.
///
/// Whoever sent them is broken or hostile: the connection ends, as it does in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("the message ends inside a field")]
    UnexpectedEnd,
    /// A length or count below -1.
    #[error("negative length {0}")]
    NegativeLength(i32),
    /// Null where the schema does not allow it in this version.
    #[error("null in a field that cannot be null")]
    NullNotAllowed,
    /// A varint of more than 32 bits.
    #[error("varint is longer than 32 bits")]
    VarintTooLong,
    /// A string of more than [`TEXT_BYTES_MAX`](crate::text::TEXT_BYTES_MAX) bytes.
    #[error("string of {0} bytes is too long")]
    TextTooLong(usize),
    /// A string that is not UTF-8.
    #[error("string is not UTF-8")]
    InvalidUtf8,
    /// More elements than [`ARRAY_ELEMENTS_MAX`](crate::reader::ARRAY_ELEMENTS_MAX) or than the bytes left can hold.
    #[error("array of {0} elements cannot be in the bytes that are left")]
    ArrayTooLong(usize),
    /// More tagged fields than [`TAGGED_FIELDS_MAX`](crate::reader::TAGGED_FIELDS_MAX) in one struct.
    #[error("{0} tagged fields in one struct")]
    TooManyTaggedFields(usize),
    /// A known tagged field whose content is shorter than its announced size.
    #[error("tagged field {0} does not fill its size")]
    TaggedFieldSize(u32),
    /// Decoding would need more memory than [`memory_max`](crate::reader::memory_max) of the frame.
    #[error("decoded form exceeds the memory budget of its frame")]
    MemoryBudget,
    /// The codec does not know this version of the message.
    #[error("version {0} is not supported")]
    UnsupportedVersion(i16),
}

/// A message that its version cannot express. A mistake of the caller, not of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A field that this version lacks has a value, and Kafka does not let it be dropped ("ignorable").
    #[error("field {field} does not exist in version {version}")]
    FieldNotInVersion {
        /// The field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// The field is null, and this version has no null for it.
    #[error("field {field} cannot be null in version {version}")]
    NullNotAllowed {
        /// The field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A string of more than 32,767 bytes.
    #[error("string of {0} bytes is too long")]
    TextTooLong(usize),
    /// A byte string, array or whole frame of more than 2^31 - 1.
    #[error("length {0} does not fit the wire")]
    TooLong(usize),
    /// The codec does not know this version of the message.
    #[error("version {0} is not supported")]
    UnsupportedVersion(i16),
    /// The header names another API than the message.
    #[error("the header names another API than the message")]
    WrongApi,
}
