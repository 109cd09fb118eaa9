//! Which brokers are alive, as the active controller knows it from their heartbeats (KIP-631).
//!
//! Pure. Owned by the controller's driver, from the moment this broker becomes the controller; whoever becomes it next starts
//! with fresh sessions. What follows from a heartbeat or from silence is a [`Verdict`]: the driver decides it with
//! [`super::change_fencing`] or [`super::start_controlled_shutdown`] and commits that; the image then says what is true.
//! Invariants: a broker has at most one verdict under way; a broker whose registration is another one is never judged by
//! an old one's silence.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use model::{BrokerEpoch, BrokerId, MonotonicTime, Offset};

use super::{ControllerError, Refusal};
use crate::image::{BrokerRegistration, MetadataImage};

/// BrokerHeartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who is alive.
    pub broker: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// Every shard of it has applied the metadata log up to here.
    pub metadata_offset: Offset,
    /// It asks to be fenced, or to stay so: its storage has failed, or it is not ready yet.
    pub wants_fence: bool,
    /// It asks to stop.
    pub wants_shutdown: bool,
    /// Whether it leads any partition, as the image has it.
    pub leads: bool,
}

/// What a broker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// It knows its own registration.
    pub is_caught_up: bool,
    /// It may not lead.
    pub is_fenced: bool,
    /// It may stop now: nobody will look for it.
    pub should_shut_down: bool,
}

/// What the controller is to do about a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is silent, gone, or asked for it.
    Fence(BrokerId),
    /// It is alive and knows the cluster.
    Unfence(BrokerId),
    /// It asked to stop: others are to lead.
    BeginShutdown(BrokerId),
    /// A peer cannot reach it: look whether its port answers, then [`Sessions::handle_probed`].
    Probe(BrokerId),
}

/// What is known of a broker's process.
#[derive(Clone, Debug)]
struct Session {
    epoch: BrokerEpoch,
    heard_at: MonotonicTime,
    metadata_offset: Offset,
    /// Where the metadata log ended when it had nothing more to lead: it stops when everybody alive knows that.
    idle_since: Option<Offset>,
    /// A verdict is under way.
    is_judged: bool,
    is_probed: bool,
}

/// The sessions of all brokers.
#[derive(Clone, Debug)]
pub struct Sessions {
    timeout: Duration,
    sessions: BTreeMap<BrokerId, Session>,
    verdicts: VecDeque<Verdict>,
}

impl Sessions {
    /// This broker has become the controller: nobody is silent yet. `timeout` is `broker.session.timeout.ms`.
    pub fn new(now: MonotonicTime, timeout: Duration, image: &MetadataImage) -> Sessions {
        let active = image.brokers().filter(|broker| !broker.fenced);
        let sessions = active.map(|broker| {
            let session = Session::begin(now, broker.epoch, Offset::ZERO);
            (broker.id, session)
        });
        Sessions {
            timeout,
            sessions: sessions.collect(),
            verdicts: VecDeque::new(),
        }
    }

    /// A broker is alive.
    pub fn handle_heartbeat(
        &mut self,
        now: MonotonicTime,
        image: &MetadataImage,
        heartbeat: &Heartbeat,
    ) -> Result<HeartbeatAnswer, ControllerError> {
        let registration = check_registration(image, heartbeat)?;
        let offset = heartbeat.metadata_offset;
        let begun = Session::begin(now, heartbeat.epoch, offset);
        let session = self.sessions.entry(heartbeat.broker).or_insert(begun);
        if session.epoch != heartbeat.epoch {
            *session = Session::begin(now, heartbeat.epoch, offset);
        }
        session.heard_at = now;
        session.metadata_offset = session.metadata_offset.max(offset);
        session.is_probed = false;
        let is_caught_up = knows_itself(registration, offset);
        let verdict = judge(registration, heartbeat, is_caught_up);
        let should_shut_down =
            heartbeat.wants_shutdown && self.may_stop(image, registration, heartbeat);
        if let Some(verdict) = verdict
            && !should_shut_down
        {
            self.conclude(heartbeat.broker, verdict);
        }
        Ok(HeartbeatAnswer {
            is_caught_up,
            is_fenced: registration.fenced,
            should_shut_down,
        })
    }

    /// A peer has lost its connections to a broker, and its port refuses new ones.
    pub fn handle_suspected(&mut self, broker: BrokerId) {
        if let Some(session) = self.sessions.get_mut(&broker)
            && !session.is_judged
            && !session.is_probed
        {
            session.is_probed = true;
            self.verdicts.push_back(Verdict::Probe(broker));
        }
    }

    /// A probe has ended. A broker that does not answer is fenced at once, unless it was heard of meanwhile.
    pub fn handle_probed(&mut self, image: &MetadataImage, broker: BrokerId, answers: bool) {
        let Some(session) = self.sessions.get_mut(&broker) else {
            return;
        };
        let is_meant = std::mem::replace(&mut session.is_probed, false);
        let is_active = image.broker(broker).is_some_and(|known| !known.fenced);
        if is_meant && !answers && is_active {
            self.conclude(broker, Verdict::Fence(broker));
        }
    }

    /// Fences who was silent for too long.
    pub fn handle_timeout(&mut self, now: MonotonicTime, image: &MetadataImage) {
        let timeout = self.timeout;
        let is_silent = |session: &Session| now.since(session.heard_at) >= timeout;
        let silent = self
            .sessions
            .iter()
            .filter(|(_, session)| is_silent(session));
        let silent: Vec<(BrokerId, BrokerEpoch)> = silent
            .map(|(broker, session)| (*broker, session.epoch))
            .collect();
        for (broker, epoch) in silent {
            match image.broker(broker) {
                Some(known) if known.epoch == epoch && !known.fenced => {
                    self.conclude(broker, Verdict::Fence(broker));
                }
                // It was fenced or has registered anew: its next heartbeat begins another session.
                _ => {
                    self.sessions.remove(&broker);
                }
            }
        }
    }

    /// When [`Sessions::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        let waiting = self.sessions.values().filter(|session| !session.is_judged);
        waiting
            .map(|session| session.heard_at.plus(self.timeout))
            .min()
    }

    /// The verdict about a broker was carried out, or could not be: it is judged anew from now on.
    pub fn handle_decided(&mut self, broker: BrokerId) {
        if let Some(session) = self.sessions.get_mut(&broker) {
            session.is_judged = false;
        }
    }

    /// Whether a process of this broker was heard of lately.
    pub fn is_live(&self, now: MonotonicTime, broker: BrokerId) -> bool {
        let session = self.sessions.get(&broker);
        session.is_some_and(|session| now.since(session.heard_at) < self.timeout)
    }

    /// Whether there is something to do.
    pub fn has_output(&self) -> bool {
        !self.verdicts.is_empty()
    }

    /// What to do next. To be taken until there is nothing: all of it can be one decision.
    pub fn poll_output(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    fn conclude(&mut self, broker: BrokerId, verdict: Verdict) {
        let session = self.sessions.get_mut(&broker);
        let session = session.expect("who is judged has a session");
        if !session.is_judged {
            session.is_judged = true;
            self.verdicts.push_back(verdict);
        }
    }

    /// Whether a broker that asks to stop leads nothing, and everybody alive knows that.
    fn may_stop(
        &mut self,
        image: &MetadataImage,
        registration: &BrokerRegistration,
        heartbeat: &Heartbeat,
    ) -> bool {
        if registration.fenced {
            return true;
        }
        let session = self.sessions.get_mut(&heartbeat.broker);
        let session = session.expect("its heartbeat was noted");
        if heartbeat.leads || !registration.in_controlled_shutdown {
            session.idle_since = None;
            return false;
        }
        let idle_since = *session.idle_since.get_or_insert(image.end_offset());
        let mut others = self.sessions.iter().filter(|(id, _)| image.is_active(**id));
        others.all(|(_, session)| session.metadata_offset >= idle_since)
    }
}

impl Session {
    fn begin(now: MonotonicTime, epoch: BrokerEpoch, metadata_offset: Offset) -> Session {
        Session {
            epoch,
            heard_at: now,
            metadata_offset,
            idle_since: None,
            is_judged: false,
            is_probed: false,
        }
    }
}

fn check_registration<'a>(
    image: &'a MetadataImage,
    heartbeat: &Heartbeat,
) -> Result<&'a BrokerRegistration, ControllerError> {
    let Some(registration) = image.broker(heartbeat.broker) else {
        let message = "the broker is not registered";
        return Err(ControllerError::new(
            Refusal::BrokerIdNotRegistered,
            message,
        ));
    };
    if registration.epoch != heartbeat.epoch {
        let message = "the broker has another registration";
        return Err(ControllerError::new(Refusal::StaleBrokerEpoch, message));
    }
    Ok(registration)
}

/// A registration's epoch is the offset of its record.
fn knows_itself(registration: &BrokerRegistration, metadata_offset: Offset) -> bool {
    metadata_offset.0 > registration.epoch.0
}

/// What a heartbeat asks for that is not so yet.
fn judge(
    registration: &BrokerRegistration,
    heartbeat: &Heartbeat,
    is_caught_up: bool,
) -> Option<Verdict> {
    let broker = heartbeat.broker;
    match registration.fenced {
        true if heartbeat.wants_fence || heartbeat.wants_shutdown || !is_caught_up => None,
        true => Some(Verdict::Unfence(broker)),
        false if heartbeat.wants_fence => Some(Verdict::Fence(broker)),
        false if heartbeat.wants_shutdown && !registration.in_controlled_shutdown => {
            Some(Verdict::BeginShutdown(broker))
        }
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        BrokerEndpoint, BrokerRegistrationChangeRecord, MetadataRecord, RegisterBrokerRecord, Uuid,
    };

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn at(ms: u64) -> MonotonicTime {
        MonotonicTime(0).plus(Duration::from_millis(ms))
    }

    /// Brokers with these numbers, whose epochs are 0, 1, ...; all fenced.
    fn image(brokers: &[i32]) -> MetadataImage {
        let mut image = MetadataImage::new("cluster");
        for broker in brokers {
            let epoch = BrokerEpoch(image.end_offset().0);
            let record = RegisterBrokerRecord {
                broker_id: BrokerId(*broker),
                incarnation_id: Uuid([*broker as u8; 16]),
                broker_epoch: epoch,
                endpoints: vec![BrokerEndpoint {
                    name: "PLAINTEXT".into(),
                    host: "localhost".into(),
                    port: 9092,
                    security_protocol: 0,
                }],
                features: Vec::new(),
                rack: None,
                fenced: true,
                in_controlled_shutdown: false,
                log_dirs: Vec::new(),
                cordoned_log_dirs: None,
                shard_count: None,
            };
            apply(&mut image, MetadataRecord::RegisterBroker(record));
        }
        image
    }

    fn apply(image: &mut MetadataImage, record: MetadataRecord) {
        image.apply_batch(image.end_offset(), &[record]).unwrap();
    }

    fn change(image: &mut MetadataImage, broker: i32, fenced: Option<bool>, shutdown: bool) {
        let epoch = image.broker(BrokerId(broker)).unwrap().epoch;
        let record = BrokerRegistrationChangeRecord {
            broker_id: BrokerId(broker),
            broker_epoch: epoch,
            fenced,
            in_controlled_shutdown: shutdown,
            ..BrokerRegistrationChangeRecord::default()
        };
        apply(image, MetadataRecord::BrokerRegistrationChange(record));
    }

    fn heartbeat(image: &MetadataImage, broker: i32) -> Heartbeat {
        Heartbeat {
            broker: BrokerId(broker),
            epoch: image.broker(BrokerId(broker)).unwrap().epoch,
            metadata_offset: image.end_offset(),
            wants_fence: false,
            wants_shutdown: false,
            leads: false,
        }
    }

    fn verdicts(sessions: &mut Sessions) -> Vec<Verdict> {
        std::iter::from_fn(|| sessions.poll_output()).collect()
    }

    /// Two brokers that are alive and unfenced.
    fn two() -> (MetadataImage, Sessions) {
        let mut image = image(&[1, 2]);
        change(&mut image, 1, Some(false), false);
        change(&mut image, 2, Some(false), false);
        let sessions = Sessions::new(at(0), TIMEOUT, &image);
        (image, sessions)
    }

    #[test]
    fn a_broker_is_unfenced_when_it_knows_itself() {
        let mut image = image(&[1]);
        let mut sessions = Sessions::new(at(0), TIMEOUT, &image);
        assert_eq!(sessions.next_timeout(), None);
        // (knows, wants to stay fenced, caught up, verdict)
        let unfence = vec![Verdict::Unfence(BrokerId(1))];
        let table = [
            (0, false, false, vec![]),
            (1, true, true, vec![]),
            (1, false, true, unfence),
            // It is on its way.
            (1, false, true, vec![]),
        ];
        for (offset, wants_fence, is_caught_up, expected) in table {
            let beat = Heartbeat {
                metadata_offset: Offset(offset),
                wants_fence,
                ..heartbeat(&image, 1)
            };
            let answer = sessions.handle_heartbeat(at(1), &image, &beat).unwrap();
            assert_eq!(
                (answer.is_caught_up, answer.is_fenced),
                (is_caught_up, true)
            );
            assert_eq!(verdicts(&mut sessions), expected, "{beat:?}");
        }
        change(&mut image, 1, Some(false), false);
        sessions.handle_decided(BrokerId(1));
        let answer = sessions.handle_heartbeat(at(2), &image, &heartbeat(&image, 1));
        assert!(!answer.unwrap().is_fenced);
        assert_eq!(verdicts(&mut sessions), []);
    }

    #[test]
    fn silence_fences_once_and_only_the_registration_that_was_silent() {
        let (mut image, mut sessions) = two();
        sessions
            .handle_heartbeat(at(1000), &image, &heartbeat(&image, 2))
            .unwrap();
        assert_eq!(sessions.next_timeout(), Some(at(2000)));
        sessions.handle_timeout(at(1999), &image);
        assert_eq!(verdicts(&mut sessions), []);
        sessions.handle_timeout(at(2000), &image);
        assert_eq!(verdicts(&mut sessions), [Verdict::Fence(BrokerId(1))]);
        assert_eq!(sessions.next_timeout(), Some(at(3000)));
        sessions.handle_timeout(at(2500), &image);
        assert_eq!(verdicts(&mut sessions), [], "it is under way");
        // The decision did not come through: it is judged again.
        sessions.handle_decided(BrokerId(1));
        sessions.handle_timeout(at(2600), &image);
        assert_eq!(verdicts(&mut sessions), [Verdict::Fence(BrokerId(1))]);
        change(&mut image, 1, Some(true), false);
        sessions.handle_decided(BrokerId(1));
        sessions.handle_timeout(at(2700), &image);
        assert_eq!(verdicts(&mut sessions), []);
        assert_eq!(
            sessions.next_timeout(),
            Some(at(3000)),
            "the fenced one is not waited for"
        );
    }

    #[test]
    fn a_suspect_is_probed_once_and_fenced_if_it_does_not_answer() {
        let (image, mut sessions) = two();
        let probe = [Verdict::Probe(BrokerId(1))];
        sessions.handle_suspected(BrokerId(1));
        sessions.handle_suspected(BrokerId(1));
        sessions.handle_suspected(BrokerId(9));
        assert_eq!(verdicts(&mut sessions), probe);
        sessions.handle_probed(&image, BrokerId(1), true);
        assert_eq!(verdicts(&mut sessions), []);
        sessions.handle_suspected(BrokerId(1));
        assert_eq!(verdicts(&mut sessions), probe);
        // A heartbeat is better than a probe.
        sessions
            .handle_heartbeat(at(5), &image, &heartbeat(&image, 1))
            .unwrap();
        sessions.handle_probed(&image, BrokerId(1), false);
        assert_eq!(verdicts(&mut sessions), []);
        sessions.handle_suspected(BrokerId(1));
        assert_eq!(verdicts(&mut sessions), probe);
        sessions.handle_probed(&image, BrokerId(1), false);
        assert_eq!(verdicts(&mut sessions), [Verdict::Fence(BrokerId(1))]);
    }

    #[test]
    fn a_broker_stops_when_everybody_alive_knows_that_it_leads_nothing() {
        let (mut image, mut sessions) = two();
        let stopping = |image: &MetadataImage, leads| Heartbeat {
            wants_shutdown: true,
            leads,
            ..heartbeat(image, 1)
        };
        let beat = stopping(&image, true);
        let answer = sessions.handle_heartbeat(at(1), &image, &beat).unwrap();
        assert!(!answer.should_shut_down);
        assert_eq!(
            verdicts(&mut sessions),
            [Verdict::BeginShutdown(BrokerId(1))]
        );
        change(&mut image, 1, None, true);
        sessions.handle_decided(BrokerId(1));
        let known_by_2 = image.end_offset();
        let beat = stopping(&image, true);
        let answer = sessions.handle_heartbeat(at(2), &image, &beat).unwrap();
        assert!(!answer.should_shut_down, "it leads still");
        let mut beat_2 = heartbeat(&image, 2);
        beat_2.metadata_offset = Offset(known_by_2.0 - 1);
        sessions.handle_heartbeat(at(3), &image, &beat_2).unwrap();
        let beat = stopping(&image, false);
        let answer = sessions.handle_heartbeat(at(4), &image, &beat).unwrap();
        assert!(
            !answer.should_shut_down,
            "broker 2 may still send clients there"
        );
        beat_2.metadata_offset = known_by_2;
        sessions.handle_heartbeat(at(5), &image, &beat_2).unwrap();
        let answer = sessions.handle_heartbeat(at(6), &image, &beat).unwrap();
        assert!(answer.should_shut_down);
        assert_eq!(verdicts(&mut sessions), []);
    }

    #[test]
    fn strangers_and_old_registrations_are_refused() {
        let (image, mut sessions) = two();
        let stranger = Heartbeat {
            broker: BrokerId(7),
            ..heartbeat(&image, 1)
        };
        let old = Heartbeat {
            epoch: BrokerEpoch(77),
            ..heartbeat(&image, 1)
        };
        let table = [
            (stranger, Refusal::BrokerIdNotRegistered),
            (old, Refusal::StaleBrokerEpoch),
        ];
        for (beat, expected) in table {
            let refused = sessions.handle_heartbeat(at(1), &image, &beat).unwrap_err();
            assert_eq!(refused.refusal, expected);
        }
        // A broker whose storage failed is fenced because it asks for it, and may stop at once then.
        let failed = Heartbeat {
            wants_fence: true,
            wants_shutdown: true,
            ..heartbeat(&image, 2)
        };
        sessions.handle_heartbeat(at(1), &image, &failed).unwrap();
        assert_eq!(verdicts(&mut sessions), [Verdict::Fence(BrokerId(2))]);
        let mut image = image;
        change(&mut image, 2, Some(true), false);
        let answer = sessions.handle_heartbeat(at(2), &image, &failed).unwrap();
        assert!(answer.should_shut_down);
    }
}
