//! IncrementalAlterConfigs (key 44), versions 0-1, flexible from 1.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of IncrementalAlterConfigs.
    pub struct IncrementalAlterConfigsRequest {
        resources: Vec<AlterConfigsResource>, 0+;
        validate_only: bool, 0+;
    }

    /// `resources` of [`IncrementalAlterConfigsRequest`].
    pub struct AlterConfigsResource {
        resource_type: i8, 0+;
        resource_name: Text, 0+;
        configs: Vec<AlterableConfig>, 0+;
    }

    /// `configs` of [`AlterConfigsResource`].
    pub struct AlterableConfig {
        name: Text, 0+;
        /// 0 sets, 1 deletes, 2 appends to a list, 3 takes from it.
        config_operation: i8, 0+;
        value: Option<Text>, 0+, null 0+;
    }

    /// Response of IncrementalAlterConfigs.
    pub struct IncrementalAlterConfigsResponse {
        throttle_time_ms: i32, 0+;
        responses: Vec<AlterConfigsResourceResponse>, 0+;
    }

    /// `responses` of [`IncrementalAlterConfigsResponse`].
    pub struct AlterConfigsResourceResponse {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        resource_type: i8, 0+;
        resource_name: Text, 0+;
    }
}
