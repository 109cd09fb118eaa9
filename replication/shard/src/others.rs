//! What other brokers send to shard 0, and what becomes of what was sent to them: the calls for whoever has the connections.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use model::BrokerId;
use quorum::{Message, ReplicaKey, SnapshotMark};
use runtime::Io;

use crate::metadata_snapshots::id_of;
use crate::shard::Shard;
use crate::{forwarding, metadata_quorum, snapshot_taker};

/// Another replica's message: `message.from` has shown that it is that one.
pub fn quorum_message<I: Io>(shard: &Rc<Shard<I>>, message: Message) {
    metadata_quorum::message(shard, message);
}

/// Nothing that the quorum sends there arrives at present.
pub fn unreachable<I: Io>(shard: &Rc<Shard<I>>, peer: ReplicaKey) {
    metadata_quorum::unreachable(shard, peer);
}

/// A snapshot that was asked for cannot be had.
pub fn snapshot_not_fetched<I: Io>(shard: &Rc<Shard<I>>) {
    metadata_quorum::snapshot_not_fetched(shard);
}

/// A snapshot that was asked for: its bytes, all of them.
pub fn snapshot_fetched<I: Io>(shard: &Rc<Shard<I>>, mark: &SnapshotMark, bytes: &Bytes) {
    snapshot_taker::fetched(shard, mark, bytes);
}

/// The name under which another broker has a snapshot.
pub fn snapshot_name(mark: &SnapshotMark) -> String {
    id_of(mark).to_string()
}

/// Another broker asks for a piece of a snapshot of this one. With the length of the whole; `None` if there is none of this
/// name.
pub async fn read_snapshot<I: Io>(
    shard: &Rc<Shard<I>>,
    name: &str,
    offset: u64,
    length: usize,
) -> io::Result<Option<(u64, Bytes)>> {
    match name.parse() {
        Ok(id) => snapshot_taker::read(shard, id, offset, length).await,
        Err(_) => Ok(None),
    }
}

/// Another broker asks for a decision. `answer` is given what it is to be told, in its own time.
pub fn forwarded<I: Io>(
    shard: &Rc<Shard<I>>,
    request: &[u8],
    answer: impl FnOnce(Bytes) + 'static,
) {
    forwarding::forwarded(shard, request, answer);
}

/// A broker's connections are gone, and its port refuses new ones. Nothing follows where this broker is not the controller.
pub fn suspect<I: Io>(shard: &Shard<I>, broker: BrokerId) {
    shard.liveness.suspected(broker);
    shard.controller.judge_if(shard.liveness.has_verdicts());
}

/// What became of [`crate::outgoing::Outgoing::Probe`]: false if nobody listens there any more.
pub fn probed<I: Io>(shard: &Shard<I>, broker: BrokerId, may_live: bool) {
    shard.liveness.probed(&shard.image(), broker, may_live);
    shard.controller.judge_if(shard.liveness.has_verdicts());
}
