//! DescribeConfigs (key 32), versions 1-4, flexible from 4.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of DescribeConfigs.
    pub struct DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>, 0+;
        include_synonyms: bool, 1+;
        include_documentation: bool, 3+;
    }

    /// `resources` of [`DescribeConfigsRequest`].
    pub struct DescribeConfigsResource {
        resource_type: i8, 0+;
        resource_name: Text, 0+;
        /// Null: all of them.
        configuration_keys: Option<Vec<Text>>, 0+, null 0+;
    }

    /// Response of DescribeConfigs.
    pub struct DescribeConfigsResponse {
        throttle_time_ms: i32, 0+;
        results: Vec<DescribeConfigsResult>, 0+;
    }

    /// `results` of [`DescribeConfigsResponse`].
    pub struct DescribeConfigsResult {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        resource_type: i8, 0+;
        resource_name: Text, 0+;
        configs: Vec<DescribeConfigsResourceResult>, 0+;
    }

    /// `configs` of [`DescribeConfigsResult`].
    pub struct DescribeConfigsResourceResult {
        name: Text, 0+;
        value: Option<Text>, 0+, null 0+;
        read_only: bool, 0+;
        config_source: i8, 1+, ignorable, = -1;
        is_sensitive: bool, 0+;
        synonyms: Vec<DescribeConfigsSynonym>, 1+, ignorable;
        config_type: i8, 3+, ignorable;
        documentation: Option<Text>, 3+, null 0+, ignorable;
    }

    /// `synonyms` of [`DescribeConfigsResourceResult`].
    pub struct DescribeConfigsSynonym {
        name: Text, 1+;
        value: Option<Text>, 1+, null 0+;
        source: i8, 1+;
    }
}
