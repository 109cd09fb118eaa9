//! What the nemesis does next: drawn from what the fault atlases allow.
//!
//! Pure. Invariant: an act that was drawn has happened, as far as the atlases know; whoever draws one performs it.

use runtime::sim::{Generator, PathRule};

use super::partitions::{self, Shape};
use crate::atlas::{Atlas, Harm, Relief};

/// Of so many acts one cuts the network, slows a path down, or puts a disk's copy aside.
const NETWORK_SHARE: u64 = 4;
const COPY_SHARE: u64 = 8;
/// The largest delay of a slow path, and the largest share of lost packets, in a million.
const SLOW_MILLIS_MAX: u64 = 300;
const LOSS_PER_MILLION_MAX: u64 = 300_000;

/// One act.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Something happens to a broker.
    Harm(usize, Harm),
    /// Something that happened to one ends.
    Relief(usize, Relief),
    /// The network is cut, in addition to what is cut already.
    Cut(Shape, Vec<(usize, usize)>),
    /// A direction becomes slow or loses packets.
    Path(usize, usize, PathRule),
    /// The network is whole and fast again.
    HealNetwork,
    /// What a broker's disk holds now may come back later.
    CopyDisk(usize),
}

/// See the module's text.
pub struct Planner {
    random: Generator,
    atlases: Vec<Atlas>,
    /// What this run is allowed to do: each run has its own part of it.
    harms: Vec<Harm>,
    shapes: Vec<Shape>,
    brokers: usize,
    client: usize,
    network_is_whole: bool,
}

impl Planner {
    /// Brokers on the nodes from 0 on, each of them in one of the atlases.
    pub fn new(
        random: Generator,
        atlases: Vec<Atlas>,
        harms: Vec<Harm>,
        shapes: Vec<Shape>,
        (brokers, client): (usize, usize),
    ) -> Planner {
        for node in 0..brokers {
            let knowing = atlases.iter().filter(|atlas| atlas.has(node)).count();
            assert_eq!(knowing, 1, "node {node} belongs to one group");
        }
        Planner {
            random,
            atlases,
            harms,
            shapes,
            brokers,
            client,
            network_is_whole: true,
        }
    }

    /// Draws an act; `None` when nothing is left to be done.
    pub fn draw(&mut self) -> Option<Act> {
        let random = &self.random;
        if random.one_in(COPY_SHARE) {
            let node = random.index(self.brokers);
            self.atlas_mut(node).has_copied(node);
            return Some(Act::CopyDisk(node));
        }
        if random.one_in(NETWORK_SHARE)
            && let Some(act) = self.draw_network()
        {
            return Some(act);
        }
        // Half of the acts help, so that every run sees brokers that come back and go on.
        if self.random.one_in(2) {
            self.draw_relief().or_else(|| self.draw_harm())
        } else {
            self.draw_harm().or_else(|| self.draw_relief())
        }
    }

    /// Everything that helps, in order. The network is left to whoever performs it.
    pub fn calm(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        if !self.network_is_whole {
            self.network_is_whole = true;
            acts.push(Act::HealNetwork);
        }
        let mut reliefs: Vec<(usize, Relief)> =
            self.atlases.iter().flat_map(Atlas::reliefs).collect();
        // A broker that starts needs its disk.
        reliefs.sort_by_key(|(_, relief)| *relief != Relief::MendDisk);
        for (node, relief) in reliefs {
            self.atlas_mut(node).relieve(node, relief);
            acts.push(Act::Relief(node, relief));
        }
        acts
    }

    /// The atlas of a node's group.
    pub fn atlas(&self, node: usize) -> &Atlas {
        let found = self.atlases.iter().find(|atlas| atlas.has(node));
        found.unwrap_or_else(|| panic!("node {node} is in no atlas"))
    }

    /// The same, to be told what the scenario has seen.
    pub fn atlas_mut(&mut self, node: usize) -> &mut Atlas {
        let found = self.atlases.iter_mut().find(|atlas| atlas.has(node));
        found.unwrap_or_else(|| panic!("node {node} is in no atlas"))
    }

    fn draw_harm(&mut self) -> Option<Act> {
        let all = self.atlases.iter().flat_map(Atlas::allowed);
        let all: Vec<(usize, Harm)> = all.filter(|(_, harm)| self.harms.contains(harm)).collect();
        if all.is_empty() {
            return None;
        }
        let (node, harm) = all[self.random.index(all.len())];
        self.atlas_mut(node).suffer(node, harm);
        Some(Act::Harm(node, harm))
    }

    fn draw_relief(&mut self) -> Option<Act> {
        let all: Vec<(usize, Relief)> = self.atlases.iter().flat_map(Atlas::reliefs).collect();
        if all.is_empty() {
            return None;
        }
        let (node, relief) = all[self.random.index(all.len())];
        self.atlas_mut(node).relieve(node, relief);
        Some(Act::Relief(node, relief))
    }

    fn draw_network(&mut self) -> Option<Act> {
        if self.shapes.is_empty() {
            return None;
        }
        let random = &self.random;
        if !self.network_is_whole && random.one_in(2) {
            self.network_is_whole = true;
            return Some(Act::HealNetwork);
        }
        self.network_is_whole = false;
        if random.one_in(3) {
            let members: Vec<usize> = (0..self.brokers).chain([self.client]).collect();
            let from = members[random.index(members.len())];
            let others: Vec<usize> = members.into_iter().filter(|other| *other != from).collect();
            let to = others[random.index(others.len())];
            return Some(Act::Path(from, to, slow_path(random)));
        }
        let shape = self.shapes[random.index(self.shapes.len())];
        let cuts = partitions::draw(shape, random, self.brokers, self.client);
        Some(Act::Cut(shape, cuts))
    }
}

fn slow_path(random: &Generator) -> PathRule {
    let most = std::time::Duration::from_millis(random.between(1, SLOW_MILLIS_MAX));
    let loss = random.below(LOSS_PER_MILLION_MAX);
    PathRule {
        delay: random.one_in(2).then_some((most / 2, most)),
        loss_per_million: u32::try_from(loss).expect("less than a million"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::atlas::{HARMS, Outage, Promise};
    use crate::nemesis::partitions::SHAPES;

    const SEEDS: u64 = 200;
    const ACTS: usize = 100;
    const BROKERS: usize = 3;

    fn planner(seed: u64, promise: Promise) -> Planner {
        let atlas = Atlas::new(promise, Outage::Total, 0..BROKERS);
        let random = Generator::new(seed, 1);
        let (harms, shapes) = (HARMS.to_vec(), SHAPES.to_vec());
        Planner::new(random, vec![atlas], harms, shapes, (BROKERS, BROKERS))
    }

    const REPLICATED: Promise = Promise::Copies {
        replication_factor: 3,
        min_in_sync: 2,
        voters: 3,
    };

    /// Another account of the same: a disk that was lost is never the second one at a time, whatever comes.
    #[test]
    fn no_schedule_loses_the_last_copy() {
        let (mut losses, mut acts) = (0, 0);
        for seed in 0..SEEDS {
            let mut planner = planner(seed, REPLICATED);
            let mut lost: BTreeSet<usize> = BTreeSet::new();
            let mut up: BTreeMap<usize, bool> = (0..BROKERS).map(|node| (node, true)).collect();
            for number in 0..ACTS {
                let act = planner.draw().expect("there is always something to do");
                acts += 1;
                match act {
                    Act::Harm(node, Harm::Kill | Harm::PowerCut) => {
                        assert_eq!(up.insert(node, false), Some(true), "seed {seed}");
                    }
                    Act::Relief(node, Relief::Start) => {
                        assert_eq!(up.insert(node, true), Some(false), "seed {seed}");
                    }
                    Act::Harm(node, Harm::Wipe | Harm::OldDisk) => {
                        assert!(!up[&node], "the disk of a broker that runs, seed {seed}");
                        lost.insert(node);
                        losses += 1;
                    }
                    _ => {}
                }
                assert!(
                    lost.len() <= 1,
                    "seed {seed}: {lost:?} have lost their disks"
                );
                if number % 7 == 0 {
                    for node in lost.clone().into_iter().filter(|node| up[node]) {
                        planner.atlas_mut(node).caught_up(node);
                        lost.remove(&node);
                    }
                }
            }
        }
        assert!(losses > acts / 100, "{losses} of {acts} acts lost a disk");
    }

    #[test]
    fn a_single_copy_is_never_lost_and_everything_else_happens() {
        let alone = Promise::Copies {
            replication_factor: 1,
            min_in_sync: 1,
            voters: 0,
        };
        let mut harms = BTreeSet::new();
        for seed in 0..SEEDS {
            let mut planner = planner(seed, alone);
            for _ in 0..ACTS {
                if let Some(Act::Harm(_, harm)) = planner.draw() {
                    harms.insert(harm);
                }
            }
        }
        let lossy = [Harm::Wipe, Harm::OldDisk];
        let expected = HARMS.into_iter().filter(|harm| !lossy.contains(harm));
        assert_eq!(harms, expected.collect());
    }

    #[test]
    fn calm_ends_everything() {
        for seed in 0..SEEDS {
            let mut planner = planner(seed, REPLICATED);
            for _ in 0..ACTS {
                planner.draw();
            }
            let acts = planner.calm();
            assert!(planner.atlas(0).reliefs().is_empty());
            let mended = acts
                .iter()
                .rposition(|act| matches!(act, Act::Relief(_, Relief::MendDisk)));
            let started = acts
                .iter()
                .position(|act| matches!(act, Act::Relief(_, Relief::Start)));
            assert!(
                mended < started.or(Some(acts.len())),
                "disks are mended first: {acts:?}"
            );
            assert_eq!(planner.calm(), [], "and once is enough");
        }
    }

    #[test]
    fn only_what_a_run_may_do_is_done() {
        let atlas = Atlas::new(Promise::Nothing, Outage::Total, 0..2);
        let random = Generator::new(1, 1);
        let mut planner = Planner::new(random, vec![atlas], vec![Harm::Kill], Vec::new(), (2, 2));
        for _ in 0..ACTS {
            match planner.draw() {
                Some(
                    Act::Harm(_, Harm::Kill) | Act::Relief(_, Relief::Start) | Act::CopyDisk(_),
                ) => {}
                other => panic!("{other:?} was not allowed"),
            }
        }
    }
}
