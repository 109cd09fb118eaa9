//! DeleteTopics (key 20), versions 1-6, flexible from 4.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use model::TopicId;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of DeleteTopics.
    pub struct DeleteTopicsRequest {
        topics: Vec<DeleteTopicState>, 6+;
        topic_names: Vec<Text>, 0-5, ignorable;
        timeout_ms: i32, 0+;
    }

    /// `topics` of [`DeleteTopicsRequest`].
    pub struct DeleteTopicState {
        name: Option<Text>, 6+, null 6+, = None;
        topic_id: TopicId, 6+;
    }

    /// Response of DeleteTopics.
    pub struct DeleteTopicsResponse {
        throttle_time_ms: i32, 1+, ignorable;
        responses: Vec<DeletableTopicResult>, 0+;
    }

    /// `responses` of [`DeleteTopicsResponse`].
    pub struct DeletableTopicResult {
        name: Option<Text>, 0+, null 6+;
        topic_id: TopicId, 6+, ignorable;
        error_code: i16, 0+;
        error_message: Option<Text>, 5+, null 5+, ignorable, = None;
    }
}
