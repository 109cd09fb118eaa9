//! Questions to the controller on their way: decided here if this broker is it, else sent to the one that is.
//!
//! On shard 0. A question is asked again as long as nothing came of it. One whose outcome is not known is asked again only if
//! it may be: an answer that says "not the controller" leaves it to the client, as in Kafka.
//! Bounds: [`FORWARDERS`] questions under way; what waits for them is bounded by the requests in flight.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use metadata::controller::Heartbeat;
use model::{BrokerId, MonotonicTime};
use runtime::{Io, Oneshot, Signal, TaskClass};

use crate::contacts::peer_addresses;
use crate::controller;
use crate::controller_call::{
    Controller, ControllerAnswer, ControllerCall, ControllerRequest, ForwardAnswer, decode, encode,
};
use crate::controller_queue::{ControllerWork, Decided, Question};
use crate::outgoing::{Forward, Forwarded, Outgoing};
use crate::refusal::{MetadataRefusal, WaitFailure, WriteRefusal};
use crate::shard::Shard;

/// Questions of this broker that are under way to the controller at once.
const FORWARDERS: usize = 16;

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

/// Has the controller decide a question of shard 0 itself.
pub(crate) async fn ask<I: Io, C>(shard: &Shard<I>, call: C) -> Result<C::Decided, MetadataRefusal>
where
    C: ControllerCall,
    C::Decided: 'static,
{
    let done = Oneshot::new();
    let to = done.clone();
    let now = shard.io.now();
    shard
        .controller
        .ask(now, call, move |decided| to.set(decided));
    done.take().await
}

/// Another broker asks for a decision. `answer` is given what it is to be told, in its own time.
pub(crate) fn forwarded<I: Io>(
    shard: &Rc<Shard<I>>,
    request: &[u8],
    answer: impl FnOnce(Bytes) + 'static,
) {
    let request: ControllerRequest = match decode(request) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(%error, "a broker has asked what this release does not know");
            return answer(encode(&ForwardAnswer::NotController(None)));
        }
    };
    if let ControllerRequest::Heartbeat(heartbeat) = &request {
        return answer(encode(&hear(shard, heartbeat)));
    }
    let here = shard.clone();
    let deliver = move |decided| {
        answer(encode(&match decided {
            Decided::Answer(end, answer) => ForwardAnswer::Decided(end, answer),
            Decided::NotHere(_) => ForwardAnswer::NotController(known_controller(&here)),
        }));
    };
    shard.controller.enqueue(ControllerWork {
        request,
        deliver: Box::new(deliver),
    });
}

/// A heartbeat does not wait behind decisions.
fn hear<I: Io>(shard: &Shard<I>, heartbeat: &Heartbeat) -> ForwardAnswer {
    match controller::hear(shard, heartbeat) {
        Err(MetadataRefusal::NotController) => {
            ForwardAnswer::NotController(known_controller(shard))
        }
        answer => {
            let end = shard.image().end_offset();
            ForwardAnswer::Decided(end, ControllerAnswer::Heartbeat(answer))
        }
    }
}

/// Who leads the metadata log, as far as this broker knows.
fn known_controller<I: Io>(shard: &Shard<I>) -> Option<Controller> {
    let replica = shard.replica().expect("shard 0 is asked");
    let key = replica.leader()?;
    let image = shard.image();
    let broker = image.broker(key.broker);
    Some(Controller {
        key,
        addresses: broker.map_or_else(Vec::new, |broker| peer_addresses(broker)),
    })
}

/// The leader of the metadata log, if it can be named and reached; else whoever may know it. One that did not take the last
/// question may be elsewhere by now: others are asked where.
fn whom_to_ask<I: Io>(
    shard: &Shard<I>,
    told: Option<BrokerId>,
    missed: Option<BrokerId>,
) -> Option<BrokerId> {
    let me = shard.options.broker;
    let leader = shard.replica().and_then(|replica| replica.leader());
    let leader = leader.map(|key| key.broker);
    let known = told.or(leader.filter(|leader| missed != Some(*leader)));
    let image = shard.image();
    let known = known.filter(|broker| *broker != me && shard.contacts.reach(&image, *broker));
    known.or_else(|| shard.contacts.any(&image, me))
}

async fn forward_questions<I: Io>(shard: Rc<Shard<I>>) {
    let signal = Signal::new();
    loop {
        let Question {
            request,
            deliver,
            deadline,
        } = shard.controller.next_question(&signal).await;
        match send(&shard, request, deadline).await {
            Ok(answer) => deliver(answer),
            // This broker has become the controller.
            Err(request) => shard.controller.ask_again(Question {
                request,
                deliver,
                deadline,
            }),
        }
    }
}

/// Asks whoever the controller is. The request comes back if that is this broker.
async fn send<I: Io>(
    shard: &Rc<Shard<I>>,
    request: ControllerRequest,
    deadline: MonotonicTime,
) -> Result<ControllerAnswer, ControllerRequest> {
    let replica = shard.replica().expect("this is shard 0").clone();
    let body = encode(&request);
    let (mut told, mut missed) = (None, None);
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
        let Some(to) = whom_to_ask(shard, told.take(), missed.take()) else {
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
                    while request.is_of_clients()
                        && !shard.controller.have_applied(end)
                        && shard.io.now() < deadline
                    {
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
            Forwarded::NotTaken => missed = Some(to),
            Forwarded::Unknown if request.may_be_repeated() => {}
            Forwarded::Unknown => return Ok(request.refused(MetadataRefusal::NotController)),
        }
        shard.io.sleep(PAUSE).await;
    }
}
