//! What a peer says, held against the log, before the library hears it: the library ends the process where a peer contradicts
//! what is committed, and believes a follower that claims more than there is.
//!
//! Pure. Nobody in the quorum lies. But a directory that was set back, or a disk that broke its word, does not know what it
//! says; then one replica must be looked after, and not the cluster be down.

use crate::consensus::Consensus;
use crate::message::{Body, Message};

/// Whether the message cannot be true of a replica that has kept what it promised.
pub(crate) fn contradicts(message: &Message, consensus: &Consensus) -> bool {
    let log = &consensus.store().log;
    // What comes from an older term is only answered.
    if message.term.0 < consensus.term() {
        return false;
    }
    match &message.body {
        // A leader tells what this replica is known to have.
        Body::Heartbeat { commit } => commit.0 > log.last_index(),
        Body::Appended { index, .. } => {
            let is_meant = consensus.is_leader() && message.term.0 == consensus.term();
            is_meant && index.0 > log.last_index()
        }
        Body::Append {
            previous, entries, ..
        } => {
            if log.term(previous.index.0) != Some(previous.term.0) {
                return false;
            }
            let follows = log.end_offset_of(previous.index.0);
            let has_place = match entries.first() {
                Some(first) => follows == Some(first.base_offset),
                None => true,
            };
            let numbered = (previous.index.0 + 1..).zip(entries);
            let mut diverging = numbered
                .filter(|(index, entry)| log.term(*index) != Some(entry.term.0))
                .map(|(index, _)| index);
            let is_cut = diverging
                .next()
                .is_some_and(|index| index <= consensus.committed());
            !has_place || is_cut
        }
        _ => false,
    }
}
