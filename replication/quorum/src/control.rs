//! The two control batches of the metadata log, as Kafka writes them (KIP-595, KIP-853): who leads from here on, who has a
//! vote from here on.
//!
//! Pure. A voter's endpoints are empty and its feature range is zero: addresses are the registrations' business.

use bytes::{BufMut, Bytes, BytesMut};
use model::primitives::{PrimitiveError, Reader, put_compact_count, put_no_tagged_fields};
use model::record::{
    BatchBuilder, BatchError, BatchHeader, Compression, DecompressionScratch, read_records,
    set_base_offset, set_leader_epoch,
};
use model::{BrokerId, LeaderEpoch, Offset, Timestamp};

use crate::key::{DirectoryId, ReplicaKey, VOTERS_MAX, VoterSet, VotersError};
use crate::place::Term;

const KEY_VERSION: i16 = 0;
const LEADER_CHANGE_TYPE: i16 = 2;
const VOTERS_TYPE: i16 = 6;
/// Kafka writes and reads version 0, whatever its message's field says: no directory ids.
const LEADER_CHANGE_VERSION: i16 = 0;
const VOTERS_VERSION: i16 = 0;
/// A voter's id, directory, no endpoints, the feature range, and two empty lists of tags.
const VOTER_BYTES: usize = 4 + 16 + 1 + 4 + 1 + 1;

/// Why a control batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("it does not have one record")]
    NotOneRecord,
    #[error("it is compressed")]
    Compressed,
    #[error("its type {0} has no meaning here")]
    Type(i16),
    #[error("version {0} is not known")]
    Version(i16),
    #[error("{0}")]
    Field(#[from] PrimitiveError),
    #[error("{0}")]
    Voters(#[from] VotersError),
}

/// What a control batch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    LeaderChange,
    Voters(VoterSet),
}

/// The batch with which `leader` begins a term. No time is in it: a replica that leads in this term says the same again.
pub(crate) fn leader_change(
    leader: ReplicaKey,
    voters: &VoterSet,
    term: Term,
    base_offset: Offset,
) -> Bytes {
    let mut value = BytesMut::new();
    value.put_i16(LEADER_CHANGE_VERSION);
    value.put_i32(leader.broker.0);
    put_compact_count(&mut value, voters.keys().len());
    for voter in voters.keys() {
        value.put_i32(voter.broker.0);
        put_no_tagged_fields(&mut value);
    }
    // Who granted their vote is not told by the library.
    put_compact_count(&mut value, 0);
    put_no_tagged_fields(&mut value);
    batch(LEADER_CHANGE_TYPE, &value, term, base_offset)
}

/// The batch from which on these are the voters.
pub(crate) fn voters(voters: &VoterSet, term: Term, base_offset: Offset) -> Bytes {
    let mut value = BytesMut::new();
    value.put_i16(VOTERS_VERSION);
    put_compact_count(&mut value, voters.keys().len());
    for voter in voters.keys() {
        put_key(&mut value, *voter);
        put_compact_count(&mut value, 0);
        value.put_i16(0);
        value.put_i16(0);
        put_no_tagged_fields(&mut value);
        put_no_tagged_fields(&mut value);
    }
    put_no_tagged_fields(&mut value);
    batch(VOTERS_TYPE, &value, term, base_offset)
}

/// Reads exactly one control batch.
pub(crate) fn decode(batch: &[u8]) -> Result<Control, ControlError> {
    // Never compressed: reading one costs no more than its bytes.
    let header = BatchHeader::parse(batch).map_err(|_| ControlError::NotOneRecord)?;
    if header.compression() != Ok(Compression::None) {
        return Err(ControlError::Compressed);
    }
    let mut scratch = DecompressionScratch::new();
    let records = read_records(batch, &mut scratch);
    let mut records = records.map_err(|_| ControlError::NotOneRecord)?;
    let (Some(Ok(record)), None) = (records.next(), records.next()) else {
        return Err(ControlError::NotOneRecord);
    };
    let mut key = Reader::new(record.key.ok_or(PrimitiveError::UnexpectedNull)?);
    let version = key.i16()?;
    if version != KEY_VERSION {
        return Err(ControlError::Version(version));
    }
    let value = record.value.ok_or(PrimitiveError::UnexpectedNull)?;
    match key.i16()? {
        LEADER_CHANGE_TYPE => Ok(Control::LeaderChange),
        VOTERS_TYPE => decode_voters(value).map(Control::Voters),
        other => Err(ControlError::Type(other)),
    }
}

fn decode_voters(value: &[u8]) -> Result<VoterSet, ControlError> {
    let mut value = Reader::new(value);
    let version = value.i16()?;
    if version != VOTERS_VERSION {
        return Err(ControlError::Version(version));
    }
    let count = value.compact_array_count(VOTER_BYTES)?;
    if count > VOTERS_MAX {
        return Err(VotersError::TooMany(count).into());
    }
    let mut voters = Vec::with_capacity(count);
    for _ in 0..count {
        voters.push(ReplicaKey {
            broker: BrokerId(value.i32()?),
            directory: DirectoryId(value.array()?),
        });
        // No endpoints, the range of versions, no tags: 7 bytes, as they are written above.
        value.take(VOTER_BYTES - 20)?;
    }
    Ok(VoterSet::new(voters)?)
}

fn put_key(out: &mut BytesMut, key: ReplicaKey) {
    out.put_i32(key.broker.0);
    out.put_slice(&key.directory.0);
}

fn batch(kind: i16, value: &[u8], term: Term, base_offset: Offset) -> Bytes {
    let mut key = [0; 4];
    key[..2].copy_from_slice(&KEY_VERSION.to_be_bytes());
    key[2..].copy_from_slice(&kind.to_be_bytes());
    let mut builder = BatchBuilder::new().control(true);
    builder.push(Timestamp::NONE, Some(&key), Some(value));
    let batch = builder.build().expect("a record of a few hundred bytes");
    stamp(&batch, term, base_offset)
}

/// As [`stamp`], of bytes that came from elsewhere.
pub(crate) fn try_stamp(
    batch: &[u8],
    term: Term,
    base_offset: Offset,
) -> Result<Bytes, BatchError> {
    BatchHeader::parse(batch)?;
    Ok(stamp(batch, term, base_offset))
}

/// A copy of exactly one batch, at its place in the log.
fn stamp(batch: &[u8], term: Term, base_offset: Offset) -> Bytes {
    assert!(Term(1) <= term && term <= Term::MAX, "{term:?} is no term");
    let epoch = LeaderEpoch(i32::try_from(term.0).expect("checked above"));
    let mut stamped = BytesMut::from(batch);
    set_base_offset(&mut stamped, base_offset).expect("a whole batch");
    set_leader_epoch(&mut stamped, epoch).expect("a whole batch");
    stamped.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> VoterSet {
        let key = |broker| ReplicaKey {
            broker: BrokerId(broker),
            directory: DirectoryId([broker as u8; 16]),
        };
        VoterSet::new(vec![key(1), key(2), key(3)]).unwrap()
    }

    fn key_and_value(batch: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut scratch = DecompressionScratch::new();
        let mut records = read_records(batch, &mut scratch).unwrap();
        let record = records.next().unwrap().unwrap();
        (record.key.unwrap().to_vec(), record.value.unwrap().to_vec())
    }

    #[test]
    fn what_is_written_is_read() {
        let voters_batch = voters(&three(), Term(3), Offset(7));
        assert_eq!(decode(&voters_batch), Ok(Control::Voters(three())));
        let leader = three().keys()[1];
        let leader_batch = leader_change(leader, &three(), Term(3), Offset(7));
        assert_eq!(decode(&leader_batch), Ok(Control::LeaderChange));
        // As Kafka has them: version and type; version, leader, three voters, nobody granting, no tags.
        let (key, value) = key_and_value(&leader_batch);
        assert_eq!(key, [0, 0, 0, 2]);
        assert_eq!(value[..7], [0, 0, 0, 0, 0, 2, 4]);
        assert_eq!(value[7..17], [0, 0, 0, 1, 0, 0, 0, 0, 2, 0]);
        assert_eq!(value[17..], [0, 0, 0, 3, 0, 1, 0]);
        assert_eq!(key_and_value(&voters_batch).0, [0, 0, 0, 6]);
    }

    #[test]
    fn control_batches_that_make_no_sense_are_refused() {
        let (key, value) = key_and_value(&voters(&three(), Term(1), Offset(0)));
        let build = |builder: BatchBuilder, records: &[(&[u8], &[u8])]| {
            let mut builder = builder.control(true);
            for (key, value) in records {
                builder.push(Timestamp::NONE, Some(key), Some(value));
            }
            builder.build().unwrap()
        };
        for length in 0..value.len() - 1 {
            let batch = build(BatchBuilder::new(), &[(&key, &value[..length])]);
            assert!(decode(&batch).is_err(), "{length}");
        }
        let two = build(BatchBuilder::new(), &[(&key, &value), (&key, &value)]);
        assert_eq!(decode(&two), Err(ControlError::NotOneRecord));
        let other = build(BatchBuilder::new(), &[(&[0, 0, 0, 1], &value)]);
        assert_eq!(decode(&other), Err(ControlError::Type(1)));
        let later = build(BatchBuilder::new(), &[(&[0, 1, 0, 6], &value)]);
        assert_eq!(decode(&later), Err(ControlError::Version(1)));
        let packed = BatchBuilder::new().compression(Compression::Snappy);
        let packed = build(packed, &[(&key, &value)]);
        assert_eq!(decode(&packed), Err(ControlError::Compressed));
    }
}
