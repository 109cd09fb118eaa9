//! Request and response headers.
//!
//! Request header v1: API key, version, correlation id, client id; v2 (flexible versions) adds tagged fields and
//! keeps the i16 length of the client id. Response header v0: correlation id; v1 adds tagged fields, except for
//! ApiVersions. Source: KIP-482, KIP-511.

use crate::api::{Api, ApiKey};
use crate::error::DecodeError;
use crate::reader::Reader;
use crate::text::Text;
use crate::writer::Writer;

/// Header of a request for an API that the codec knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: ApiKey,
    /// In which version the body and the answer are written.
    pub api_version: i16,
    /// Chosen by the client, repeated in the response.
    pub correlation_id: i32,
    /// How the client calls itself.
    pub client_id: Option<Text>,
}

impl RequestHeader {
    /// Writes the header in the form that its version asks for.
    pub fn encode(&self, writer: &mut Writer) {
        writer.put(&self.api_key.code().to_be_bytes());
        writer.put(&self.api_version.to_be_bytes());
        writer.put(&self.correlation_id.to_be_bytes());
        writer.text_fixed(self.client_id.as_ref().map(Text::as_bytes));
        if self.api_key.api().is_flexible(self.api_version) {
            writer.tagged_fields();
        }
    }
}

/// The fields in front, which are the same in every version, as they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderStart {
    /// Number of the API, known or not.
    pub api_key: i16,
    /// Version, supported or not.
    pub api_version: i16,
    /// Chosen by the client, repeated in the response.
    pub correlation_id: i32,
}

impl HeaderStart {
    /// Reads the first eight bytes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<HeaderStart, DecodeError> {
        Ok(HeaderStart {
            api_key: reader.i16()?,
            api_version: reader.i16()?,
            correlation_id: reader.i32()?,
        })
    }

    /// Reads what follows: the client id and, in flexible versions, tagged fields (none is defined).
    pub fn decode_rest(
        self,
        api: &Api,
        reader: &mut Reader<'_>,
    ) -> Result<RequestHeader, DecodeError> {
        let client_id = reader.text_fixed()?;
        if api.is_flexible(self.api_version) {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(RequestHeader {
            api_key: api.key,
            api_version: self.api_version,
            correlation_id: self.correlation_id,
            client_id,
        })
    }
}

/// Writes a response header.
pub fn encode_response_header(writer: &mut Writer, api: &Api, version: i16, correlation_id: i32) {
    writer.put(&correlation_id.to_be_bytes());
    if api.is_response_header_flexible(version) {
        writer.tagged_fields();
    }
}

/// Reads a response header; returns the correlation id.
pub fn decode_response_header(
    reader: &mut Reader<'_>,
    api: &Api,
    version: i16,
) -> Result<i32, DecodeError> {
    let correlation_id = reader.i32()?;
    if api.is_response_header_flexible(version) {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    Ok(correlation_id)
}
