//! Who of the brokers is alive, and what suspects have said of their logs, while this one is the controller.
//!
//! On shard 0. Invariant: there are sessions exactly while this broker is the active controller. It never judges itself by
//! silence: that it decides is a sign of life, and a controller whose disk fails resigns.

use std::cell::RefCell;
use std::time::Duration;

use metadata::controller::{
    Candidacies, CandidateReport, ControllerError, Heartbeat, HeartbeatAnswer, Sessions, Verdict,
};
use metadata::{MetadataImage, MetadataRecord};
use model::{BrokerId, MonotonicTime};

use crate::refusal::MetadataRefusal;

/// The sessions of brokers, while this one is the controller.
pub(crate) struct Liveness {
    me: BrokerId,
    timeout: Duration,
    sessions: RefCell<Option<Sessions>>,
    candidacies: RefCell<Candidacies>,
}

impl Liveness {
    /// `timeout` is `broker.session.timeout.ms`.
    pub(crate) fn new(me: BrokerId, timeout: Duration) -> Liveness {
        Liveness {
            me,
            timeout,
            sessions: RefCell::new(None),
            candidacies: RefCell::default(),
        }
    }

    /// This broker is the active controller, or is not. Whether that is news.
    pub(crate) fn follow(
        &self,
        is_active: bool,
        now: MonotonicTime,
        image: &MetadataImage,
    ) -> bool {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.is_some() == is_active {
            return false;
        }
        *sessions = is_active.then(|| Sessions::new(now, self.timeout, image));
        *self.candidacies.borrow_mut() = Candidacies::default();
        true
    }

    /// A broker is alive. The verdicts that follow are to be taken.
    pub(crate) fn heartbeat(
        &self,
        now: MonotonicTime,
        image: &MetadataImage,
        heartbeat: &Heartbeat,
    ) -> Result<Result<HeartbeatAnswer, ControllerError>, MetadataRefusal> {
        let mut sessions = self.sessions.borrow_mut();
        let sessions = sessions.as_mut().ok_or(MetadataRefusal::NotController)?;
        Ok(sessions.handle_heartbeat(now, image, heartbeat))
    }

    /// Whether another process of this number may be alive.
    pub(crate) fn is_live(&self, now: MonotonicTime, broker: BrokerId) -> bool {
        let sessions = self.sessions.borrow();
        let sessions = sessions.as_ref();
        broker != self.me && sessions.is_some_and(|sessions| sessions.is_live(now, broker))
    }

    /// Time has passed. The verdicts that follow are to be taken.
    pub(crate) fn tick(&self, now: MonotonicTime, image: &MetadataImage) {
        let mut sessions = self.sessions.borrow_mut();
        if let Some(sessions) = sessions.as_mut()
            && sessions.next_timeout().is_some_and(|due| due <= now)
        {
            sessions.handle_timeout(now, image);
        }
    }

    pub(crate) fn has_verdicts(&self) -> bool {
        let sessions = self.sessions.borrow();
        sessions.as_ref().is_some_and(Sessions::has_output)
    }

    /// What is to be decided, about others or by their own wish.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let mut sessions = self.sessions.borrow_mut();
        let Some(sessions) = sessions.as_mut() else {
            return Vec::new();
        };
        std::iter::from_fn(|| sessions.poll_output()).collect()
    }

    /// A verdict was carried out, or could not be.
    pub(crate) fn decided(&self, broker: BrokerId) {
        if let Some(sessions) = self.sessions.borrow_mut().as_mut() {
            sessions.handle_decided(broker);
        }
    }

    /// A broker has told what it has of partitions that wait for suspects. The elections that follow.
    pub(crate) fn candidates(
        &self,
        image: &MetadataImage,
        report: &CandidateReport,
    ) -> Vec<MetadataRecord> {
        let mut candidacies = self.candidacies.borrow_mut();
        candidacies.handle_report(image, report)
    }

    /// A broker's connections are gone, and its port refuses new ones.
    pub(crate) fn suspected(&self, broker: BrokerId) {
        if let Some(sessions) = self.sessions.borrow_mut().as_mut() {
            sessions.handle_suspected(broker);
        }
    }

    /// A probe has ended.
    pub(crate) fn probed(&self, image: &MetadataImage, broker: BrokerId, answers: bool) {
        if let Some(sessions) = self.sessions.borrow_mut().as_mut() {
            sessions.handle_probed(image, broker, answers);
        }
    }
}
