//! ApiVersions (key 18): what is served, in which versions (KIP-35, KIP-511, KIP-584).

use model::ErrorCode;
use protocol::APIS;
use protocol::Text;
use protocol::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;

/// Versions below this fail to parse supported features with minimum 0 (KAFKA-17492): they are left out there.
const VERSION_WITH_ALL_FEATURES: i16 = 4;

/// Answers with the registry.
pub fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &ApiVersionsRequest,
) -> Result<(), ConnectionEnd> {
    let version = context.version();
    let named = is_name(&request.client_software_name) && is_name(&request.client_software_version);
    if version >= 3 && !named {
        return context.answer(&ApiVersionsResponse {
            error_code: context.code(ErrorCode::InvalidRequest),
            ..ApiVersionsResponse::default()
        });
    }
    let api_keys = APIS.iter().filter_map(|api| {
        api.advertised.map(|range| ApiVersion {
            api_key: api.key.code(),
            min_version: range.min,
            max_version: range.max,
        })
    });
    let image = context.server.shard.image();
    let own = context.server.shard.options.broker;
    let supported = image.broker(own).map(|broker| broker.features.clone());
    let supported = supported.unwrap_or_default();
    let supported = supported.iter().filter(|feature| {
        feature.min_supported_version > 0 || version >= VERSION_WITH_ALL_FEATURES
    });
    let finalized = image.features().iter();
    context.answer(&ApiVersionsResponse {
        api_keys: api_keys.collect(),
        supported_features: supported
            .map(|feature| SupportedFeatureKey {
                name: Text::copy_from(&feature.name),
                min_version: feature.min_supported_version,
                max_version: feature.max_supported_version,
            })
            .collect(),
        finalized_features_epoch: image.end_offset().0,
        finalized_features: finalized
            .map(|(name, level)| FinalizedFeatureKey {
                name: Text::copy_from(name),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    })
}

/// Letters, digits, `-` and `.`, beginning and ending with a letter or digit (KIP-511).
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn client_names() {
        let good = ["apache-kafka-java", "4.3.1", "a"];
        let bad = ["", "-a", "a-", "a b", ".1", "é"];
        assert!(good.into_iter().all(is_name));
        assert!(!bad.into_iter().any(is_name));
    }
}
