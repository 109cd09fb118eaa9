//! What goes wrong in a simulated cluster.

use ringlog_quorum::{EntryKind, ReplicaKey};

use crate::sim::disk::Op;
use crate::sim::node::Node;

use super::{Event, MILLI, World};

impl World {
    pub(super) fn fault(&mut self) {
        if self.now >= self.faults_end {
            return;
        }
        let delay = self.rng.range(20, self.calm_ms) * MILLI;
        self.at(delay, Event::Fault);
        let leads = |node: &Node| {
            let live = node.live.as_ref();
            live.is_some_and(|live| live.quorum.status().is_leader)
        };
        let leader = self.nodes.iter().position(leads);
        let any = self.rng.below(self.nodes.len() as u64) as usize;
        let node = match leader {
            Some(leader) if self.rng.chance(400) => leader,
            _ => any,
        };
        let other = self.rng.below(self.nodes.len() as u64) as usize;
        match self.rng.below(100) {
            0..25 => self.crash(node),
            25..31 => self.cut[node][other] = node != other,
            31..37 => {
                for peer in 0..self.nodes.len() {
                    let both = self.rng.chance(700);
                    self.cut[node][peer] = peer != node;
                    self.cut[peer][node] = peer != node && both;
                }
            }
            37..65 => {
                for row in &mut self.cut {
                    row.fill(false);
                }
            }
            65..75 => self.paused_until[node] = self.now + self.rng.below(3_000 * MILLI),
            75..80 => {
                for node in 0..self.nodes.len() {
                    self.crash(node);
                }
            }
            80..86 => self.resign(node),
            86..96 => self.wipe(node),
            _ => self.loss = self.rng.below(5) * 50,
        }
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].live.is_none() {
            return;
        }
        let under_way = self.nodes[node].disk.under_way.len() as u64;
        // Some of what was under way has made it, without anybody having been told.
        let kept = self.rng.below(under_way + 1);
        self.nodes[node].stop(kept);
        self.marks.crashes += 1;
        self.note(4, node as u64);
        let life = self.nodes[node].life;
        let down = self.rng.below(2_000 * MILLI);
        self.at(down, Event::Start(node, life));
    }

    fn resign(&mut self, node: usize) {
        let life = self.nodes[node].life;
        if let Some(live) = &mut self.nodes[node].live {
            live.quorum.resign();
            self.marks.resignations += 1;
            let effects = self.nodes[node].drain(&mut self.checks);
            self.perform(node, life, effects);
        }
        // Somebody starts it again.
        self.crash(node);
    }

    /// Wipes a directory, if everything that is committed is certain to be elsewhere, too.
    fn wipe(&mut self, node: usize) {
        let Some((at, voters)) = &self.checks.voters else {
            return;
        };
        let keys: Vec<ReplicaKey> = self.nodes.iter().map(|node| node.key).collect();
        let all_there = voters.keys().iter().all(|voter| keys.contains(voter));
        let is_voter = voters.contains(self.nodes[node].key);
        let end = self.checks.facts[*at as usize - 1].base_offset;
        let is_changing = self.nodes.iter().any(|node| {
            let under_way = node.disk.under_way.iter().filter_map(|op| match op {
                Op::Append(entry) => Some(entry),
                _ => None,
            });
            let mut entries = node.disk.log.iter().chain(under_way);
            entries.any(|entry| {
                let is_change = matches!(entry.kind(), EntryKind::Voters(_));
                is_change && entry.base_offset() > end
            })
        });
        // Voters that do not know of the change yet vote as before it.
        let knows = |node: &Node| {
            let snapshot = node.disk.snapshot.as_ref();
            let covered = snapshot.map_or(0, |(mark, _)| mark.index.0);
            *at == 1 || node.disk.state.commit.max(covered) >= *at
        };
        let mut members = self.nodes.iter().filter(|node| voters.contains(node.key));
        let all_know = members.all(knows);
        if is_changing || (is_voter && (!all_there || !all_know || voters.keys().len() < 3)) {
            return;
        }
        if self.nodes[node].live.is_some() {
            self.crash(node);
        }
        self.generation = self.generation.checked_add(1).expect("a few wipes");
        self.nodes[node].wipe(self.generation);
        self.marks.wipes += 1;
        self.note(5, node as u64);
    }
}
