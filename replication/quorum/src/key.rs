//! Who is a replica of the metadata log, and which replicas have a vote (KIP-853).
//!
//! Pure. A replica is a broker *and* its data directory: a broker whose directory was wiped is another replica, which holds
//! nothing and has promised nothing, and nobody may take it for the one before.
//! Invariants: voters are in order, differ in their broker, and are at most [`VOTERS_MAX`].

use std::fmt;

use serde::{Deserialize, Serialize};

use model::BrokerId;

/// Most voters: five, and one more while one of them is replaced.
pub const VOTERS_MAX: usize = 6;

/// Identity of a data directory, drawn when it is created.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DirectoryId(pub [u8; 16]);

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A replica of the metadata log: a broker with its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// The broker.
    pub broker: BrokerId,
    /// Its directory.
    pub directory: DirectoryId,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.broker, self.directory)
    }
}

impl ReplicaKey {
    /// The number by which hard state names a replica. Never 0, which is nobody.
    ///
    /// It is stored: this function must give the same for ever. Two replicas of one cluster share a number by chance only
    /// (64 bits); whoever is added is checked for it.
    pub fn id(self) -> u64 {
        let (high, low) = self.directory.0.split_at(8);
        let half = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight of sixteen"));
        let broker = u64::from(self.broker.0.cast_unsigned());
        let id = mix(mix(mix(broker) ^ half(high)) ^ half(low));
        id.max(1)
    }
}

/// Spreads a number over 64 bits (the finalizer of splitmix64): a bijection.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Why replicas cannot be the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VotersError {
    #[error("there is no voter")]
    None,
    #[error("{0} voters are more than {VOTERS_MAX}")]
    TooMany(usize),
    /// Two directories of one broker, or two replicas that share a number.
    #[error("{0} and {1} cannot both be voters")]
    Clash(ReplicaKey, ReplicaKey),
}

/// The replicas that elect leaders and decide what is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoterSet {
    voters: Vec<ReplicaKey>,
}

impl VoterSet {
    /// These voters, in any order.
    pub fn new(mut voters: Vec<ReplicaKey>) -> Result<VoterSet, VotersError> {
        if voters.is_empty() {
            return Err(VotersError::None);
        }
        if voters.len() > VOTERS_MAX {
            return Err(VotersError::TooMany(voters.len()));
        }
        voters.sort_unstable();
        for (place, one) in voters.iter().enumerate() {
            let mut others = voters[..place].iter();
            if let Some(other) = others.find(|other| other.clashes(*one)) {
                return Err(VotersError::Clash(*other, *one));
            }
        }
        Ok(VoterSet { voters })
    }

    /// Nobody, as a replica knows that has seen nothing of the log yet.
    pub(crate) fn unknown() -> VoterSet {
        VoterSet::default()
    }

    /// In order.
    pub fn keys(&self) -> &[ReplicaKey] {
        &self.voters
    }

    /// Whether this very replica has a vote.
    pub fn contains(&self, key: ReplicaKey) -> bool {
        self.voters.binary_search(&key).is_ok()
    }

    /// One voter more.
    pub(crate) fn with(&self, key: ReplicaKey) -> Result<VoterSet, VotersError> {
        let mut voters = self.voters.clone();
        voters.push(key);
        VoterSet::new(voters)
    }

    /// One voter less.
    pub(crate) fn without(&self, key: ReplicaKey) -> Result<VoterSet, VotersError> {
        let voters = self.voters.iter().copied();
        VoterSet::new(voters.filter(|voter| *voter != key).collect())
    }
}

impl ReplicaKey {
    /// Whether two entries of a set cannot stand beside each other.
    pub(crate) fn clashes(self, other: ReplicaKey) -> bool {
        self.broker == other.broker || self.id() == other.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(broker: i32, directory: u8) -> ReplicaKey {
        ReplicaKey {
            broker: BrokerId(broker),
            directory: DirectoryId([directory; 16]),
        }
    }

    #[test]
    fn numbers_are_stored_and_so_never_change() {
        assert_eq!(key(0, 0).id(), STORED[0]);
        assert_eq!(key(1, 7).id(), STORED[1]);
        assert_ne!(key(1, 7).id(), key(1, 8).id(), "a wiped directory");
        assert_ne!(key(1, 7).id(), key(2, 7).id());
    }

    const STORED: [u64; 2] = [2_558_736_989_570_252_433, 8_755_369_525_226_402_174];

    #[test]
    fn voters_are_checked() {
        let three = VoterSet::new(vec![key(3, 1), key(1, 1), key(2, 1)]).unwrap();
        assert_eq!(three.keys(), [key(1, 1), key(2, 1), key(3, 1)]);
        assert!(three.contains(key(2, 1)) && !three.contains(key(2, 9)));
        let again = three.with(key(2, 9));
        assert_eq!(again, Err(VotersError::Clash(key(2, 1), key(2, 9))));
        let mut all = three;
        for broker in 4..10 {
            match all.with(key(broker, 1)) {
                Ok(more) => all = more,
                Err(error) => {
                    assert_eq!(error, VotersError::TooMany(VOTERS_MAX + 1));
                    break;
                }
            }
        }
        assert_eq!(all.keys().len(), VOTERS_MAX);
        let one = VoterSet::new(vec![key(1, 1)]).unwrap();
        assert_eq!(one.without(key(1, 1)), Err(VotersError::None));
        assert_eq!(one.without(key(1, 2)), Ok(one.clone()));
    }
}
