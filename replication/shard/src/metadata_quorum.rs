//! Drives this broker's replica of the metadata log: what the quorum wants is done here, on shard 0.
//!
//! [`settle`] is called after everything that the quorum is told. Writes go to one task, which carries them out in order, and
//! another one tells the quorum when they are durable; what is committed is applied to this shard's image at once and told
//! to the other shards.
//! Invariant: the image of shard 0 ends where the quorum's committed entries end, or later: a start may have applied more.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metadata::{MetadataImage, MetadataRecord, removal_records};
use model::record::{BatchHeader, Batches};
use model::{MonotonicTime, Offset, TopicId};
use quorum::{
    Committed, EntryKind, HardState, Message, Output, ReadEntries, ReplicaKey, SnapshotMark, Write,
    encode_mark,
};
use runtime::{Io, TaskClass};
use storage::{
    AppendError, CutError, FollowError, Log, Mark, NewSnapshot, ReadRequest, ReplicatedBatch,
    SnapshotError, Storage, StorageError,
};

use crate::leading;
use crate::message::Envelope;
use crate::metadata_log::{records_of, stored};
use crate::metadata_replica::{MetadataReplica, UnderWay};
use crate::metadata_snapshots::{SnapshotToWrite, Taken, id_of};
use crate::outgoing::Outgoing;
use crate::refusal::{MetadataRefusal, WaitFailure};
use crate::shard::Shard;

/// Pause before a full journal is tried again: what is in it goes to segments meanwhile.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// Pause before it is looked again whether an entry is committed that is no decision.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);

/// Pause before a snapshot is tried again that finds no space, or another one being written.
const SPACE_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of the log that are read at once for a follower.
const READ_BYTES: usize = 1 << 20;

/// Starts the replica's tasks. The storage runs already.
pub(crate) fn start<I: Io>(shard: &Rc<Shard<I>>) {
    let class = TaskClass::Foreground;
    shard.io.spawn(class, write_all(shard.clone()));
    shard.io.spawn(class, tell_durable(shard.clone()));
    shard.io.spawn(class, read_entries(shard.clone()));
    settle(shard);
}

/// Time has passed.
pub(crate) fn tick<I: Io>(shard: &Rc<Shard<I>>, now: MonotonicTime) {
    let Some(replica) = shard.replica() else {
        return;
    };
    let is_due = replica.tick(now);
    let is_observed = shard.observers.tick(now);
    shard.liveness.tick(now, &shard.image());
    shard.controller.judge_if(shard.liveness.has_verdicts());
    if is_due || is_observed {
        settle(shard);
    }
}

/// The storage is fenced: this replica promises nothing any more.
pub(crate) fn fenced<I: Io>(shard: &Rc<Shard<I>>) {
    if let Some(replica) = shard.replica() {
        replica.fail(WaitFailure::Fenced);
        settle(shard);
    }
}

/// Makes a batch of records part of the metadata log and of every shard's image. Returns the offset behind it, once this
/// shard has applied it and the others are told.
pub(crate) async fn commit<I: Io>(
    shard: &Rc<Shard<I>>,
    batch: &[u8],
) -> Result<Offset, MetadataRefusal> {
    let replica = shard
        .replica()
        .expect("the controller is on shard 0")
        .clone();
    if !replica.is_active() {
        return Err(MetadataRefusal::NotController);
    }
    let image_end = shard.image().end_offset();
    let (proposed, done) = replica.propose(batch)?;
    assert_eq!(
        proposed.base_offset, image_end,
        "a decision is made of everything that was decided"
    );
    settle(shard);
    done.take().await?;
    Ok(proposed.end_offset)
}

/// Waits until everything that is in the log is in the image, if this broker is the controller: a change of the voters may be
/// under way.
pub(crate) async fn settled<I: Io>(shard: &Rc<Shard<I>>) {
    let replica = shard.replica().expect("the controller is on shard 0");
    while replica.is_active() && replica.status().log_end_offset > shard.image().end_offset() {
        shard.io.sleep(SETTLE_PAUSE).await;
    }
}

/// A snapshot that had this mark is durable.
pub(crate) fn snapshot_written<I: Io>(shard: &Rc<Shard<I>>, mark: &SnapshotMark) {
    let replica = shard.replica().expect("snapshots are written on shard 0");
    replica.snapshot_written(mark);
    settle(shard);
}

/// Another replica's message: `message.from` has shown that it is that one.
pub(crate) fn message<I: Io>(shard: &Rc<Shard<I>>, message: Message) {
    let replica = shard.replica().expect("the quorum is on shard 0");
    replica.handle_message(message);
    settle(shard);
}

/// Nothing that the quorum sends there arrives at present.
pub(crate) fn unreachable<I: Io>(shard: &Rc<Shard<I>>, peer: ReplicaKey) {
    let replica = shard.replica().expect("the quorum is on shard 0");
    replica.unreachable(peer);
    settle(shard);
}

/// Another voter is to lead the metadata log from now on. Whether that was begun: this replica leads, and there is one.
pub(crate) fn hand_over<I: Io>(shard: &Rc<Shard<I>>) -> bool {
    let replica = shard.replica().expect("the quorum is on shard 0");
    let begun = replica.hand_over();
    if let Err(refusal) = &begun {
        tracing::debug!(%refusal, "the metadata log is not handed over");
    }
    settle(shard);
    begun.is_ok()
}

/// A snapshot that was asked for is here, and durable.
pub(crate) fn snapshot_fetched<I: Io>(shard: &Rc<Shard<I>>, taken: Taken) {
    let replica = shard.replica().expect("the quorum is on shard 0");
    replica.snapshot_fetched(taken);
    settle(shard);
}

/// A snapshot that was asked for cannot be had.
pub(crate) fn snapshot_not_fetched<I: Io>(shard: &Rc<Shard<I>>) {
    let replica = shard.replica().expect("the quorum is on shard 0");
    replica.snapshot_failed();
    settle(shard);
}

/// Does what the quorum wants after it was told something, and tells it what follows from that.
fn settle<I: Io>(shard: &Rc<Shard<I>>) {
    loop {
        perform(shard);
        if !leading::lead(shard) {
            return;
        }
    }
}

/// Does what the quorum wants.
fn perform<I: Io>(shard: &Rc<Shard<I>>) {
    let replica = shard.replica().expect("the quorum is on shard 0");
    while let Some(output) = replica.poll_output() {
        match output {
            Output::Write(write) => {
                if let Some(mark) = &write.install {
                    let taken = replica.take_snapshot().expect("it was fetched before");
                    replica.want_snapshot(install(shard, taken, mark));
                }
                replica.want_write(write);
            }
            Output::Committed(committed) => {
                if committed.end_offset > shard.image().end_offset() {
                    apply(shard, &committed);
                }
                replica.committed(&committed);
            }
            Output::Leadership(leadership) => {
                let term = leadership.term.0;
                match leadership.leader {
                    Some(leader) => tracing::info!(term, %leader, "the metadata log has a leader"),
                    None => tracing::debug!(term, "the metadata log has no leader"),
                }
                replica.led(leadership);
            }
            Output::ReadEntries(wanted) => replica.want_read(wanted),
            Output::Send(message) => shard.outgoing().push(Outgoing::Quorum(message)),
            Output::FetchSnapshot(from, mark) => {
                shard.outgoing().push(Outgoing::FetchSnapshot(from, mark));
            }
            Output::DiscardSnapshot(mark) => {
                tracing::debug!(?mark, "a snapshot that was fetched is not needed any more");
                drop(replica.take_snapshot());
            }
        }
    }
}

/// The quorum takes a snapshot: what it stands for is what there is from now on, here at once and on the other shards as the
/// next thing that they hear.
///
/// What is to be written of it: with what this broker alone has to keep, the removals of topics whose logs may be on its disk.
/// Without these a start would take the logs for the trace of a loss. If it does not come so far, the next start begins with
/// what was there before, and is given a snapshot again before it opens a log.
fn install<I: Io>(shard: &Rc<Shard<I>>, taken: Taken, mark: &SnapshotMark) -> SnapshotToWrite {
    let Taken {
        mark: known,
        mut contents,
    } = taken;
    assert_eq!(known, *mark, "the snapshot that was fetched last");
    let end = contents.image.end_offset();
    assert!(
        end == mark.end_offset && end > shard.image().end_offset(),
        "a snapshot up to {end} of what is known"
    );
    for topic in gone(shard, &contents.image) {
        contents.removed.removed(topic, end);
    }
    let removals = contents.removed.topics();
    shard.snapshots.start_with(
        contents.removed,
        contents.bytes,
        contents.last_timestamp,
        Some(id_of(mark)),
    );
    let image = Arc::new(contents.image);
    shard.install_image(&image);
    let others = shard.peers.others();
    for other in others.filter(|other| shard.controller.is_told(*other)) {
        shard.peers.send(other, Envelope::Image(image.clone()));
    }
    shard.metadata_applied(end);
    SnapshotToWrite {
        new: NewSnapshot {
            id: id_of(mark),
            last_contained_log_timestamp: contents.last_timestamp,
            mark: encode_mark(mark),
            previous: None,
        },
        image,
        removals,
    }
}

/// Topics that this broker knows, or knows to be removed, and that an image does not have.
fn gone<I: Io>(shard: &Shard<I>, image: &MetadataImage) -> Vec<TopicId> {
    let known = shard.image();
    let known = known.topics().map(|topic| topic.id());
    let all = known.chain(shard.snapshots.removed());
    all.filter(|id| image.topic_by_id(*id).is_none()).collect()
}

/// Applies an entry to this shard's image and tells the other shards.
fn apply<I: Io>(shard: &Rc<Shard<I>>, committed: &Committed) {
    let end = committed.end_offset;
    let records: Arc<[MetadataRecord]> = match committed.kind {
        EntryKind::Decision => {
            let header = BatchHeader::parse(&committed.batch).expect("an entry is a batch");
            // Whoever proposed it has encoded these records; a release that does not know them cannot go on.
            let records = records_of(&committed.batch, header.base_offset)
                .unwrap_or_else(|error| panic!("a committed entry of the metadata log: {error}"));
            let bytes = committed.batch.len();
            shard
                .snapshots
                .committed(end, bytes, header.max_timestamp, &records);
            records.into()
        }
        EntryKind::LeaderChange | EntryKind::Voters(_) => Arc::default(),
    };
    shard.apply_metadata(end, &records);
    // Before anything else is sent: what this shard asks or answers next comes behind it, on every road.
    let others = shard.peers.others();
    for other in others.filter(|other| shard.controller.is_told(*other)) {
        let metadata = Envelope::Metadata(end, records.clone());
        shard.peers.send(other, metadata);
    }
    shard.metadata_applied(end);
}

/// Carries out the quorum's writes, in order.
async fn write_all<I: Io>(shard: Rc<Shard<I>>) {
    let replica = shard.replica().expect("the quorum is on shard 0").clone();
    let mut deferred = None;
    loop {
        let mut write = replica.next_write().await;
        defer_commit(replica.log(), &mut write, &mut deferred);
        match carry_out(&shard, &replica, write).await {
            Ok(under_way) => replica.submitted(under_way),
            Err(reason) => {
                tracing::info!(%reason, "the metadata log takes nothing more");
                replica.fail(WaitFailure::Fenced);
                return settle(&shard);
            }
        }
    }
}

/// How far the log is committed needs no group of its own in the journal, whose last room is for decisions on a full
/// device: it goes with the next write. A start that finds less of it learns it again.
fn defer_commit(log: &Log, write: &mut Write, deferred: &mut Option<HardState>) {
    let earlier = deferred.take();
    let Some(state) = write.state.take().or(earlier) else {
        return;
    };
    let known = log.quorum_state();
    let is_promise = (state.term, state.vote) != (known.term, known.vote);
    let changes_log = write.truncate_to.is_some() || write.install.is_some();
    let goes_along = !write.append.is_empty() || changes_log;
    if is_promise || goes_along {
        write.state = Some(state);
    } else {
        *deferred = Some(state);
    }
}

/// Why a write cannot be carried out, now or later.
#[derive(Debug, thiserror::Error)]
enum WriteFailure {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Cut(#[from] CutError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

async fn carry_out<I: Io>(
    shard: &Rc<Shard<I>>,
    replica: &MetadataReplica,
    write: Write,
) -> Result<UnderWay, WriteFailure> {
    let (io, storage, log) = (&shard.io, &shard.storage, replica.log());
    let mut mark = None;
    if let Some(state) = write.state {
        mark = Some(set_state(io, storage, log, state).await?);
    }
    if let Some(snapshot) = write.install {
        // The promise that it belongs to is durable before it has a name: a start would miss it.
        if let Some(mark) = mark {
            storage.wait_for_mark(mark).await?;
        }
        write_snapshot(shard, replica).await?;
        while let Err(error) = storage.reset(log, snapshot.end_offset).await {
            wait_for_room(io, error).await?;
        }
        log.set_high_watermark(snapshot.end_offset);
        tracing::info!(from = %snapshot.end_offset, "the metadata log goes on from a snapshot");
    }
    if let Some(to) = write.truncate_to {
        while let Err(error) = storage.truncate(&[(log.clone(), to)]).await {
            wait_for_room(io, error).await?;
        }
    }
    if !write.append.is_empty() {
        append(io, storage, log, &write.append).await?;
    }
    Ok(UnderWay {
        number: write.number,
        mark,
        end: log.log_end_offset(),
    })
}

/// The journal has no room for the mark of a cut: it has soon.
async fn wait_for_room<I: Io>(io: &I, error: CutError) -> Result<(), CutError> {
    match error {
        CutError::JournalFull => {
            io.sleep(ROOM_PAUSE).await;
            Ok(())
        }
        error => Err(error),
    }
}

/// Writes the snapshot that the quorum takes. A full device is waited for: this replica has nothing else to go on from.
async fn write_snapshot<I: Io>(
    shard: &Rc<Shard<I>>,
    replica: &MetadataReplica,
) -> Result<(), WriteFailure> {
    let snapshot = replica.next_snapshot().expect("it comes with the write");
    while !shard.snapshots.begin_writing() {
        shard.io.sleep(SPACE_PAUSE).await;
    }
    let written = loop {
        let removals = snapshot.removals.iter().copied().flat_map(removal_records);
        let records = removals.chain(snapshot.image.to_records());
        let records = records.map(|record| record.encode());
        let new = snapshot.new.clone();
        match shard
            .storage
            .take_snapshot(replica.log(), new, records)
            .await
        {
            Err(SnapshotError::DiskFull) => shard.io.sleep(SPACE_PAUSE).await,
            written => break written,
        }
    };
    shard.snapshots.end_writing();
    written?;
    Ok(())
}

async fn set_state<I: Io>(
    io: &I,
    storage: &Storage<I>,
    log: &Rc<Log>,
    state: HardState,
) -> Result<Mark, AppendError> {
    loop {
        match storage.set_quorum_state(log, stored(state)) {
            Err(AppendError::JournalFull) => io.sleep(ROOM_PAUSE).await,
            set => return set,
        }
    }
}

async fn append<I: Io>(
    io: &I,
    storage: &Storage<I>,
    log: &Rc<Log>,
    batches: &[Bytes],
) -> Result<(), FollowError> {
    for bytes in batches {
        let batch = ReplicatedBatch {
            bytes,
            offset_delta_of_max_timestamp: 0,
        };
        loop {
            match storage.append_decided(log, &[batch], io.wall_clock()) {
                Err(FollowError::Append(AppendError::JournalFull)) => io.sleep(ROOM_PAUSE).await,
                appended => {
                    appended?;
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Tells the quorum what is durable, in order.
async fn tell_durable<I: Io>(shard: Rc<Shard<I>>) {
    let replica = shard.replica().expect("the quorum is on shard 0").clone();
    loop {
        let write = replica.next_under_way().await;
        if let Err(reason) = durable(&shard.storage, &replica, &write).await {
            tracing::debug!(%reason, "a write of the metadata log is not durable");
            replica.fail(WaitFailure::Fenced);
            return settle(&shard);
        }
        replica.persisted(write.number);
        settle(&shard);
    }
}

async fn durable<I: Io>(
    storage: &Storage<I>,
    replica: &MetadataReplica,
    write: &UnderWay,
) -> Result<(), StorageError> {
    if let Some(mark) = write.mark {
        storage.wait_for_mark(mark).await?;
    }
    // A later write may have cut what this one has written, which was durable before that.
    let log = replica.log();
    while log.durable_end_offset() < write.end.min(log.log_end_offset()) {
        if let Some(reason) = storage.fence_reason() {
            return Err(StorageError::Fenced(reason));
        }
        replica.more_durable().await;
    }
    Ok(())
}

/// Reads entries for followers.
async fn read_entries<I: Io>(shard: Rc<Shard<I>>) {
    let replica = shard.replica().expect("the quorum is on shard 0").clone();
    loop {
        let wanted = replica.next_read().await;
        let read = read(&shard.storage, replica.log(), &wanted).await;
        replica.entries_read(wanted.first, read);
        settle(&shard);
    }
}

/// The batches of a range; `None` if they cannot be read, or are not there any more.
async fn read<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    wanted: &ReadEntries,
) -> Option<Vec<Bytes>> {
    let mut from = wanted.start_offset;
    let mut batches = Vec::new();
    while from < wanted.end_offset {
        let request = ReadRequest {
            from,
            end: wanted.end_offset,
            bytes_max: READ_BYTES,
            at_least_one_batch: true,
        };
        let read = storage.read(log, request).await;
        let read =
            read.inspect_err(|error| tracing::warn!(%error, "reading the metadata log failed"));
        let before = from;
        for slice in &read.ok()?.batches {
            for batch in Batches::new(slice) {
                let (header, batch) = batch.ok()?;
                batches.push(slice.slice_ref(batch));
                from = header.next_offset();
            }
        }
        if from == before {
            return None;
        }
    }
    Some(batches)
}
