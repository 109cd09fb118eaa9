//! What two brokers' shards tell each other about the partitions that one of them follows: messages and their bytes.
//!
//! Pure. A stream goes from a follower's shard to a leader's shard and back. The follower names it; a stream that breaks is
//! begun anew under a higher number, and messages of an earlier one mean nothing. Within a stream each side numbers its
//! messages from 1, so a message that was lost is noticed by the one after it.

mod codec;
mod message;

pub use codec::{
    CodecError, MESSAGE_BYTES_MAX, MESSAGE_PARTITIONS_MAX, RECORDS_BYTES_MAX, decode, encode,
};
pub use message::{
    Acknowledged, Answer, Answered, Pushed, Records, StreamBody, StreamMessage, StreamNumber,
    SubscribeRefusal, Subscribed,
};
