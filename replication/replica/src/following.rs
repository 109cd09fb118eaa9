//! One partition as a broker sees it that follows another one.
//!
//! Pure. Owned by the partition's shard, one per followed partition, for as long as this broker does not lead it.
//! It subscribes to the leader of the present epoch, cuts the log where it departs from the leader's, takes records,
//! and says what is durable.
//!
//! Invariants: nothing is appended or acknowledged under an epoch whose leader has not found the log to be a prefix of
//! its own; records continue the log without a gap; what is acknowledged is durable here; the high watermark is never
//! above the durable end, and goes back only when an unclean election cuts the log below it.
//! Source: kafka.md 3.3 to 3.5, KIP-101, KIP-279, KIP-595.

use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

use crate::planted::PlantedFault;
use crate::subscription::{EpochEnd, SubscribeAnswer, Subscription, truncation_point};

/// The log that a follower begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerLog {
    /// Where it ends, durable or not.
    pub log_end_offset: Offset,
    /// Up to where it is durable at the topic's level.
    pub durable_end_offset: Offset,
    /// The epoch of its last record, [`LeaderEpoch::NONE`] if it is empty.
    pub last_epoch: LeaderEpoch,
    /// The last one known, from a checkpoint or from before; 0 if none is.
    pub high_watermark: Offset,
}

/// Records of one partition, as the leader pushes them. Without records: base and end are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The epoch of the leader that pushes.
    pub leader_epoch: LeaderEpoch,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset after the last one.
    pub end_offset: Offset,
    /// The epoch of the last record.
    pub last_epoch: LeaderEpoch,
    /// The leader's.
    pub high_watermark: Offset,
}

/// Why records are not taken. The stream has to be begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameRefusal {
    /// Not from the leader that has accepted this follower.
    #[error("a frame of leader epoch {found} where {expected} is followed")]
    AnotherEpoch {
        /// Which epoch is followed.
        expected: LeaderEpoch,
        /// The frame's.
        found: LeaderEpoch,
    },
    /// No subscription has been accepted, or the log is being cut.
    #[error("a frame without a subscription")]
    NotSubscribed,
    /// It does not continue the log.
    #[error("a frame from offset {found} to a log that ends at {expected}")]
    Gap {
        /// Where the log ends.
        expected: Offset,
        /// Where the frame begins.
        found: Offset,
    },
    /// Its records are of an epoch before the log's last one, or after the leader's.
    #[error("a frame with records of epoch {found} after records of epoch {last}")]
    EpochOutOfOrder {
        /// The log's last epoch.
        last: LeaderEpoch,
        /// The frame's.
        found: LeaderEpoch,
    },
}

/// What the driver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FollowerOutput {
    /// Cut the log; answer with [`FollowerReplica::handle_truncated`] when that is durable.
    Truncate {
        /// Its new end.
        to: Offset,
        /// Committed records are cut off, after an unclean election: to be logged and counted.
        below_high_watermark: bool,
    },
    /// Drop the whole log and let it begin here; answer with [`FollowerReplica::handle_truncated`].
    StartOver(Offset),
    /// Ask this broker; answer with [`FollowerReplica::handle_subscribe_answer`], or with
    /// [`FollowerReplica::handle_disconnected`].
    Subscribe(BrokerId, Subscription),
    /// Tell the leader of this epoch that everything below this offset is durable here.
    Acknowledge(LeaderEpoch, Offset),
    /// Records below this offset are committed.
    HighWatermark(Offset),
}

/// Where following stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Nobody leads.
    Leaderless,
    /// The leader has to be asked.
    Unsubscribed,
    /// It has been asked.
    Subscribing,
    /// The log has to be cut, before anything else.
    Diverged(Cut),
    /// It is being cut.
    Cutting(Cut),
    /// Records come; everything below the offset has been acknowledged, if there is one.
    Fetching(Option<Offset>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cut {
    Truncate(Offset),
    StartOver(Offset),
}

/// A partition's replication state on one of its followers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FollowerReplica {
    broker: BrokerId,
    broker_epoch: BrokerEpoch,
    leader: Option<BrokerId>,
    leader_epoch: LeaderEpoch,
    log_end_offset: Offset,
    durable_end_offset: Offset,
    last_epoch: LeaderEpoch,
    high_watermark: Offset,
    high_watermark_reported: Offset,
    /// The leader's, as far as this log is known to agree with its.
    leader_high_watermark: Offset,
    phase: Phase,
    planted: Option<PlantedFault>,
}

impl FollowerReplica {
    /// Follows nobody yet. A high watermark counts up to what is durable: a damaged log may end below it.
    /// Panics if more is durable than there is.
    pub fn new(broker: BrokerId, broker_epoch: BrokerEpoch, log: FollowerLog) -> FollowerReplica {
        assert!(
            log.durable_end_offset <= log.log_end_offset,
            "more is durable than there is"
        );
        let high_watermark = log.high_watermark.min(log.durable_end_offset);
        FollowerReplica {
            broker,
            broker_epoch,
            leader: None,
            leader_epoch: LeaderEpoch::NONE,
            log_end_offset: log.log_end_offset,
            durable_end_offset: log.durable_end_offset,
            last_epoch: log.last_epoch,
            high_watermark,
            high_watermark_reported: high_watermark,
            leader_high_watermark: high_watermark,
            phase: Phase::Leaderless,
            planted: None,
        }
    }

    /// Leaves out a condition. For tests.
    #[doc(hidden)]
    pub fn plant(&mut self, fault: PlantedFault) {
        self.planted = Some(fault);
    }

    /// Committed records end here, as far as this broker knows and has them durably.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Committed records, as far as the leader has told, that are not here.
    pub fn committed_lag(&self) -> u64 {
        // Most of the time the log is ahead of what is committed.
        let behind = self.leader_high_watermark.0 - self.log_end_offset.0;
        u64::try_from(behind.max(0)).expect("not negative")
    }

    /// Records end here, durable or not.
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// Durable records end here.
    pub fn durable_end_offset(&self) -> Offset {
        self.durable_end_offset
    }

    /// The epoch of the last record.
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.last_epoch
    }

    /// The registration as which this broker follows.
    pub fn broker_epoch(&self) -> BrokerEpoch {
        self.broker_epoch
    }

    /// Who is followed.
    pub fn leader(&self) -> Option<BrokerId> {
        self.leader
    }

    /// The epoch that is followed.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Whether records are taken.
    pub fn is_fetching(&self) -> bool {
        matches!(self.phase, Phase::Fetching(_))
    }

    /// Whether the log is being cut. What becomes durable meanwhile is told with the end of the cut.
    pub fn is_cutting(&self) -> bool {
        matches!(self.phase, Phase::Cutting(_))
    }

    /// The metadata says who leads. An epoch that is over is ignored, and so is the one that is followed already.
    pub fn handle_leader(&mut self, leader: Option<BrokerId>, leader_epoch: LeaderEpoch) {
        if leader_epoch <= self.leader_epoch {
            return;
        }
        self.leader = leader;
        self.leader_epoch = leader_epoch;
        self.leader_high_watermark = self.high_watermark;
        // What was to be cut is cut first: the log that the next leader is told of is the one after it.
        if matches!(self.phase, Phase::Diverged(_) | Phase::Cutting(_)) {
            return;
        }
        self.phase = self.phase_after_a_change();
        if self.is_planted(PlantedFault::TruncatesToHighWatermark)
            && self.high_watermark < self.log_end_offset
        {
            self.phase = Phase::Diverged(Cut::Truncate(self.high_watermark));
        }
    }

    /// The leader's answer to the subscription under `leader_epoch`. `own` is what this log's leader epoch cache has for
    /// the epoch of a divergence. Ignored when the answer is not waited for any more.
    pub fn handle_subscribe_answer(
        &mut self,
        leader_epoch: LeaderEpoch,
        answer: SubscribeAnswer,
        own: Option<EpochEnd>,
    ) {
        if leader_epoch != self.leader_epoch || self.phase != Phase::Subscribing {
            return;
        }
        self.phase = match answer {
            SubscribeAnswer::Accepted => Phase::Fetching(None),
            SubscribeAnswer::Diverged(diverging) => {
                let to = truncation_point(diverging, own, self.log_end_offset);
                Phase::Diverged(Cut::Truncate(to))
            }
            SubscribeAnswer::StartOver(at) => Phase::Diverged(Cut::StartOver(at)),
        };
    }

    /// The connection to the leader is gone, or it has refused: the subscription is made anew.
    pub fn handle_disconnected(&mut self) {
        if matches!(self.phase, Phase::Subscribing | Phase::Fetching(_)) {
            self.phase = self.phase_after_a_change();
        }
    }

    /// Records have come: on `Ok` they are to be appended as they are. Nothing changes when they are refused.
    pub fn handle_frame(&mut self, frame: Frame) -> Result<(), FrameRefusal> {
        let any = self.is_planted(PlantedFault::AnyFrame);
        if frame.leader_epoch != self.leader_epoch && !any {
            return Err(FrameRefusal::AnotherEpoch {
                expected: self.leader_epoch,
                found: frame.leader_epoch,
            });
        }
        if !self.is_fetching() && !any {
            return Err(FrameRefusal::NotSubscribed);
        }
        if frame.base_offset != self.log_end_offset || frame.end_offset < frame.base_offset {
            return Err(FrameRefusal::Gap {
                expected: self.log_end_offset,
                found: frame.base_offset,
            });
        }
        if frame.end_offset > frame.base_offset {
            let in_order = self.last_epoch <= frame.last_epoch;
            if !in_order || frame.last_epoch > frame.leader_epoch {
                return Err(FrameRefusal::EpochOutOfOrder {
                    last: self.last_epoch,
                    found: frame.last_epoch,
                });
            }
            self.last_epoch = frame.last_epoch;
            self.log_end_offset = frame.end_offset;
        }
        self.leader_high_watermark = self.leader_high_watermark.max(frame.high_watermark);
        self.advance_high_watermark();
        Ok(())
    }

    /// Everything below `durable_end_offset` is durable here. Panics if it goes back or beyond the end of the log.
    pub fn handle_durable(&mut self, durable_end_offset: Offset) {
        assert!(
            durable_end_offset >= self.durable_end_offset,
            "the durable end went back without a truncation"
        );
        assert!(
            durable_end_offset <= self.log_end_offset,
            "more is durable than was appended"
        );
        self.durable_end_offset = durable_end_offset;
        self.advance_high_watermark();
    }

    /// The log has been cut as asked, durably: it ends at `end`. A cut in the middle of a batch takes the whole batch.
    /// `last_epoch` is the one of its last record now. Panics if nothing was asked.
    pub fn handle_truncated(&mut self, end: Offset, last_epoch: LeaderEpoch) {
        let Phase::Cutting(cut) = self.phase else {
            panic!("a log was cut without need");
        };
        match cut {
            Cut::Truncate(to) => {
                assert!(end <= to, "a log that was to end at {to} ends at {end}");
                self.log_end_offset = end;
                self.durable_end_offset = self.durable_end_offset.min(end);
            }
            Cut::StartOver(at) => {
                assert_eq!(end, at, "a log that begins anew does so where it is told");
                self.log_end_offset = at;
                self.durable_end_offset = at;
            }
        }
        self.last_epoch = last_epoch;
        self.high_watermark = self.high_watermark.min(self.durable_end_offset);
        self.high_watermark_reported = self.high_watermark_reported.min(self.high_watermark);
        self.leader_high_watermark = self.high_watermark;
        self.phase = self.phase_after_a_change();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<FollowerOutput> {
        if self.high_watermark > self.high_watermark_reported {
            self.high_watermark_reported = self.high_watermark;
            return Some(FollowerOutput::HighWatermark(self.high_watermark));
        }
        match self.phase {
            Phase::Unsubscribed => {
                let leader = self.leader.expect("there is one to subscribe to");
                self.phase = Phase::Subscribing;
                Some(FollowerOutput::Subscribe(leader, self.subscription()))
            }
            Phase::Diverged(cut) => {
                self.phase = Phase::Cutting(cut);
                Some(match cut {
                    Cut::Truncate(to) => FollowerOutput::Truncate {
                        to,
                        below_high_watermark: to < self.high_watermark,
                    },
                    Cut::StartOver(at) => FollowerOutput::StartOver(at),
                })
            }
            Phase::Fetching(told) => {
                let held = match self.is_planted(PlantedFault::AcknowledgesAppended) {
                    true => self.log_end_offset,
                    false => self.durable_end_offset,
                };
                if told.is_some_and(|told| told >= held) {
                    return None;
                }
                self.phase = Phase::Fetching(Some(held));
                Some(FollowerOutput::Acknowledge(self.leader_epoch, held))
            }
            Phase::Leaderless | Phase::Subscribing | Phase::Cutting(_) => None,
        }
    }

    fn subscription(&self) -> Subscription {
        Subscription {
            broker: self.broker,
            broker_epoch: self.broker_epoch,
            leader_epoch: self.leader_epoch,
            log_end_offset: self.log_end_offset,
            last_epoch: self.last_epoch,
        }
    }

    fn phase_after_a_change(&self) -> Phase {
        match self.leader {
            Some(_) => Phase::Unsubscribed,
            None => Phase::Leaderless,
        }
    }

    fn advance_high_watermark(&mut self) {
        let reached = self.leader_high_watermark.min(self.durable_end_offset);
        self.high_watermark = self.high_watermark.max(reached);
    }

    fn is_planted(&self, fault: PlantedFault) -> bool {
        self.planted == Some(fault)
    }
}
