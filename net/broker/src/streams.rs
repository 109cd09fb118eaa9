//! The streams of one shard to shards of other brokers: messages go out, come in, and end.
//!
//! Here `replication/shard`, which makes the messages, and `net/peer`, which carries them, meet. A message that cannot be sent
//! ends its stream: both sides begin it anew.

use std::rc::Rc;

use peer::{PeerNetwork, StreamEvent, Target};
use runtime::{Io, TaskClass};
use shard::Shard;
use shard::streams::PeerShard;

/// Sends what the shard has for others, for the life of the process.
pub(crate) fn start<I: Io>(shard: &Rc<Shard<I>>, network: &PeerNetwork<I>) {
    network.serve_streams();
    let task = send(shard.clone(), network.clone());
    shard.io.spawn(TaskClass::Foreground, task);
}

async fn send<I: Io>(shard: Rc<Shard<I>>, network: PeerNetwork<I>) {
    loop {
        let (to, pieces) = shard.next_stream_message().await;
        let target = target(to);
        if let Err(why) = network.stream_send(target, pieces) {
            tracing::debug!(%to, %why, "a message to another broker's shard is not sent");
            network.end_stream(target);
            shard.stream_down(to);
        }
    }
}

/// Hands on what has come, until there is nothing.
pub(crate) fn receive<I: Io>(shard: &Rc<Shard<I>>, network: &PeerNetwork<I>) {
    while let Some(event) = network.take_stream_event() {
        match event {
            StreamEvent::Up(from, _) => shard.stream_up(peer_shard(from)),
            // The credits of streams are below what may wait: nobody waits for room.
            StreamEvent::Room(_) => {}
            StreamEvent::Down(from) => shard.stream_down(peer_shard(from)),
            StreamEvent::Message(message) => {
                let from = peer_shard(message.from);
                let epoch = message.identity.epoch;
                if let Err(refusal) = shard.stream_message(from, epoch, &message.payload) {
                    tracing::warn!(%from, %refusal, "a message of another broker's shard is not taken");
                    network.end_stream(message.from);
                    shard.stream_down(from);
                }
            }
        }
    }
}

fn target(of: PeerShard) -> Target {
    Target {
        node: of.broker,
        shard: of.shard,
    }
}

fn peer_shard(of: Target) -> PeerShard {
    PeerShard {
        broker: of.node,
        shard: of.shard,
    }
}
