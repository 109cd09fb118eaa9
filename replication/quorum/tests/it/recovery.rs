//! Starts: every state that a disk can be in, and what is made of it.

use bytes::{Bytes, BytesMut};
use model::record::{BatchBuilder, set_base_offset, set_leader_epoch};
use model::{BrokerId, LeaderEpoch, MonotonicTime, Offset, Timestamp};
use ringlog_quorum::{
    DirectoryId, EntryIndex, HardState, Output, Quorum, Recovered, RecoveredLog, Recovery,
    RecoveryError, ReplicaKey, Settings, Shown, SnapshotMark, Term, VoterSet, bootstrap,
};

fn key(broker: i32) -> ReplicaKey {
    ReplicaKey {
        broker: BrokerId(broker),
        directory: DirectoryId([9; 16]),
    }
}

fn voters(brokers: &[i32]) -> VoterSet {
    VoterSet::new(brokers.iter().map(|broker| key(*broker)).collect()).unwrap()
}

fn state(term: u64, commit: u64) -> HardState {
    HardState {
        term,
        vote: 0,
        commit,
    }
}

fn stamped(batch: &[u8], base: i64, term: i32) -> Bytes {
    let mut batch = BytesMut::from(batch);
    set_base_offset(&mut batch, Offset(base)).unwrap();
    set_leader_epoch(&mut batch, LeaderEpoch(term)).unwrap();
    batch.freeze()
}

/// A decision of two records.
fn decision(base: i64, term: i32) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(1), None, Some(b"a"));
    builder.push(Timestamp(1), None, Some(b"b"));
    stamped(&builder.build().unwrap(), base, term)
}

fn change(base: i64, term: i32, brokers: &[i32]) -> Bytes {
    stamped(&bootstrap(&voters(brokers)).batch, base, term)
}

fn mark(index: u64, term: u64, end: i64) -> SnapshotMark {
    SnapshotMark {
        index: EntryIndex(index),
        term: Term(term),
        end_offset: Offset(end),
        voters: voters(&[1, 2, 3]),
    }
}

fn recover(
    state: HardState,
    snapshot: Option<SnapshotMark>,
    start: i64,
    log: &[Bytes],
) -> Result<(Recovered, Vec<Shown>), RecoveryError> {
    let mut recovery = Recovery::new(key(1), state, snapshot, Offset(start))?;
    let shown = log.iter().map(|batch| recovery.show(batch.clone()));
    let shown: Vec<Shown> = shown.collect::<Result<_, _>>()?;
    Ok((recovery.finish()?, shown))
}

fn ready(recovered: Recovered) -> RecoveredLog {
    match recovered {
        Recovered::Ready(log) => log,
        other => panic!("{other:?}"),
    }
}

fn quorum(log: RecoveredLog) -> (Quorum, Vec<Output>) {
    let mut quorum = Quorum::new(MonotonicTime(0), Settings::default(), log);
    let outputs = std::iter::from_fn(|| quorum.poll_output()).collect();
    (quorum, outputs)
}

/// Three entries: voters, two decisions; offsets 0, 1, 3, end 5.
fn log() -> Vec<Bytes> {
    vec![change(0, 1, &[1, 2, 3]), decision(1, 2), decision(3, 2)]
}

#[test]
fn without_a_snapshot_entries_are_counted_from_the_start() {
    use Shown::{Apply, Wait};
    let table = [
        (0, [Wait, Wait, Wait]),
        (1, [Apply, Wait, Wait]),
        (3, [Apply, Apply, Apply]),
    ];
    for (commit, expected) in table {
        let (recovered, shown) = recover(state(2, commit), None, 0, &log()).unwrap();
        assert_eq!(shown, expected);
        let (quorum, outputs) = quorum(ready(recovered));
        // The first entry is committed by itself, and comes out if it was not applied.
        let committed = outputs.iter();
        let committed = committed.filter(|output| matches!(output, Output::Committed(_)));
        assert_eq!(committed.count(), usize::from(commit == 0));
        let status = quorum.status();
        assert_eq!(status.applied, EntryIndex(commit.max(1)));
        assert_eq!(status.log_end_offset, Offset(5));
        assert_eq!(status.replicas.len(), 3, "the voters are known");
    }
}

#[test]
fn an_empty_log_waits_for_a_leader() {
    let (recovered, _) = recover(HardState::default(), None, 0, &[]).unwrap();
    let (mut quorum, outputs) = quorum(ready(recovered));
    assert_eq!(outputs, []);
    for _ in 0..1_000 {
        quorum.handle_timeout(quorum.next_timeout().unwrap());
        assert_eq!(quorum.poll_output(), None, "it does not stand for election");
    }
}

#[test]
fn a_snapshot_names_the_places() {
    use Shown::{Apply, Covered, Wait};
    let log = log();
    let two = Some(mark(2, 2, 3));
    // (log start, batches, shown)
    let table: [(i64, &[Bytes], &[Shown]); 4] = [
        (0, &log, &[Covered, Covered, Apply]),
        (1, &log[1..], &[Covered, Apply]),
        (3, &log[2..], &[Apply]),
        (3, &[], &[]),
    ];
    for (start, batches, expected) in table {
        let commit = 2 + u64::from(start != 3 || !batches.is_empty());
        let (recovered, shown) = recover(state(2, commit), two.clone(), start, batches).unwrap();
        assert_eq!(shown, expected);
        let (quorum, _) = quorum(ready(recovered));
        assert_eq!(quorum.status().applied, EntryIndex(commit));
    }
    // The state may know less than the snapshot.
    let (recovered, shown) = recover(state(2, 0), two, 0, &log).unwrap();
    assert_eq!(shown, [Covered, Covered, Wait]);
    let (quorum, _) = quorum(ready(recovered));
    assert_eq!(quorum.status().applied, EntryIndex(2));
}

#[test]
fn a_log_that_is_not_the_snapshots_is_reset() {
    let log = log();
    // (mark, log start, batches)
    let table: [(SnapshotMark, i64, &[Bytes]); 5] = [
        // It ends before.
        (mark(9, 2, 30), 0, &log),
        (mark(9, 2, 30), 0, &[]),
        // Another term there; a batch over the end; more entries than there can be.
        (mark(2, 3, 3), 0, &log),
        (mark(2, 2, 2), 0, &log),
        (mark(2, 2, 5), 0, &log),
    ];
    for (mark, start, batches) in table {
        let (recovered, _) = recover(state(3, 1), Some(mark.clone()), start, batches).unwrap();
        let Recovered::ResetLog(to) = recovered else {
            panic!("{mark:?} fits");
        };
        assert_eq!(to, mark);
        let end = mark.end_offset.0;
        let (recovered, _) = recover(state(3, 1), Some(mark.clone()), end, &[]).unwrap();
        let (quorum, _) = quorum(ready(recovered));
        assert_eq!(quorum.status().high_watermark, mark.end_offset);
    }
}

#[test]
fn a_directory_that_lost_something_is_refused() {
    let log = log();
    let missing = |committed, last| RecoveryError::CommittedMissing { committed, last };
    // (state, snapshot, log start, batches, error)
    type Row<'a> = (
        HardState,
        Option<SnapshotMark>,
        i64,
        Vec<Bytes>,
        RecoveryError,
    );
    let behind = |log_start, end| RecoveryError::MissingBehindSnapshot {
        log_start: Offset(log_start),
        snapshot_end: Offset(end),
    };
    let table: Vec<Row<'_>> = vec![
        (state(2, 4), None, 0, log.clone(), missing(4, 3)),
        (
            state(1, 0),
            None,
            0,
            log.clone(),
            RecoveryError::TermMissing { log: 2, state: 1 },
        ),
        (state(2, 0), None, 1, log[1..].to_vec(), behind(1, 0)),
        (
            state(2, 0),
            Some(mark(1, 1, 1)),
            3,
            log[2..].to_vec(),
            behind(3, 1),
        ),
        (
            state(2, 0),
            None,
            0,
            vec![log[0].clone(), log[2].clone()],
            RecoveryError::Gap {
                found: Offset(3),
                expected: Offset(1),
            },
        ),
        (
            state(2, 0),
            None,
            0,
            vec![log[0].clone(), decision(1, 2), decision(3, 1)],
            RecoveryError::TermWentBack(Term(2), Term(1)),
        ),
    ];
    for (state, snapshot, start, batches, expected) in table {
        let error = recover(state, snapshot, start, &batches).unwrap_err();
        assert_eq!(error, expected);
    }
    let mut damaged = BytesMut::from(&log[1][..]);
    *damaged.last_mut().unwrap() ^= 1;
    let batches = [log[0].clone(), damaged.freeze()];
    let error = recover(state(2, 0), None, 0, &batches).unwrap_err();
    assert!(
        matches!(error, RecoveryError::Entry(Offset(1), _)),
        "{error}"
    );
    // A log of a release without terms.
    let error = recover(state(0, 0), None, 0, &[decision(0, 0)]).unwrap_err();
    assert!(
        matches!(error, RecoveryError::Entry(Offset(0), _)),
        "{error}"
    );
}

/// A change of the voters that another follows is committed, whatever the state says.
#[test]
fn changes_of_the_voters_prove_each_other() {
    let log = [
        change(0, 1, &[1, 2, 3]),
        change(1, 1, &[1, 2, 3, 4]),
        decision(2, 1),
        change(4, 1, &[1, 2, 3, 4, 5]),
        decision(5, 1),
    ];
    let (recovered, shown) = recover(state(1, 0), None, 0, &log).unwrap();
    assert_eq!(shown, [Shown::Wait; 5]);
    let (quorum, outputs) = quorum(ready(recovered));
    let status = quorum.status();
    assert_eq!(status.applied, EntryIndex(2));
    assert_eq!(
        status.replicas.len(),
        4,
        "of the first change, not of the second"
    );
    let committed = outputs.iter();
    let committed = committed.filter(|output| matches!(output, Output::Committed(_)));
    assert_eq!(committed.count(), 2);
}
