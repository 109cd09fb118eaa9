//! AlterConfigs (key 33), versions 0-2, flexible from 2.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of AlterConfigs.
    pub struct AlterConfigsRequest {
        resources: Vec<AlterConfigsResource>, 0+;
        validate_only: bool, 0+;
    }

    /// `resources` of [`AlterConfigsRequest`].
    pub struct AlterConfigsResource {
        resource_type: i8, 0+;
        resource_name: Text, 0+;
        /// All that shall be set: what is not named is forgotten.
        configs: Vec<AlterableConfig>, 0+;
    }

    /// `configs` of [`AlterConfigsResource`].
    pub struct AlterableConfig {
        name: Text, 0+;
        value: Option<Text>, 0+, null 0+;
    }

    /// Response of AlterConfigs.
    pub struct AlterConfigsResponse {
        throttle_time_ms: i32, 0+;
        responses: Vec<AlterConfigsResourceResponse>, 0+;
    }

    /// `responses` of [`AlterConfigsResponse`].
    pub struct AlterConfigsResourceResponse {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        resource_type: i8, 0+;
        resource_name: Text, 0+;
    }
}
