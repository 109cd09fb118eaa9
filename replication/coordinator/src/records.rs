//! Records of `__consumer_offsets`, in Kafka's own formats so that tools which read the topic work (kafka.md 4.5).
//!
//! Written: offset commit key 1, value 3 (1 with an explicit expiry); group metadata key 2, value 3.
//! Read: offset commit keys 0 and 1, values 0 to 4; group metadata values 0 to 4. Reading never panics and allocates at
//! most a small multiple of the input.

use bytes::{BufMut, Bytes, BytesMut};
use model::primitives::{
    PrimitiveError, Reader, put_nullable_bytes, put_nullable_string, put_string,
};
use model::{LeaderEpoch, Offset, PartitionIndex, Timestamp};

use crate::offsets::CommittedOffset;

/// Longest string that a stored record can hold, in bytes.
pub(crate) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Smallest encoding of a member: four empty strings or byte fields and two integers, flexible.
const MEMBER_BYTES_MIN: usize = 10;

/// Why bytes are not a record that this program reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupRecordError {
    /// Cut off or not well-formed.
    #[error("a record of the offsets topic is malformed: {0}")]
    Malformed(#[from] PrimitiveError),
    /// A value in a version this program does not know.
    #[error("value version {version} of record type {key_version} is not known")]
    UnknownValueVersion {
        /// The key's version, which is the type.
        key_version: i16,
        /// The value's version.
        version: i16,
    },
    /// A record without a key.
    #[error("a record of the offsets topic has no key")]
    NoKey,
}

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupKey {
    /// Versions 0 and 1: an offset of a group for a partition.
    Offset {
        /// The group.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// Version 2: a classic group.
    Group {
        /// The group.
        group: String,
    },
    /// A record type that this program does not use; it is left alone.
    Other {
        /// The type.
        version: i16,
    },
}

/// A member as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredMember {
    /// The member.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
    /// As it joined.
    pub client_id: String,
    /// As it joined.
    pub client_host: String,
    /// -1 when not known (value version 0).
    pub rebalance_timeout_ms: i32,
    /// As it joined.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

/// A classic group as it is stored: the outcome of its last completed rebalance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Such as `consumer`.
    pub protocol_type: String,
    /// Number of the rebalance.
    pub generation: i32,
    /// The chosen protocol; null when empty.
    pub protocol: Option<String>,
    /// Member id of the leader; null when empty.
    pub leader: Option<String>,
    /// When the group came to its state; -1 when not known.
    pub state_timestamp: Timestamp,
    /// In the order in which they joined.
    pub members: Vec<StoredMember>,
}

/// Key of a committed offset. Panics if an id is longer than [`STRING_BYTES_MAX`]: requests are checked.
pub fn offset_key(group: &str, topic: &str, partition: PartitionIndex) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + group.len() + topic.len());
    out.put_i16(1);
    put_string(&mut out, group);
    put_string(&mut out, topic);
    out.put_i32(partition.0);
    out.freeze()
}

/// Value of a committed offset.
pub fn offset_value(value: &CommittedOffset) -> Bytes {
    let mut out = BytesMut::with_capacity(32 + value.metadata.len());
    match value.expire_timestamp {
        None => {
            out.put_i16(3);
            out.put_i64(value.offset.0);
            out.put_i32(value.leader_epoch.0);
            put_string(&mut out, &value.metadata);
            out.put_i64(value.commit_timestamp.0);
        }
        // Only version 1 has the field; it lacks the leader epoch.
        Some(expire) => {
            out.put_i16(1);
            out.put_i64(value.offset.0);
            put_string(&mut out, &value.metadata);
            out.put_i64(value.commit_timestamp.0);
            out.put_i64(expire.0);
        }
    }
    out.freeze()
}

/// Key of a classic group.
pub fn group_key(group: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + group.len());
    out.put_i16(2);
    put_string(&mut out, group);
    out.freeze()
}

/// Value of a classic group.
pub fn group_value(value: &GroupMetadata) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(3);
    put_string(&mut out, &value.protocol_type);
    out.put_i32(value.generation);
    put_nullable_string(&mut out, value.protocol.as_deref());
    put_nullable_string(&mut out, value.leader.as_deref());
    out.put_i64(value.state_timestamp.0);
    out.put_i32(i32::try_from(value.members.len()).expect("a group has fewer than 2^31 members"));
    for member in &value.members {
        put_string(&mut out, &member.member_id);
        put_nullable_string(&mut out, member.group_instance_id.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_nullable_bytes(&mut out, Some(&member.subscription));
        put_nullable_bytes(&mut out, Some(&member.assignment));
    }
    out.freeze()
}

/// Reads a key.
pub fn read_key(key: &[u8]) -> Result<GroupKey, GroupRecordError> {
    let mut reader = Reader::new(key);
    let version = reader.i16()?;
    Ok(match version {
        0 | 1 => GroupKey::Offset {
            group: reader.string()?.to_owned(),
            topic: reader.string()?.to_owned(),
            partition: PartitionIndex(reader.i32()?),
        },
        2 => GroupKey::Group {
            group: reader.string()?.to_owned(),
        },
        version => GroupKey::Other { version },
    })
}

/// Reads the value of a committed offset.
pub fn read_offset_value(value: &[u8]) -> Result<CommittedOffset, GroupRecordError> {
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    if !(0..=4).contains(&version) {
        return Err(GroupRecordError::UnknownValueVersion {
            key_version: 1,
            version,
        });
    }
    let offset = Offset(reader.i64()?);
    let leader_epoch = match version {
        3.. => LeaderEpoch(reader.i32()?),
        _ => LeaderEpoch::NONE,
    };
    let metadata = match version {
        4.. => reader.compact_string()?,
        _ => reader.string()?,
    };
    let commit_timestamp = Timestamp(reader.i64()?);
    let expire_timestamp = match version {
        1 => Some(Timestamp(reader.i64()?)).filter(|expire| expire.0 != -1),
        _ => None,
    };
    Ok(CommittedOffset {
        offset,
        leader_epoch,
        metadata: metadata.to_owned(),
        commit_timestamp,
        expire_timestamp,
    })
}

/// Reads the value of a classic group.
pub fn read_group_value(value: &[u8]) -> Result<GroupMetadata, GroupRecordError> {
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    if !(0..=4).contains(&version) {
        return Err(GroupRecordError::UnknownValueVersion {
            key_version: 2,
            version,
        });
    }
    let flexible = version >= 4;
    let mut group = GroupMetadata {
        protocol_type: read_string(&mut reader, flexible)?,
        generation: reader.i32()?,
        protocol: read_nullable_string(&mut reader, flexible)?,
        leader: read_nullable_string(&mut reader, flexible)?,
        state_timestamp: match version {
            2.. => Timestamp(reader.i64()?),
            _ => Timestamp::NONE,
        },
        members: Vec::new(),
    };
    let count = match flexible {
        true => reader.compact_array_count(MEMBER_BYTES_MIN)?,
        false => reader.array_count(MEMBER_BYTES_MIN)?,
    };
    for _ in 0..count {
        group.members.push(read_member(&mut reader, version)?);
    }
    Ok(group)
}

fn read_member(reader: &mut Reader<'_>, version: i16) -> Result<StoredMember, GroupRecordError> {
    let flexible = version >= 4;
    let member = StoredMember {
        member_id: read_string(reader, flexible)?,
        group_instance_id: match version {
            3.. => read_nullable_string(reader, flexible)?,
            _ => None,
        },
        client_id: read_string(reader, flexible)?,
        client_host: read_string(reader, flexible)?,
        rebalance_timeout_ms: match version {
            1.. => reader.i32()?,
            _ => -1,
        },
        session_timeout_ms: reader.i32()?,
        subscription: read_bytes(reader, flexible)?,
        assignment: read_bytes(reader, flexible)?,
    };
    if flexible {
        reader.skip_tagged_fields()?;
    }
    Ok(member)
}

fn read_string(reader: &mut Reader<'_>, flexible: bool) -> Result<String, PrimitiveError> {
    let text = match flexible {
        true => reader.compact_string()?,
        false => reader.string()?,
    };
    storable(text)?;
    Ok(text.to_owned())
}

/// What is read may be written again, by a version whose strings are shorter.
fn storable(text: &str) -> Result<(), PrimitiveError> {
    match text.len() <= STRING_BYTES_MAX {
        true => Ok(()),
        false => Err(PrimitiveError::ArrayTooLong),
    }
}

fn read_nullable_string(
    reader: &mut Reader<'_>,
    flexible: bool,
) -> Result<Option<String>, PrimitiveError> {
    let text = match flexible {
        true => reader.compact_nullable_string()?,
        false => reader.nullable_string()?,
    };
    storable(text.unwrap_or_default())?;
    Ok(text.map(str::to_owned))
}

fn read_bytes(reader: &mut Reader<'_>, flexible: bool) -> Result<Bytes, PrimitiveError> {
    let bytes = match flexible {
        true => reader.compact_bytes()?,
        false => reader.bytes()?,
    };
    Ok(Bytes::copy_from_slice(bytes))
}

/// Topics in a consumer's subscription (`ConsumerProtocolSubscription`); `None` when the bytes are something else.
pub(crate) fn subscribed_topics(subscription: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader::new(subscription);
    if reader.i16().ok()? < 0 {
        return None;
    }
    let count = reader.array_count(2).ok()?;
    (0..count)
        .map(|_| reader.string().ok().map(str::to_owned))
        .collect()
}
