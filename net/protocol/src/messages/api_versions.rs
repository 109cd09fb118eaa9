//! ApiVersions (key 18), versions 0-4, flexible from 3.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of ApiVersions.
    pub struct ApiVersionsRequest {
        client_software_name: Text, 3+, ignorable;
        client_software_version: Text, 3+, ignorable;
    }

    /// Response of ApiVersions.
    pub struct ApiVersionsResponse {
        error_code: i16, 0+;
        api_keys: Vec<ApiVersion>, 0+;
        throttle_time_ms: i32, 1+, ignorable;
        supported_features: Vec<SupportedFeatureKey>, 3+, tag 0, ignorable;
        finalized_features_epoch: i64, 3+, tag 1, ignorable, = -1;
        finalized_features: Vec<FinalizedFeatureKey>, 3+, tag 2, ignorable;
        zk_migration_ready: bool, 3+, tag 3, ignorable;
    }

    /// `api_keys` of [`ApiVersionsResponse`].
    pub struct ApiVersion {
        api_key: i16, 0+;
        min_version: i16, 0+;
        max_version: i16, 0+;
    }

    /// `supported_features` of [`ApiVersionsResponse`].
    pub struct SupportedFeatureKey {
        name: Text, 3+;
        min_version: i16, 3+;
        max_version: i16, 3+;
    }

    /// `finalized_features` of [`ApiVersionsResponse`].
    pub struct FinalizedFeatureKey {
        name: Text, 3+;
        max_version_level: i16, 3+;
        min_version_level: i16, 3+;
    }
}
