//! What a shard says of its partitions to the controller of the cluster: logs that an election waits for, and sizes.
//!
//! Pure. The tasks that carry it there are in `suspects.rs` and `sizes.rs`.

use metadata::MetadataImage;
use metadata::controller::{ReportedLog, is_candidate};
use model::{BrokerEpoch, BrokerId, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::partition_table::PartitionTable;

/// Partitions and the bytes of their logs, of a broker that leads them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SizeReport {
    pub broker: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub sizes: Vec<(TopicPartition, u64)>,
}

/// What there is of the partitions for which an election waits.
pub(crate) fn candidate_logs(
    image: &MetadataImage,
    table: &PartitionTable,
    me: BrokerId,
) -> Vec<ReportedLog> {
    let waiting = table.iter().filter_map(|partition| {
        let state = image.partition(partition.id)?;
        is_candidate(state, me).then(|| ReportedLog {
            partition: partition.id,
            partition_epoch: state.partition_epoch,
            last_epoch: partition.last_epoch(),
            log_end_offset: partition.log.durable_end_offset(),
        })
    });
    waiting.collect()
}

/// The partitions that this broker leads, and their bytes.
pub(crate) fn led_sizes(
    image: &MetadataImage,
    table: &PartitionTable,
    me: BrokerId,
) -> Vec<(TopicPartition, u64)> {
    let led = table.iter().filter(|partition| {
        let state = image.partition(partition.id);
        state.is_some_and(|state| state.leader == Some(me))
    });
    led.map(|partition| (partition.id, partition.log.size_bytes()))
        .collect()
}
