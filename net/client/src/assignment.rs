//! What members of consumer groups tell each other through the coordinator, and who reads what.
//!
//! Pure. Source: `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment` of Apache Kafka 4.3.1, version 0, whose
//! fields later versions only extend. Invariant: every partition of a topic goes to exactly one of its subscribers.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use model::PartitionIndex;

use crate::error::ClientError;

/// The version that is written; every later one is read as far as it is alike.
const VERSION: i16 = 0;
/// Entries of one list at most: more than any group has, fewer than could exhaust memory.
const ENTRIES_MAX: usize = 1 << 20;

/// Partitions by topic.
pub type Assignment = BTreeMap<String, Vec<PartitionIndex>>;

/// What a member wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Topics.
    pub topics: Vec<String>,
}

impl Subscription {
    /// The bytes for JoinGroup.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_len(&mut out, self.topics.len());
        for topic in &self.topics {
            put_string(&mut out, topic);
        }
        out.put_i32(-1); // no user data
        out.freeze()
    }

    /// Reads another member's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Subscription, ClientError> {
        let mut reader = Reader(bytes);
        reader.version()?;
        let mut topics = Vec::new();
        for _ in 0..reader.len()? {
            topics.push(reader.string()?);
        }
        Ok(Subscription { topics })
    }
}

/// The bytes for SyncGroup.
pub fn encode(assignment: &Assignment) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    put_len(&mut out, assignment.len());
    for (topic, partitions) in assignment {
        put_string(&mut out, topic);
        put_len(&mut out, partitions.len());
        for partition in partitions {
            out.put_i32(partition.0);
        }
    }
    out.put_i32(-1); // no user data
    out.freeze()
}

/// Reads what the group's leader assigned; nothing at all is an empty assignment.
pub fn decode(bytes: &[u8]) -> Result<Assignment, ClientError> {
    let mut assignment = Assignment::new();
    if bytes.is_empty() {
        return Ok(assignment);
    }
    let mut reader = Reader(bytes);
    reader.version()?;
    for _ in 0..reader.len()? {
        let topic = reader.string()?;
        let partitions = assignment.entry(topic).or_default();
        for _ in 0..reader.len()? {
            partitions.push(PartitionIndex(i32::from_be_bytes(reader.take()?)));
        }
    }
    Ok(assignment)
}

/// Divides each topic's partitions into ranges, one for each member that subscribes to it, in the order of the member
/// ids; the first ones get one more if it does not divide evenly.
pub fn assign_ranges(
    members: &BTreeMap<String, Vec<String>>,
    partitions: &BTreeMap<String, Vec<PartitionIndex>>,
) -> BTreeMap<String, Assignment> {
    let mut assigned: BTreeMap<String, Assignment> = members
        .keys()
        .map(|member| (member.clone(), Assignment::new()))
        .collect();
    for (topic, indexes) in partitions {
        let subscribed: Vec<&String> = members
            .iter()
            .filter(|(_, topics)| topics.contains(topic))
            .map(|(member, _)| member)
            .collect();
        let mut rest = &indexes[..];
        for (position, member) in subscribed.iter().enumerate() {
            let share = rest.len().div_ceil(subscribed.len() - position);
            let (own, others) = rest.split_at(share);
            rest = others;
            if let Some(assignment) = assigned.get_mut(*member).filter(|_| !own.is_empty()) {
                assignment.insert(topic.clone(), own.to_vec());
            }
        }
    }
    assigned
}

fn put_len(out: &mut BytesMut, len: usize) {
    out.put_i32(i32::try_from(len).unwrap_or(i32::MAX));
}

/// Topic names have at most 249 characters.
fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ClientError> {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(malformed("cut off"));
        };
        self.0 = rest;
        Ok(*head)
    }

    fn version(&mut self) -> Result<(), ClientError> {
        match i16::from_be_bytes(self.take()?) {
            0.. => Ok(()),
            _ => Err(malformed("negative version")),
        }
    }

    fn len(&mut self) -> Result<usize, ClientError> {
        let len = usize::try_from(i32::from_be_bytes(self.take()?)).unwrap_or(usize::MAX);
        match len <= ENTRIES_MAX {
            true => Ok(len),
            false => Err(malformed("list length")),
        }
    }

    fn string(&mut self) -> Result<String, ClientError> {
        let len = i16::from_be_bytes(self.take()?);
        let len = usize::try_from(len).map_err(|_| malformed("string length"))?;
        let Some((text, rest)) = self.0.split_at_checked(len) else {
            return Err(malformed("cut off"));
        };
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| malformed("string"))?;
        Ok(text.to_owned())
    }
}

fn malformed(what: &str) -> ClientError {
    ClientError::Malformed {
        api: "SyncGroup",
        reason: format!("consumer protocol: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(range: std::ops::Range<i32>) -> Vec<PartitionIndex> {
        range.map(PartitionIndex).collect()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_shorter() {
        let assignment: Assignment = [
            ("a".to_owned(), indexes(0..3)),
            ("b".to_owned(), indexes(7..8)),
        ]
        .into();
        let bytes = encode(&assignment);
        assert_eq!(decode(&bytes).unwrap(), assignment);
        assert_eq!(decode(&[]).unwrap(), Assignment::new());
        for cut in 1..bytes.len() - 4 {
            assert!(decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let subscription = Subscription {
            topics: vec!["a".to_owned(), "bc".to_owned()],
        };
        let bytes = subscription.encode();
        assert_eq!(Subscription::decode(&bytes).unwrap(), subscription);
        for cut in 0..bytes.len() - 4 {
            assert!(Subscription::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(decode(&[0, 0, 0x7f, 0xff, 0xff, 0xff]).is_err());
    }

    /// Members, partitions and what Kafka's RangeAssignor gives: sizes in the order of the members.
    #[test]
    fn ranges_are_consecutive_and_differ_by_one_at_most() {
        for (members, partitions, expected) in [
            (1, 3, vec![3]),
            (2, 3, vec![2, 1]),
            (3, 8, vec![3, 3, 2]),
            (3, 2, vec![1, 1, 0]),
            (2, 0, vec![0, 0]),
        ] {
            let topics = vec!["t".to_owned()];
            let members: BTreeMap<String, Vec<String>> = (0..members)
                .map(|m| (format!("m{m}"), topics.clone()))
                .collect();
            let all = [("t".to_owned(), indexes(0..partitions))].into();
            let assigned = assign_ranges(&members, &all);
            let sizes: Vec<usize> = assigned
                .values()
                .map(|a| a.get("t").map_or(0, Vec::len))
                .collect();
            assert_eq!(sizes, expected);
            let together: Vec<PartitionIndex> = assigned
                .into_values()
                .flat_map(|mut a| a.remove("t").unwrap_or_default())
                .collect();
            assert_eq!(together, indexes(0..partitions));
        }
    }

    #[test]
    fn only_subscribers_of_a_topic_get_its_partitions() {
        let members = [
            ("m0".to_owned(), vec!["a".to_owned()]),
            ("m1".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
        ]
        .into();
        let all = [
            ("a".to_owned(), indexes(0..2)),
            ("b".to_owned(), indexes(0..2)),
        ]
        .into();
        let assigned = assign_ranges(&members, &all);
        assert_eq!(assigned["m0"], [("a".to_owned(), indexes(0..1))].into());
        assert_eq!(assigned["m1"]["a"], indexes(1..2));
        assert_eq!(assigned["m1"]["b"], indexes(0..2));
    }
}
