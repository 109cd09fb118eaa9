//! What has happened at all in the worlds that were gone through: a world in which nothing happens proves nothing.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::broker::Process;
use crate::controller::broker_of;
use crate::world::{Action, World};

/// Something that has to happen somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A leader that was not the first one commits a record.
    LaterLeaderCommits,
    /// Who was in the ISR no longer, and eligible, leads.
    EligibleLeads,
    /// The best of several suspects leads.
    BestSuspectLeads,
    /// A single suspect leads.
    LastSuspectLeads,
    /// A follower cuts its log.
    LogIsCut,
    /// A replica in a new directory is in sync.
    WipedIsInSync,
    /// Two brokers take themselves for the leader, under different epochs.
    TwoLeaders,
    /// A process is killed and loses what was not durable.
    TailIsLost,
    /// The controller refuses a proposal.
    ProposalIsRefused,
}

const ALL: [Mark; 9] = [
    Mark::LaterLeaderCommits,
    Mark::EligibleLeads,
    Mark::BestSuspectLeads,
    Mark::LastSuspectLeads,
    Mark::LogIsCut,
    Mark::WipedIsInSync,
    Mark::TwoLeaders,
    Mark::TailIsLost,
    Mark::ProposalIsRefused,
];

/// What has happened, a bit each.
#[derive(Default)]
pub(crate) struct Marks(AtomicU32);

impl Marks {
    pub(crate) fn missing(&self) -> Vec<Mark> {
        let seen = self.0.load(Ordering::Relaxed);
        let is_missing = |mark: &Mark| seen & bit(*mark) == 0;
        ALL.into_iter().filter(is_missing).collect()
    }

    pub(crate) fn note(&self, before: &World, action: Action, after: &World) {
        let mut seen = 0;
        let mut mark = |mark: Mark, happened: bool| {
            if happened {
                seen |= bit(mark);
            }
        };
        let (old, new) = (before.controller.state(), after.controller.state());
        let elected = new.leader.filter(|_| old.leader.is_none());
        let was_in = |list: &[model::BrokerId]| elected.is_some_and(|id| list.contains(&id));
        mark(Mark::EligibleLeads, was_in(old.eligible_leader_replicas()));
        let is_asked = matches!(action, Action::ElectBest { .. });
        mark(
            Mark::BestSuspectLeads,
            is_asked && was_in(old.last_known_elr()),
        );
        mark(
            Mark::LastSuspectLeads,
            !is_asked && was_in(old.last_known_elr()),
        );
        let committed = after.committed.len() > before.committed.len();
        mark(Mark::LaterLeaderCommits, committed && after.highest.0 > 0);
        mark(Mark::LogIsCut, is_cut(before, action, after));
        let joined = new.isr.iter().filter(|id| !old.isr.contains(id));
        let is_new = |id: &model::BrokerId| after.brokers[broker_of(*id)].disk.directory > 0;
        mark(
            Mark::WipedIsInSync,
            joined.into_iter().any(is_new) && new.leader == old.leader,
        );
        let processes = after
            .brokers
            .iter()
            .filter_map(|broker| broker.process.as_ref());
        mark(
            Mark::TwoLeaders,
            processes.filter_map(Process::leader).count() > 1,
        );
        if let Action::Kill { broker, surviving } = action {
            let process = before.brokers[broker].process.as_ref();
            mark(
                Mark::TailIsLost,
                process.is_some_and(|killed| killed.log.len() > surviving),
            );
        }
        if let Action::Propose { .. } = action {
            mark(
                Mark::ProposalIsRefused,
                new.partition_epoch == old.partition_epoch,
            );
        }
        if self.0.load(Ordering::Relaxed) & seen != seen {
            self.0.fetch_or(seen, Ordering::Relaxed);
        }
    }
}

fn is_cut(before: &World, action: Action, after: &World) -> bool {
    let Action::Connect { follower } = action else {
        return false;
    };
    let length = |world: &World| {
        let process = world.brokers[follower].process.as_ref();
        process.map_or(0, |process| process.log.len())
    };
    length(after) < length(before)
}

fn bit(mark: Mark) -> u32 {
    1 << mark as u32
}
