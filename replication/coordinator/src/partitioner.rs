//! Which partition of `__consumer_offsets` a group belongs to.

use model::PartitionIndex;

/// Java's `String.hashCode` of the group id, without its sign, modulo the partition count (50 by default).
///
/// Clients and tools rely on it: a group's coordinator is the leader of this partition. Panics if `partition_count`
/// is not positive.
pub fn group_partition(group_id: &str, partition_count: i32) -> PartitionIndex {
    assert!(partition_count > 0, "a topic has at least one partition");
    let mut hash: i32 = 0;
    for unit in group_id.encode_utf16() {
        hash = hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    }
    PartitionIndex((hash & i32::MAX) % partition_count)
}
