//! InitProducerId (key 22), versions 0-6, flexible from 2.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of InitProducerId.
    pub struct InitProducerIdRequest {
        transactional_id: Option<Text>, 0+, null 0+;
        transaction_timeout_ms: i32, 0+;
        producer_id: i64, 3+, = -1;
        producer_epoch: i16, 3+, = -1;
        enable_2pc: bool, 6+;
        keep_prepared_txn: bool, 6+;
    }

    /// Response of InitProducerId.
    pub struct InitProducerIdResponse {
        throttle_time_ms: i32, 0+, ignorable;
        error_code: i16, 0+;
        producer_id: i64, 0+, = -1;
        producer_epoch: i16, 0+;
        ongoing_txn_producer_id: i64, 6+, = -1;
        ongoing_txn_producer_epoch: i16, 6+, = -1;
    }
}
