//! What the atlas allows after what has happened, as tables.

use super::*;

const THREE: Promise = Promise::Copies {
    replication_factor: 3,
    min_in_sync: 2,
    voters: 3,
};
const FIVE: Promise = Promise::Copies {
    replication_factor: 5,
    min_in_sync: 3,
    voters: 5,
};
const ALONE: Promise = Promise::Copies {
    replication_factor: 1,
    min_in_sync: 1,
    voters: 0,
};

/// What has happened so far, and whether the last one may.
enum Past {
    Suffered(usize, Harm),
    Relieved(usize, Relief),
    CaughtUp(usize),
    Copied(usize),
}
use Past::{CaughtUp, Copied, Relieved, Suffered};

fn check(
    what: &str,
    (promise, outage, count): (Promise, Outage, usize),
    past: &[Past],
    next: (usize, Harm),
    expected: Result<(), Refusal>,
) {
    let mut atlas = Atlas::new(promise, outage, 0..count);
    for event in past {
        match *event {
            Suffered(node, harm) => atlas.suffer(node, harm),
            Relieved(node, relief) => atlas.relieve(node, relief),
            CaughtUp(node) => atlas.caught_up(node),
            Copied(node) => atlas.has_copied(node),
        }
    }
    assert_eq!(atlas.check(next.0, next.1), expected, "{what}");
    assert_eq!(
        atlas.allowed().contains(&next),
        expected.is_ok(),
        "{what}: the list and the question differ"
    );
}

#[test]
fn one_good_copy_survives() {
    use Harm::{Kill, OldDisk, PowerCut, Wipe};
    let total = |promise, count| (promise, Outage::Total, count);
    let lost = |node| [Suffered(node, Kill), Suffered(node, Wipe)];
    let last = Err(Refusal::LastCopy);
    check(
        "only one",
        total(ALONE, 1),
        &[Suffered(0, Kill)],
        (0, Wipe),
        last,
    );
    check(
        "the only copy, beside others' only copies",
        total(ALONE, 3),
        &[Suffered(0, Kill)],
        (0, Wipe),
        last,
    );
    check(
        "one of three",
        total(THREE, 3),
        &[Suffered(0, Kill)],
        (0, Wipe),
        Ok(()),
    );
    let [first, second] = lost(0);
    check(
        "a second of three",
        total(THREE, 3),
        &[first, second, Suffered(1, PowerCut)],
        (1, Wipe),
        last,
    );
    let [first, second] = lost(0);
    check(
        "a start is no catching up",
        total(THREE, 3),
        &[
            first,
            second,
            Relieved(0, Relief::Start),
            Suffered(1, Kill),
            Copied(1),
        ],
        (1, OldDisk),
        last,
    );
    let [first, second] = lost(0);
    check(
        "another one once the first has caught up",
        total(THREE, 3),
        &[
            first,
            second,
            Relieved(0, Relief::Start),
            CaughtUp(0),
            Suffered(1, Kill),
        ],
        (1, Wipe),
        Ok(()),
    );
    let [first, second] = lost(0);
    check(
        "the same one again",
        total(THREE, 3),
        &[first, second],
        (0, Wipe),
        Ok(()),
    );
}

#[test]
fn larger_groups_and_other_promises_survive_what_they_say() {
    use Harm::{Kill, Wipe};
    let total = |promise, count| (promise, Outage::Total, count);
    let lost = |node| [Suffered(node, Kill), Suffered(node, Wipe)];
    let last = Err(Refusal::LastCopy);
    let [first, second] = lost(0);
    check(
        "a second of five",
        total(FIVE, 5),
        &[first, second, Suffered(1, Kill)],
        (1, Wipe),
        Ok(()),
    );
    let all: Vec<Past> = (0..2).flat_map(lost).chain([Suffered(2, Kill)]).collect();
    check("a third of five", total(FIVE, 5), &all, (2, Wipe), last);
    let single_voter = Promise::Copies {
        replication_factor: 3,
        min_in_sync: 2,
        voters: 1,
    };
    check(
        "the disk of the only voter",
        total(single_voter, 3),
        &[Suffered(0, Kill)],
        (0, Wipe),
        last,
    );
    let all: Vec<Past> = (0..2).flat_map(lost).chain([Suffered(2, Kill)]).collect();
    check(
        "nothing promised",
        total(Promise::Nothing, 3),
        &all,
        (2, Wipe),
        Ok(()),
    );
}

#[test]
fn power_may_fail_everywhere_unless_records_are_to_be_taken() {
    use Harm::{FullDisk, HungDisk, Kill, Pause, PowerCut, SlowDisk};
    let total = (THREE, Outage::Total, 3);
    let available = (THREE, Outage::Available, 3);
    let away = Err(Refusal::TooManyAway);
    let two = || [Suffered(0, PowerCut), Suffered(1, PowerCut)];
    check("all at once", total, &two(), (2, PowerCut), Ok(()));
    check("one", available, &[], (0, Kill), Ok(()));
    for first in [Kill, Pause, HungDisk, FullDisk] {
        let past = || [Suffered(0, first)];
        for second in [Kill, PowerCut, Pause, HungDisk, FullDisk] {
            check("a second one", available, &past(), (1, second), away);
            check(
                "of many",
                (FIVE, Outage::Available, 5),
                &past(),
                (1, second),
                Ok(()),
            );
        }
        check(
            "slow is not away",
            available,
            &past(),
            (1, SlowDisk),
            Ok(()),
        );
    }
    let back = [Suffered(0, Pause), Relieved(0, Relief::Resume)];
    check(
        "after the first is back",
        available,
        &back,
        (1, Kill),
        Ok(()),
    );
    let empty = [
        Suffered(0, Kill),
        Suffered(0, Harm::Wipe),
        Relieved(0, Relief::Start),
    ];
    check(
        "while one rebuilds its disk",
        available,
        &empty,
        (1, Kill),
        away,
    );
}

#[test]
fn harms_need_their_state() {
    use Harm::{ClockJump, HungDisk, Kill, OldDisk, Pause, SlowDisk, Wipe};
    let any = (Promise::Nothing, Outage::Total, 2);
    let state = Err(Refusal::NotInThatState);
    let down = || [Suffered(0, Kill)];
    check("a disk in use", any, &[], (0, Wipe), state);
    check("killed twice", any, &down(), (0, Kill), state);
    check("paused when down", any, &down(), (0, Pause), state);
    check("a disk nobody uses", any, &down(), (0, SlowDisk), state);
    check(
        "two harms of one disk",
        any,
        &[Suffered(0, HungDisk)],
        (0, SlowDisk),
        state,
    );
    check(
        "another disk",
        any,
        &[Suffered(0, HungDisk)],
        (1, SlowDisk),
        Ok(()),
    );
    check(
        "killed while paused",
        any,
        &[Suffered(0, Pause)],
        (0, Kill),
        Ok(()),
    );
    check(
        "no old disk",
        any,
        &down(),
        (0, OldDisk),
        Err(Refusal::NoOldDisk),
    );
    check(
        "an old disk",
        any,
        &[Copied(0), Suffered(0, Kill)],
        (0, OldDisk),
        Ok(()),
    );
    check("a clock at any time", any, &down(), (0, ClockJump), Ok(()));
}

#[test]
fn reliefs_end_what_is() {
    let mut atlas = Atlas::new(THREE, Outage::Total, 0..3);
    assert_eq!(atlas.reliefs(), []);
    atlas.suffer(0, Harm::HungDisk);
    atlas.suffer(0, Harm::Kill);
    atlas.suffer(1, Harm::Pause);
    atlas.suffer(2, Harm::ClockDrift);
    let expected = [
        (0, Relief::Start),
        (0, Relief::MendDisk),
        (1, Relief::Resume),
    ];
    assert_eq!(atlas.reliefs(), expected);
    for (node, relief) in expected {
        atlas.relieve(node, relief);
    }
    assert_eq!(atlas.reliefs(), []);
}

#[test]
#[should_panic(expected = "must not happen to node 0: LastCopy")]
fn what_is_not_allowed_does_not_happen() {
    let mut atlas = Atlas::new(ALONE, Outage::Total, [0]);
    atlas.suffer(0, Harm::Kill);
    atlas.suffer(0, Harm::Wipe);
}
