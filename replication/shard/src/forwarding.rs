//! Questions to the controller on their way: decided here if this broker is it, else sent to the one that is.
//!
//! On shard 0. A question is asked again as long as nothing came of it. One whose outcome is not known is asked again only if
//! it may be: an answer that says "not the controller" leaves it to the client, as in Kafka.
//! Bounds: [`FORWARDERS`] questions under way; what waits for them is bounded by the requests in flight.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{BrokerId, MonotonicTime};
use quorum::ReplicaKey;
use runtime::{Io, Oneshot, Signal, TaskClass};

use crate::contacts::peer_addresses;
use crate::controller;
use crate::controller_call::{
    Controller, ControllerAnswer, ControllerCall, ControllerRequest, ForwardAnswer, decode, encode,
};
use crate::controller_queue::{ControllerWork, Decided, Question};
use crate::message::{Ask, ReplyTo};
use crate::outgoing::{Forward, Forwarded, Outgoing};
use crate::refusal::{MetadataRefusal, WaitFailure, WriteRefusal};
use crate::shard::Shard;

/// Questions of this broker that are under way to the controller at once.
const FORWARDERS: usize = 16;

/// How long a question is asked, over all controllers.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// How often it is looked whether a decision is known here.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Starts the tasks.
pub(crate) fn start<I: Io>(shard: &Rc<Shard<I>>) {
    for _ in 0..FORWARDERS {
        let task = forward_questions(shard.clone());
        shard.io.spawn(TaskClass::Foreground, task);
    }
}

impl<I: Io> Shard<I> {
    /// Has the controller decide a question of a shard.
    pub(crate) fn ask_controller<Q, C>(&self, call: C, reply: ReplyTo<Q>)
    where
        C: ControllerCall + 'static,
        Q: Ask<Answer = Result<C::Decided, MetadataRefusal>>,
    {
        let peers = self.peers.clone();
        let deliver = move |answer| peers.answer(reply, C::decided(answer));
        self.enqueue(call.into_request(), Box::new(deliver));
    }

    /// Has the controller decide a question of shard 0 itself.
    pub(crate) async fn call_controller<C>(&self, call: C) -> Result<C::Decided, MetadataRefusal>
    where
        C: ControllerCall + 'static,
    {
        let done = Oneshot::new();
        let to = done.clone();
        self.enqueue(call.into_request(), Box::new(move |answer| to.set(answer)));
        C::decided(done.take().await)
    }

    fn enqueue(&self, request: ControllerRequest, deliver: Box<dyn FnOnce(ControllerAnswer)>) {
        let deadline = self.io.now().plus(PATIENCE);
        let questions = self.questions.clone();
        let deliver = move |decided| match decided {
            Decided::Answer(_, answer) => deliver(answer),
            Decided::NotHere(request) => questions.push(Question {
                request,
                deliver,
                deadline,
            }),
        };
        self.controller.enqueue(ControllerWork {
            request,
            deliver: Box::new(deliver),
        });
    }

    /// Another broker asks for a decision. `answer` is given what it is to be told, in its own time.
    pub fn forwarded(self: &Rc<Self>, request: &[u8], answer: impl FnOnce(Bytes) + 'static) {
        let request: ControllerRequest = match decode(request) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "a broker has asked what this release does not know");
                return answer(encode(&ForwardAnswer::NotController(None)));
            }
        };
        if let ControllerRequest::Heartbeat(heartbeat) = &request {
            return answer(encode(&self.hear_peer(heartbeat)));
        }
        let shard = self.clone();
        let deliver = move |decided| {
            answer(encode(&match decided {
                Decided::Answer(end, answer) => ForwardAnswer::Decided(end, answer),
                Decided::NotHere(_) => ForwardAnswer::NotController(shard.known_controller()),
            }));
        };
        self.controller.enqueue(ControllerWork {
            request,
            deliver: Box::new(deliver),
        });
    }

    /// A heartbeat does not wait behind decisions.
    fn hear_peer(&self, heartbeat: &metadata::controller::Heartbeat) -> ForwardAnswer {
        match controller::hear(self, heartbeat) {
            Err(MetadataRefusal::NotController) => {
                ForwardAnswer::NotController(self.known_controller())
            }
            answer => ForwardAnswer::Decided(
                self.image().end_offset(),
                ControllerAnswer::Heartbeat(answer),
            ),
        }
    }

    /// Who leads the metadata log, as far as this broker knows.
    pub(crate) fn known_controller(&self) -> Option<Controller> {
        let replica = self.replica().expect("shard 0 is asked");
        let key = replica.leader()?;
        Some(Controller {
            key,
            addresses: self.peer_addresses_of(key),
        })
    }

    fn peer_addresses_of(&self, key: ReplicaKey) -> Vec<(String, u16)> {
        let image = self.image();
        let broker = image.broker(key.broker);
        broker.map_or_else(Vec::new, |broker| peer_addresses(broker))
    }

    /// The leader of the metadata log, if it can be named; else whoever may know it.
    fn whom_to_ask(&self, told: Option<BrokerId>) -> Option<BrokerId> {
        let me = self.options.broker;
        let leader = self.replica().and_then(|replica| replica.leader());
        let leader = leader.map(|key| key.broker);
        let known = told.or(leader).filter(|broker| *broker != me);
        known.or_else(|| self.contacts.any(&self.image(), me))
    }
}

async fn forward_questions<I: Io>(shard: Rc<Shard<I>>) {
    let signal = Signal::new();
    loop {
        let Question {
            request,
            deliver,
            deadline,
        } = shard.questions.next(&signal).await;
        match ask(&shard, request, deadline).await {
            Ok(answer) => deliver(answer),
            // This broker has become the controller.
            Err(request) => shard.enqueue(request, deliver),
        }
    }
}

/// Asks whoever the controller is. The request comes back if that is this broker.
async fn ask<I: Io>(
    shard: &Rc<Shard<I>>,
    request: ControllerRequest,
    deadline: MonotonicTime,
) -> Result<ControllerAnswer, ControllerRequest> {
    let replica = shard.replica().expect("this is shard 0").clone();
    let body = encode(&request);
    let mut told = None;
    loop {
        if replica.is_active() {
            return Err(request);
        }
        let is_sign_of_life = matches!(request, ControllerRequest::Heartbeat(_));
        if shard.storage.fence_reason().is_some() && !is_sign_of_life {
            let refusal = WriteRefusal::NotAcknowledged(WaitFailure::Fenced);
            return Ok(request.refused(MetadataRefusal::NotWritten(refusal)));
        }
        if shard.io.now() >= deadline {
            return Ok(request.refused(MetadataRefusal::NotController));
        }
        let Some(to) = shard.whom_to_ask(told.take()) else {
            // Nobody but this broker, which is about to become the controller.
            shard.io.sleep(LOOK_INTERVAL).await;
            continue;
        };
        let answer = Oneshot::new();
        shard.outgoing.push(Outgoing::Forward(Forward {
            to,
            request: body.clone(),
            answer: answer.clone(),
        }));
        match answer.take().await {
            Forwarded::Answered(bytes) => match decode(&bytes) {
                Ok(ForwardAnswer::Decided(end, answer)) => {
                    // Who asked this broker next is to see it.
                    while !shard.controller.have_applied(end) && shard.io.now() < deadline {
                        shard.io.sleep(LOOK_INTERVAL).await;
                    }
                    return Ok(answer);
                }
                Ok(ForwardAnswer::NotController(controller)) => {
                    if let Some(controller) = controller {
                        told = Some(controller.key.broker);
                        shard.learn(controller);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, broker = %to, "an answer of the controller");
                    return Ok(request.refused(MetadataRefusal::NotController));
                }
            },
            Forwarded::NotTaken => {}
            Forwarded::Unknown if request.may_be_repeated() => {}
            Forwarded::Unknown => return Ok(request.refused(MetadataRefusal::NotController)),
        }
        shard.io.sleep(PAUSE).await;
    }
}
