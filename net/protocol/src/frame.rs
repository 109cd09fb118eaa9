//! Frames: a length prefix, a header and a body, both ways.
//!
//! Bytes behind a request body are ignored, as Kafka ignores them (`AbstractRequest.parseRequest` never looks at
//! what is left); a response with bytes behind its body is accepted in the same way.

use bytes::Bytes;
use model::ErrorCode;
use thiserror::Error;

use crate::api::{Api, ApiKey, Message, Request, Response};
use crate::error::{DecodeError, EncodeError};
use crate::header::{HeaderStart, RequestHeader, decode_response_header, encode_response_header};
use crate::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::reader::Reader;
use crate::writer::Writer;

/// Length of a frame's length prefix.
pub const FRAME_LENGTH_BYTES: usize = 4;
/// Longest frame by default, prefix not counted (Kafka's `socket.request.max.bytes`).
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// A length prefix that no frame can have: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Below zero.
    #[error("frame of negative length {0}")]
    NegativeLength(i32),
    /// Above the limit.
    #[error("frame of {length} bytes; at most {max} are allowed")]
    TooLong {
        /// What the prefix says.
        length: usize,
        /// The limit.
        max: usize,
    },
}

/// A request that cannot be handed to a handler.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// An ApiVersions request of a version that is not supported: answer with `unsupported_api_versions`.
    #[error("ApiVersions version {version} is not supported")]
    ApiVersionsVersion {
        /// The version that was asked for.
        version: i16,
        /// To be repeated in the answer.
        correlation_id: i32,
    },
    /// No header: the connection ends.
    #[error("request header: {0}")]
    Header(DecodeError),
    /// An API that is not served: the connection ends.
    #[error("API {0} is not served")]
    UnknownApi(i16),
    /// A version that is not served: the connection ends.
    #[error("{api} version {version} is not served")]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// The version that was asked for.
        version: i16,
    },
    /// A body that does not follow the schema: the connection ends.
    #[error("{api} version {version}: {error}")]
    Body {
        /// The API.
        api: ApiKey,
        /// The version.
        version: i16,
        /// What is wrong.
        error: DecodeError,
    },
}

/// Length of the frame (without its prefix) that `buffered` begins with; `None` if the prefix is not complete.
pub fn frame_length(buffered: &[u8], length_max: usize) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = buffered.first_chunk::<FRAME_LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*prefix);
    let length = usize::try_from(length).map_err(|_| FrameError::NegativeLength(length))?;
    if length > length_max {
        return Err(FrameError::TooLong {
            length,
            max: length_max,
        });
    }
    Ok(Some(length))
}

/// Decodes a request; `frame` is without its length prefix, and what is decoded shares it.
///
/// Serves what the registry advertises and nothing else.
pub fn parse_request(frame: Bytes) -> Result<(RequestHeader, Request), RequestError> {
    let mut reader = Reader::new(&frame);
    let start = HeaderStart::decode(&mut reader).map_err(RequestError::Header)?;
    let version = start.api_version;
    let key = ApiKey::from_code(start.api_key).ok_or(RequestError::UnknownApi(start.api_key))?;
    let api = key.api();
    if api.advertised.is_none() {
        return Err(RequestError::UnknownApi(start.api_key));
    }
    if !api.versions.contains(version) {
        if key == ApiKey::ApiVersions {
            return Err(RequestError::ApiVersionsVersion {
                version,
                correlation_id: start.correlation_id,
            });
        }
        return Err(RequestError::UnsupportedVersion { api: key, version });
    }
    let header = start
        .decode_rest(api, &mut reader)
        .map_err(RequestError::Header)?;
    let request =
        Request::decode(key, &mut reader, version).map_err(|error| RequestError::Body {
            api: key,
            version,
            error,
        })?;
    Ok((header, request))
}

/// The answer to an ApiVersions request of an unknown version, ready to be sent: version 0, error 35, and the one key
/// the client needs to ask again (KIP-511; Kafka 4.3.1 lists that key alone).
pub fn unsupported_api_versions(correlation_id: i32) -> Result<Vec<Bytes>, EncodeError> {
    let api: &Api = ApiKey::ApiVersions.api();
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![ApiVersion {
            api_key: api.key.code(),
            min_version: api.versions.min,
            max_version: api.versions.max,
        }],
        ..ApiVersionsResponse::default()
    };
    encode_response_message(correlation_id, 0, &response)
}

/// A whole response frame, length prefix included, as slices to be sent in order. Record batches are not copied.
pub fn encode_response(
    correlation_id: i32,
    version: i16,
    response: &Response,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut slices = Vec::new();
    encode_response_into(&mut slices, correlation_id, version, response)?;
    Ok(slices)
}

/// `encode_response` behind what `slices` holds already, so that several answers leave in one vectored send.
/// Adds nothing if it fails.
pub fn encode_response_into(
    slices: &mut Vec<Bytes>,
    correlation_id: i32,
    version: i16,
    response: &Response,
) -> Result<(), EncodeError> {
    let mut writer = Writer::new();
    encode_response_header(&mut writer, response.key().api(), version, correlation_id);
    response.encode(&mut writer, version);
    writer.finish_into(slices)
}

/// `encode_response` for a message whose type is known.
pub fn encode_response_message<M: Message>(
    correlation_id: i32,
    version: i16,
    response: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::new();
    encode_response_header(&mut writer, M::API, version, correlation_id);
    response.encode(&mut writer, version);
    writer.finish()
}

/// A whole request frame, length prefix included, as slices to be sent in order. Record batches are not copied.
pub fn encode_request(
    header: &RequestHeader,
    request: &Request,
) -> Result<Vec<Bytes>, EncodeError> {
    if header.api_key != request.key() {
        return Err(EncodeError::WrongApi);
    }
    let mut writer = Writer::new();
    header.encode(&mut writer);
    request.encode(&mut writer, header.api_version);
    writer.finish()
}

/// Decodes a response to a request of `key` in `version`; `frame` is without its length prefix.
/// Returns the correlation id with it.
pub fn decode_response(
    key: ApiKey,
    version: i16,
    frame: Bytes,
) -> Result<(i32, Response), DecodeError> {
    let mut reader = Reader::new(&frame);
    let correlation_id = decode_response_header(&mut reader, key.api(), version)?;
    let response = Response::decode(key, &mut reader, version)?;
    Ok((correlation_id, response))
}

/// `decode_response` for a message whose type is known.
pub fn decode_response_message<M: Message>(
    version: i16,
    frame: Bytes,
) -> Result<(i32, M), DecodeError> {
    let mut reader = Reader::new(&frame);
    let correlation_id = decode_response_header(&mut reader, M::API, version)?;
    Ok((correlation_id, M::decode(&mut reader, version)?))
}
