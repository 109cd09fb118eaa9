//! Which version of each API to speak (KIP-511).
//!
//! Invariant: a chosen version lies in the range of both sides.

use std::collections::BTreeMap;

use model::ErrorCode;
use protocol::{
    Api, ApiKey, ApiVersionsRequest, ApiVersionsResponse, Message as _, Text, VersionRange,
};
use runtime::Io;

use crate::connection::Connection;
use crate::error::ClientError;
use crate::rpc;

/// Version that every broker's refusal is written in.
const REFUSAL_VERSION: i16 = 0;
/// Bytes of a response header of ApiVersions: the correlation id, in every version.
const HEADER_BYTES: usize = 4;

/// What one broker serves.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    served: BTreeMap<i16, VersionRange>,
}

impl Versions {
    /// Before negotiation: nothing.
    pub(crate) fn unknown() -> Versions {
        Versions::default()
    }

    /// Asks the broker. Starts with the highest version known here; a broker that does not know it answers error 35 in
    /// version 0 with its own range, or with nothing, which means version 0.
    pub(crate) async fn negotiate<I: Io>(
        connection: &mut Connection<I>,
    ) -> Result<Versions, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Text::from_static("ringlog"),
            client_software_version: Text::from_static(env!("CARGO_PKG_VERSION")),
        };
        let own = ApiVersionsRequest::API.versions;
        let mut version = own.max;
        let mut frame = connection.exchange_frame(&request, version).await?;
        if error_code(&frame) == Some(ErrorCode::UnsupportedVersion.code()) {
            let refusal: ApiVersionsResponse = rpc::decode(&frame, REFUSAL_VERSION)?;
            version = fallback(&refusal, own);
            frame = connection.exchange_frame(&request, version).await?;
        }
        let response: ApiVersionsResponse = rpc::decode(&frame, version)?;
        ClientError::check("ApiVersions", response.error_code, None)?;
        Ok(Versions::of(&response))
    }

    fn of(response: &ApiVersionsResponse) -> Versions {
        let range = |min, max| VersionRange { min, max };
        let served = response.api_keys.iter();
        Versions {
            served: served
                .map(|api| (api.api_key, range(api.min_version, api.max_version)))
                .collect(),
        }
    }

    /// The highest version of an API that both sides know.
    pub fn choose(&self, api: &'static Api) -> Result<i16, ClientError> {
        let unsupported = ClientError::Unsupported { api: api.name };
        let Some(served) = self.served.get(&api.key.code()) else {
            return Err(unsupported);
        };
        let version = served.max.min(api.versions.max);
        if version < served.min.max(api.versions.min) {
            return Err(unsupported);
        }
        Ok(version)
    }

    /// The broker's range of an API, if it serves it.
    pub fn served(&self, key: ApiKey) -> Option<VersionRange> {
        self.served.get(&key.code()).copied()
    }
}

/// The error code, which every version of the response has in the same place.
fn error_code(frame: &[u8]) -> Option<i16> {
    let code = frame.get(HEADER_BYTES..)?.first_chunk::<2>()?;
    Some(i16::from_be_bytes(*code))
}

fn fallback(refusal: &ApiVersionsResponse, own: VersionRange) -> i16 {
    let entry = refusal
        .api_keys
        .iter()
        .find(|api| api.api_key == ApiKey::ApiVersions.code());
    match entry {
        Some(entry) => entry.max_version.clamp(own.min, own.max),
        None => REFUSAL_VERSION,
    }
}
