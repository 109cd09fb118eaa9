//! Whom a replica knows: voters, observers, the leader, and who wrote last.
//!
//! Pure. Voters are a matter of the log. Observers are not: they decide nothing, so the leader takes them as its driver
//! names them, and nothing has to be agreed on when one comes or goes.
//! Invariants: no two replicas that are known share a number.

use std::collections::BTreeMap;

use crate::key::{ReplicaKey, VoterSet};
use crate::refusal::MembershipRefusal;
use crate::settings::OBSERVERS_MAX;

/// The replicas that are known.
#[derive(Debug)]
pub(crate) struct Members {
    me: ReplicaKey,
    voters: VoterSet,
    observers: Vec<ReplicaKey>,
    /// Voters and observers by number.
    keys: BTreeMap<u64, ReplicaKey>,
    /// Who wrote last. A leader may be one that this replica does not know as a voter yet.
    sender: Option<ReplicaKey>,
    leader: Option<ReplicaKey>,
}

impl Members {
    pub(crate) fn new(me: ReplicaKey, voters: VoterSet) -> Members {
        let mut members = Members {
            me,
            voters,
            observers: Vec::new(),
            keys: BTreeMap::new(),
            sender: None,
            leader: None,
        };
        members.number();
        members
    }

    pub(crate) fn voters(&self) -> &VoterSet {
        &self.voters
    }

    pub(crate) fn observers(&self) -> &[ReplicaKey] {
        &self.observers
    }

    pub(crate) fn set_voters(&mut self, voters: VoterSet) {
        self.observers
            .retain(|observer| !voters.contains(*observer));
        self.voters = voters;
        self.number();
    }

    /// Takes these as observers; voters among them are left out. Refuses too many.
    pub(crate) fn set_observers(&mut self, keys: &[ReplicaKey]) -> Result<(), MembershipRefusal> {
        let mut observers = keys.to_vec();
        observers.retain(|key| !self.voters.contains(*key) && *key != self.me);
        observers.sort_unstable();
        observers.dedup();
        if observers.len() > OBSERVERS_MAX {
            return Err(MembershipRefusal::TooManyObservers(observers.len()));
        }
        self.observers = observers;
        self.number();
        Ok(())
    }

    /// Nobody is served any more.
    pub(crate) fn forget_observers(&mut self) {
        self.observers.clear();
        self.number();
    }

    fn number(&mut self) {
        let members = self.voters.keys().iter().chain(&self.observers);
        self.keys = members.map(|key| (key.id(), *key)).collect();
        let count = self.voters.keys().len() + self.observers.len();
        assert_eq!(
            self.keys.len(),
            count,
            "64 bits of two replicas are the same"
        );
    }

    /// `key` has written.
    pub(crate) fn meet(&mut self, key: ReplicaKey) {
        self.sender = Some(key);
    }

    /// The replica with this number leads now, or none does.
    pub(crate) fn follow(&mut self, leader: Option<u64>) -> Option<ReplicaKey> {
        self.leader = leader.map(|id| self.key(id).expect("a leader is a member or has written"));
        self.leader
    }

    pub(crate) fn key(&self, id: u64) -> Option<ReplicaKey> {
        let strangers = [Some(self.me), self.sender, self.leader];
        let mut strangers = strangers.into_iter().flatten();
        let member = self.keys.get(&id).copied();
        member.or_else(|| strangers.find(|key| key.id() == id))
    }
}
