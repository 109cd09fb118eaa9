//! Who a broker is, and which of its shards a connection is for.
//!
//! Pure. Plain values.

use model::{BrokerEpoch, BrokerId, ShardId};
use quorum::ReplicaKey;

/// A broker as its handshake shows it: its number, its directory, and its registration if it knows one (-1 if not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The broker with its directory, as the metadata quorum names a replica.
    pub key: ReplicaKey,
    /// The registration under which it connected. It may have another one by now.
    pub epoch: BrokerEpoch,
}

impl PeerIdentity {
    /// The broker's number.
    pub fn node(&self) -> BrokerId {
        self.key.broker
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The broker.
    pub node: BrokerId,
    /// The shard of it.
    pub shard: ShardId,
}

impl Target {
    /// The shard that has a broker's metadata: it alone serves all purposes but streams.
    pub const METADATA_SHARD: ShardId = ShardId(0);
}

impl From<BrokerId> for Target {
    /// The broker's first shard, which has its metadata.
    fn from(node: BrokerId) -> Target {
        Target {
            node,
            shard: Target::METADATA_SHARD,
        }
    }
}

/// What this side shows in its handshakes.
#[derive(Clone, Debug)]
pub struct Local {
    /// The cluster, from 1 to [`crate::handshake::CLUSTER_BYTES_MAX`] bytes.
    pub cluster: String,
    /// This broker and its directory.
    pub key: ReplicaKey,
    /// The shard that this network belongs to.
    pub shard: ShardId,
}
