//! Whose data this is: noted in each checkpoint, so that a directory that was copied, restored or mounted elsewhere is not
//! taken for what it was. Pure.

use crate::encoding::{Decoder, Encoder, Short};

/// Longest cluster id, in bytes.
const CLUSTER_ID_BYTES_MAX: usize = 255;

/// The broker that a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerIdentity {
    /// The cluster, as its first broker named it.
    pub cluster_id: String,
    /// The broker in the cluster.
    pub node_id: i32,
    /// This directory: a wiped one gets another, and never counts as the one before (KIP-858).
    pub directory_id: [u8; 16],
    /// The epoch of the broker's registration under which it last wrote, -1 before the first. After a clean stop the broker
    /// shows it, and so proves that nobody has set the directory back since (KIP-966).
    pub broker_epoch: i64,
}

impl BrokerIdentity {
    /// Why data of `self` is not that of `other`; `None` if it is.
    pub(crate) fn difference(&self, other: &BrokerIdentity) -> Option<String> {
        if self.cluster_id != other.cluster_id {
            let (found, expected) = (&self.cluster_id, &other.cluster_id);
            return Some(format!("cluster {found}, not {expected}"));
        }
        if self.node_id != other.node_id {
            return Some(format!("node {}, not {}", self.node_id, other.node_id));
        }
        (self.directory_id != other.directory_id).then(|| "another data directory".to_owned())
    }

    /// What a start notes from now on: `wanted`, with the epoch that the data was written under.
    pub(crate) fn adopt(
        found: Option<BrokerIdentity>,
        wanted: Option<&BrokerIdentity>,
    ) -> Option<BrokerIdentity> {
        match (found, wanted) {
            (Some(found), Some(wanted)) => Some(BrokerIdentity {
                broker_epoch: found.broker_epoch,
                ..wanted.clone()
            }),
            (found, wanted) => found.or(wanted.cloned()),
        }
    }

    pub(crate) fn encode(identity: Option<&BrokerIdentity>, out: &mut Encoder) {
        let Some(identity) = identity else {
            out.u8(0);
            return;
        };
        let cluster_id = identity.cluster_id.as_bytes();
        assert!(
            cluster_id.len() <= CLUSTER_ID_BYTES_MAX,
            "checked when options are"
        );
        out.u8(1);
        out.count(cluster_id.len());
        out.bytes.extend_from_slice(cluster_id);
        out.i32(identity.node_id);
        out.bytes.extend_from_slice(&identity.directory_id);
        out.i64(identity.broker_epoch);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Option<BrokerIdentity>, Short> {
        if from.u8()? == 0 {
            return Ok(None);
        }
        let mut cluster_id = Vec::new();
        for _ in 0..from.count(1)?.min(CLUSTER_ID_BYTES_MAX) {
            cluster_id.push(from.u8()?);
        }
        let node_id = from.i32()?;
        let mut directory_id = [0; 16];
        for byte in &mut directory_id {
            *byte = from.u8()?;
        }
        Ok(Some(BrokerIdentity {
            cluster_id: String::from_utf8(cluster_id).map_err(|_| Short)?,
            node_id,
            directory_id,
            broker_epoch: from.i64()?,
        }))
    }

    /// Whether it can be stored.
    pub(crate) fn is_storable(&self) -> bool {
        self.cluster_id.len() <= CLUSTER_ID_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_read_back_and_differ() {
        let present = BrokerIdentity {
            cluster_id: "ring".to_owned(),
            node_id: 3,
            directory_id: [7; 16],
            broker_epoch: 12,
        };
        for identity in [None, Some(&present)] {
            let mut out = Encoder::default();
            BrokerIdentity::encode(identity, &mut out);
            let read = BrokerIdentity::decode(&mut Decoder::new(&out.bytes));
            assert_eq!(read, Ok(identity.cloned()));
        }
        let restarted = BrokerIdentity {
            broker_epoch: 13,
            ..present.clone()
        };
        assert_eq!(present.difference(&restarted), None);
        let others = [
            BrokerIdentity {
                cluster_id: "other".to_owned(),
                ..present.clone()
            },
            BrokerIdentity {
                node_id: 4,
                ..present.clone()
            },
            BrokerIdentity {
                directory_id: [8; 16],
                ..present.clone()
            },
        ];
        for other in others {
            assert!(present.difference(&other).is_some(), "{other:?}");
        }
    }
}
