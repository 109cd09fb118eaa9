//! The rules of replication, gone through exhaustively for small worlds: two or three brokers, a record or two, a few
//! failures.
//!
//! The production machines (`LeaderReplica`, `FollowerReplica`) and the production decisions of the controller (ISR,
//! eligible leader replicas, elections) are driven over disks that lose what is not durable, processes that are killed,
//! directories that are wiped, and messages that are late or lost. In every order of events within the bounds:
//! * no acknowledged record is lost, unless everybody that the controller counts on has lost it;
//! * who is in sync or eligible has every acknowledged record on its disk;
//! * what is below a high watermark stays what it is, and in a leader epoch a high watermark does not go back;
//! * a leader epoch has one leader.
//!
//! Then each condition of the rules is left out in turn: each time one of these fails, and the shortest way there is
//! printed (`cargo test -p ringlog-replica --test model -- --nocapture`). `RINGLOG_MODEL=large` goes further, and
//! `RINGLOG_MODEL=records=2,stops=1,fences=1` through one world of that size.

mod bounds;
mod broker;
mod controller;
mod marks;
mod world;

use std::fmt::Write as _;
use std::sync::Arc;

use stateright::{Checker, HasDiscoveries, Model, Property};

use bounds::{Bounds, Fault};
use broker::Process;
use marks::{Mark, Marks};
use world::{Action, World};

use metadata::PlantedFault as C;
use ringlog_replica::PlantedFault as R;

const LOST: &str = "no acknowledged record is lost";
const HELD: &str = "who is in sync or eligible has every acknowledged record";
const FINAL: &str = "what is committed stays, and high watermarks do not go back";
const ONE_LEADER: &str = "a leader epoch has one leader";
const PROPERTIES: [&str; 4] = [LOST, HELD, FINAL, ONE_LEADER];

struct Rules {
    bounds: Bounds,
    fault: Option<Fault>,
    marks: Arc<Marks>,
}

impl Model for Rules {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds, self.fault)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(&self.bounds, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let next = world.next(action, &self.bounds, self.fault)?;
        self.marks.note(world, action, &next);
        Some(next)
    }

    fn within_boundary(&self, world: &World) -> bool {
        let state = world.controller.state();
        state.leader_epoch.0 <= self.bounds.leader_epochs
            && state.partition_epoch.0 <= self.bounds.partition_epochs
    }

    fn properties(&self) -> Vec<Property<Rules>> {
        vec![
            Property::always(LOST, |_, world| leader_has_everything(world)),
            Property::always(HELD, |_, world| holders_have_everything(world)),
            Property::always(FINAL, |_, world: &World| !world.is_contradicted),
            Property::always(ONE_LEADER, |_, world| one_leader(world)),
        ]
    }
}

/// Who leads under the newest epoch has every acknowledged record.
fn leader_has_everything(world: &World) -> bool {
    let epoch = world.controller.state().leader_epoch;
    let mut processes = world
        .brokers
        .iter()
        .filter_map(|broker| broker.process.as_ref());
    processes.all(|process| {
        let leads = process
            .leader()
            .is_some_and(|leader| leader.leader_epoch() == epoch);
        !leads || process.log.starts_with(&world.committed)
    })
}

/// Everybody in sync or eligible has every acknowledged record on its disk, apart from losses that nobody knows of yet.
fn holders_have_everything(world: &World) -> bool {
    let state = world.controller.state();
    let holders = state.isr.iter().chain(state.eligible_leader_replicas());
    let mut holders = holders.map(|id| &world.brokers[controller::broker_of(*id)]);
    holders.all(|broker| broker.disk.has_lost || broker.holds(&world.committed))
}

fn one_leader(world: &World) -> bool {
    let processes = world
        .brokers
        .iter()
        .filter_map(|broker| broker.process.as_ref());
    let leaders = processes.filter_map(Process::leader);
    let mut epochs: Vec<_> = leaders.map(|leader| leader.leader_epoch()).collect();
    epochs.sort_unstable();
    epochs.windows(2).all(|pair| pair[0] != pair[1])
}

const WORLD: Bounds = Bounds {
    brokers: 3,
    min_isr: 2,
    records: 1,
    stops: 0,
    losses: 0,
    fences: 0,
    repeats: 0,
    leader_epochs: 2,
    partition_epochs: 4,
};

/// Two brokers are enough to show what most conditions are for: with both in sync at least, or with one.
const PAIR: Bounds = Bounds {
    brokers: 2,
    ..WORLD
};
const SINGLE: Bounds = Bounds { min_isr: 1, ..PAIR };

/// The worlds of the usual run, some seven million states: about a minute on two idle cores. Three brokers with a
/// failure of each kind, under both minima; two brokers with more of them.
const USUAL: [Bounds; 5] = [
    Bounds {
        stops: 1,
        losses: 1,
        partition_epochs: 3,
        ..WORLD
    },
    Bounds {
        min_isr: 1,
        stops: 1,
        losses: 1,
        partition_epochs: 3,
        ..WORLD
    },
    Bounds {
        min_isr: 1,
        fences: 1,
        partition_epochs: 3,
        ..WORLD
    },
    Bounds {
        stops: 2,
        losses: 1,
        leader_epochs: 3,
        ..PAIR
    },
    Bounds {
        records: 2,
        stops: 1,
        losses: 1,
        repeats: 1,
        ..PAIR
    },
];

/// The worlds of a run overnight.
const LARGE: [Bounds; 2] = [
    Bounds {
        records: 2,
        stops: 1,
        losses: 1,
        fences: 1,
        leader_epochs: 3,
        ..WORLD
    },
    Bounds {
        min_isr: 1,
        records: 2,
        stops: 1,
        losses: 1,
        fences: 1,
        leader_epochs: 3,
        ..WORLD
    },
];

fn worlds() -> Vec<Bounds> {
    match std::env::var("RINGLOG_MODEL").as_deref() {
        Ok("large") => LARGE.to_vec(),
        Ok(one) => vec![WORLD.with(one)],
        Err(_) => USUAL.to_vec(),
    }
}

#[test]
fn the_rules_hold() {
    let marks = Arc::new(Marks::default());
    for bounds in worlds() {
        let rules = Rules {
            bounds,
            fault: None,
            marks: marks.clone(),
        };
        let checker = rules.checker().threads(2).spawn_dfs().join();
        println!(
            "{bounds:?}\n  {} states, {} steps, at most {} deep",
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth()
        );
        for name in PROPERTIES {
            if let Some(path) = checker.discovery(name) {
                panic!(
                    "it does not hold that {name}:\n{}",
                    trace(path.into_actions())
                );
            }
        }
        assert!(checker.is_done(), "not all states were gone through");
    }
    assert_eq!(
        marks.missing(),
        Vec::<Mark>::new(),
        "the worlds are too small"
    );
}

fn trace(actions: Vec<Action>) -> String {
    let mut text = String::new();
    for action in actions {
        writeln!(text, "  {action:?}").expect("a string grows");
    }
    text
}

/// Conditions that are left out, each with a world that is large enough to show what it is for.
const FAULTS: [(Fault, Bounds); 19] = [
    (
        Fault::Controller(C::SuspectsStay),
        Bounds {
            stops: 1,
            losses: 1,
            ..PAIR
        },
    ),
    (
        Fault::Controller(C::AnyDirectory),
        Bounds {
            stops: 1,
            losses: 1,
            ..PAIR
        },
    ),
    (
        Fault::Controller(C::AnyRegistration),
        Bounds {
            stops: 1,
            losses: 1,
            ..PAIR
        },
    ),
    (
        Fault::Controller(C::RestartedLeads),
        Bounds {
            records: 2,
            stops: 1,
            ..PAIR
        },
    ),
    (
        Fault::Controller(C::EligibleForever),
        Bounds {
            fences: 1,
            ..SINGLE
        },
    ),
    (
        Fault::Controller(C::StaleBrokerEpoch),
        Bounds {
            stops: 1,
            losses: 1,
            ..SINGLE
        },
    ),
    (
        Fault::Controller(C::StalePartitionEpoch),
        Bounds {
            brokers: 3,
            fences: 1,
            ..SINGLE
        },
    ),
    (
        Fault::Controller(C::FirstAnswerLeads),
        Bounds {
            stops: 2,
            losses: 1,
            leader_epochs: 3,
            ..PAIR
        },
    ),
    (Fault::Replica(R::CountsOwnLogEnd), PAIR),
    (Fault::Replica(R::PendingJoinDoesNotCount), SINGLE),
    (Fault::Replica(R::PendingLeaveDoesNotCount), SINGLE),
    (
        Fault::Replica(R::TrustsAnyRefusal),
        Bounds {
            fences: 1,
            repeats: 1,
            ..SINGLE
        },
    ),
    (Fault::Replica(R::BelowMinimum), PAIR),
    (
        Fault::Replica(R::JoinsBeforeEpochStart),
        Bounds { fences: 1, ..WORLD },
    ),
    (
        Fault::Replica(R::AnySession),
        Bounds {
            stops: 1,
            losses: 1,
            ..SINGLE
        },
    ),
    (
        Fault::Replica(R::UncheckedSubscription),
        Bounds {
            records: 2,
            fences: 1,
            ..SINGLE
        },
    ),
    (Fault::Replica(R::AcknowledgesAppended), PAIR),
    (
        Fault::Replica(R::AnyFrame),
        Bounds {
            brokers: 3,
            records: 2,
            fences: 1,
            leader_epochs: 1,
            ..SINGLE
        },
    ),
    (
        Fault::Replica(R::TruncatesToHighWatermark),
        Bounds {
            fences: 1,
            leader_epochs: 1,
            ..WORLD
        },
    ),
];

const STATES_MAX: usize = 3_000_000;

#[test]
fn each_condition_is_needed() {
    let mut unnoticed = Vec::new();
    for (fault, bounds) in FAULTS {
        match refute(fault, bounds) {
            Some((name, actions, states)) => println!(
                "without the condition {fault:?} it does not hold that {name} ({states} states):\n{}",
                trace(actions)
            ),
            None => unnoticed.push(fault),
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}

/// The shortest way to a state in which one of the properties does not hold.
fn refute(fault: Fault, bounds: Bounds) -> Option<(&'static str, Vec<Action>, usize)> {
    let rules = Rules {
        bounds,
        fault: Some(fault),
        marks: Arc::new(Marks::default()),
    };
    let checker = rules
        .checker()
        .target_state_count(STATES_MAX)
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let found = PROPERTIES.into_iter().find_map(|name| {
        let path = checker.discovery(name)?;
        Some((name, path.into_actions()))
    });
    found.map(|(name, actions)| (name, actions, checker.unique_state_count()))
}
