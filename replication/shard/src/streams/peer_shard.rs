//! Names a shard of another broker.

use std::fmt;

use model::{BrokerId, ShardId};

/// A shard of another broker: the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerShard {
    pub broker: BrokerId,
    pub shard: ShardId,
}

impl fmt::Display for PeerShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of broker {}", self.shard, self.broker)
    }
}
