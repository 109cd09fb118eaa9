//! Replicas on brokers that are lost, or that give theirs away, get another place.

use model::BrokerId;

use super::load::Loads;
use super::shape::{ClusterShape, PartitionShape, Standing};
use super::{Move, MoveReason, Plan, StuckReason};
use crate::image::Replicas;

/// Adds moves to the plan, until it has `moves_max`; and what cannot be moved.
pub(super) fn repair(shape: &ClusterShape, loads: &mut Loads, moves_max: usize, plan: &mut Plan) {
    for partition in &shape.partitions {
        let leaves = |broker: &&BrokerId| shape.standing(**broker).must_leave();
        let Some(first) = partition.replicas.iter().find(leaves).copied() else {
            continue;
        };
        if !partition.has_leader {
            plan.stuck.push((partition.id, StuckReason::NoLeader));
            continue;
        }
        if plan.moves.len() == moves_max {
            continue;
        }
        let to = elsewhere(shape, loads, partition);
        if to == partition.replicas {
            plan.stuck.push((partition.id, StuckReason::NoBroker));
            continue;
        }
        plan.moves.push(Move {
            partition: partition.id,
            from: partition.replicas.clone(),
            to,
            reason: match shape.standing(first) {
                Standing::Drained => MoveReason::Drained(first),
                _ => MoveReason::Lost(first),
            },
        });
    }
}

/// The replicas with others in the places of those that leave, as far as there are others.
fn elsewhere(shape: &ClusterShape, loads: &mut Loads, partition: &PartitionShape) -> Replicas {
    let mut to = partition.replicas.clone();
    for at in 0..to.len() {
        if !shape.standing(to[at]).must_leave() {
            continue;
        }
        let others: Replicas = to.iter().copied().filter(|id| *id != to[at]).collect();
        let candidates = shape.takers().filter(|id| !to.contains(id));
        let best = candidates.min_by_key(|id| {
            let shares_rack = others
                .iter()
                .any(|other| shape.rack(*other) == shape.rack(*id));
            (shares_rack, loads.at(*id), *id)
        });
        if let Some(best) = best {
            loads.shift(loads.weight(partition), to[at], best);
            to[at] = best;
        }
    }
    to
}
