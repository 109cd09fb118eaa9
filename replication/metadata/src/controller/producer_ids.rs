//! AllocateProducerIds: blocks of producer ids for brokers, each id given away at most once in a cluster's life.

use model::{BrokerEpoch, BrokerId, ProducerId};
use serde::{Deserialize, Serialize};

use super::{ControllerError, Decision, Refusal};
use crate::image::MetadataImage;
use crate::record::{MetadataRecord, ProducerIdsRecord};

/// Ids per block. A broker that restarts loses the rest of its block, which 2^63 ids allow.
pub const PRODUCER_ID_BLOCK_SIZE: i64 = 1000;

/// Ids `first`, exclusive `first + count`, now belong to the broker that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    /// First id.
    pub first: ProducerId,
    /// Number of ids.
    pub count: i64,
}

/// Gives the next block to a broker. The block may be used only when the record is committed.
pub fn allocate_producer_ids(
    image: &MetadataImage,
    broker_id: BrokerId,
    broker_epoch: BrokerEpoch,
) -> Decision<Result<ProducerIdBlock, ControllerError>> {
    let first = image.next_producer_id();
    let refusal = match image.broker(broker_id) {
        None => Some((
            Refusal::BrokerIdNotRegistered,
            "the broker is not registered",
        )),
        Some(broker) if broker.epoch != broker_epoch => {
            Some((Refusal::StaleBrokerEpoch, "the broker has registered anew"))
        }
        Some(_) => None,
    };
    let next = first.0.checked_add(PRODUCER_ID_BLOCK_SIZE);
    let (records, results) = match (refusal, next) {
        (Some((code, message)), _) => (Vec::new(), Err(ControllerError::new(code, message))),
        (None, None) => {
            let message = "all producer ids are used up";
            let error = ControllerError::new(Refusal::Internal, message);
            (Vec::new(), Err(error))
        }
        (None, Some(next)) => {
            let record = ProducerIdsRecord {
                broker_id,
                broker_epoch,
                next_producer_id: ProducerId(next),
            };
            let block = ProducerIdBlock {
                first,
                count: PRODUCER_ID_BLOCK_SIZE,
            };
            (vec![MetadataRecord::ProducerIds(record)], Ok(block))
        }
    };
    Decision { records, results }
}
