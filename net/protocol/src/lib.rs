//! Kafka's wire format: every API and version that Ringlog serves, in both directions.
//!
//! Pure: bytes in, structs out, and back. Knows nothing of sockets, partitions or error policy.
//!
//! - `api`: the registry, the enums over all messages.  `messages`: one file per API.
//! - `frame`: whole requests and responses.  `header`: what stands in front of a body.
//! - `reader`, `writer`, `wire`, `schema`: the primitive types and the macro that makes codecs of schema lines.
//! - `text`, `records`: strings and record batches that share the frame they came from.
//! - `sample`, `fuzz`: random messages and hostile frames from a seed.
//!
//! Invariants: decoding never panics, never reads past the frame and never takes more memory than
//! `reader::memory_max` of the frame's length, whatever the bytes are. Strings, byte strings and record batches are
//! slices of the frame: keep one, and the frame stays in memory (`Text::detached` copies).
//!
//! Sources: the message schemas of Apache Kafka 4.3.1, KIP-482 (flexible versions), KIP-511 (ApiVersions).

pub mod api;
pub mod error;
pub mod frame;
pub mod fuzz;
pub mod header;
pub mod messages;
pub mod reader;
pub mod records;
pub mod sample;
mod schema;
pub mod text;
pub mod wire;
pub mod writer;

pub use api::{APIS, Api, ApiKey, Message, Request, Response, VersionRange};
pub use error::{DecodeError, EncodeError};
pub use frame::{
    FRAME_BYTES_MAX, FRAME_LENGTH_BYTES, FrameError, RequestError, decode_response,
    decode_response_message, encode_request, encode_response, encode_response_into,
    encode_response_message, frame_length, parse_request, unsupported_api_versions,
};
pub use header::RequestHeader;
pub use messages::*;
pub use reader::Reader;
pub use records::Records;
pub use text::Text;
pub use writer::Writer;
