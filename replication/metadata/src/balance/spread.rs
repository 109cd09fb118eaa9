//! Replicas go from brokers that have more to brokers that have less; then leadership is spread.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::{BrokerId, TopicPartition};

use super::load::Loads;
use super::shape::{ClusterShape, PartitionShape};
use super::{Move, MoveReason, Plan};
use crate::image::Replicas;

/// Brokers may differ by one part in this many of what each would have if all had the same.
const TOLERANCE: u128 = 10;

/// Adds moves to the plan, until it has `moves_max`.
pub(super) fn spread(shape: &ClusterShape, loads: &mut Loads, moves_max: usize, plan: &mut Plan) {
    let mut free = Free::of(shape);
    while plan.moves.len() < moves_max {
        let Some(next) = next_move(shape, loads, &free) else {
            break;
        };
        free.taken.insert(next.partition);
        plan.moves.push(next);
    }
    // Replicas that move may change who is to lead: that is for the next plan.
    if !plan.moves.is_empty() {
        return;
    }
    let mut leaders = Leaders::of(shape);
    while plan.moves.len() < moves_max {
        let Some(next) = leaders.next_move(&free) else {
            break;
        };
        free.taken.insert(next.partition);
        plan.moves.push(next);
    }
}

/// Partitions that may move: they are whole, and not on their way.
struct Free<'a> {
    by_broker: BTreeMap<BrokerId, Vec<&'a PartitionShape>>,
    /// They are part of the plan.
    taken: BTreeSet<TopicPartition>,
}

impl<'a> Free<'a> {
    fn of(shape: &'a ClusterShape) -> Free<'a> {
        let mut by_broker: BTreeMap<BrokerId, Vec<&PartitionShape>> = BTreeMap::new();
        let partitions = shape.partitions.iter();
        for partition in partitions.filter(|one| !one.is_moving && one.is_whole) {
            for broker in &partition.replicas {
                by_broker.entry(*broker).or_default().push(partition);
            }
        }
        Free {
            by_broker,
            taken: BTreeSet::new(),
        }
    }

    /// Those with a replica on a broker.
    fn on(&self, broker: BrokerId) -> impl Iterator<Item = &'a PartitionShape> {
        let all = self.by_broker.get(&broker).into_iter().flatten().copied();
        all.filter(|one| !self.taken.contains(&one.id))
    }
}

/// The replica whose move helps most: from whoever has most to whoever has least, if they differ by enough.
fn next_move(shape: &ClusterShape, loads: &mut Loads, free: &Free) -> Option<Move> {
    let mut order: Vec<BrokerId> = shape.takers().collect();
    order.sort_by_key(|id| (Reverse(loads.at(*id)), *id));
    let mean = order.iter().map(|id| loads.at(*id)).sum::<u128>() / order.len().max(1) as u128;
    for more in &order {
        for less in order.iter().rev() {
            let (most, least) = (loads.at(*more), loads.at(*less));
            if most <= least + mean / TOLERANCE {
                break;
            }
            let (more, less) = (*more, *less);
            if let Some(partition) = best_replica(shape, loads, free, (more, less)) {
                loads.shift(loads.weight(partition), more, less);
                return Some(Move {
                    partition: partition.id,
                    from: partition.replicas.clone(),
                    to: replaced(&partition.replicas, more, less),
                    reason: MoveReason::Uneven { more, less },
                });
            }
        }
    }
    None
}

/// Of the replicas that may go, the one that leaves the two closest to each other.
fn best_replica<'a>(
    shape: &ClusterShape,
    loads: &Loads,
    free: &Free<'a>,
    (more, less): (BrokerId, BrokerId),
) -> Option<&'a PartitionShape> {
    let difference = loads.at(more) - loads.at(less);
    let may_go = |partition: &&PartitionShape| {
        let replicas = &partition.replicas;
        !replicas.contains(&less)
            && loads.weight(partition) < difference
            && shape.racks(&replaced(replicas, more, less)) >= shape.racks(replicas)
    };
    let left = |partition: &&PartitionShape| (2 * loads.weight(partition)).abs_diff(difference);
    free.on(more).filter(may_go).min_by_key(left)
}

fn replaced(replicas: &[BrokerId], more: BrokerId, less: BrokerId) -> Replicas {
    let place = |id: &BrokerId| if *id == more { less } else { *id };
    replicas.iter().map(place).collect()
}

/// How many partitions each broker is to lead.
struct Leaders(BTreeMap<BrokerId, usize>);

impl Leaders {
    fn of(shape: &ClusterShape) -> Leaders {
        let mut leaders: BTreeMap<BrokerId, usize> = shape.takers().map(|id| (id, 0)).collect();
        let preferred = shape
            .partitions
            .iter()
            .filter_map(|one| one.replicas.first());
        for first in preferred {
            if let Some(count) = leaders.get_mut(first) {
                *count += 1;
            }
        }
        Leaders(leaders)
    }

    /// A partition whose preferred leader has most, and that has a replica where there is least.
    fn next_move(&mut self, free: &Free) -> Option<Move> {
        let mut order: Vec<(BrokerId, usize)> = self.0.iter().map(|(id, n)| (*id, *n)).collect();
        order.sort_by_key(|(id, count)| (Reverse(*count), *id));
        let mean = order.iter().map(|(_, count)| count).sum::<usize>() / order.len().max(1);
        for (more, most) in &order {
            for (less, least) in order.iter().rev() {
                // A difference of one cannot be made smaller.
                let is_even = *most <= least + (mean / TOLERANCE as usize).max(1);
                if is_even {
                    break;
                }
                let leads = |one: &&PartitionShape| {
                    one.replicas.first() == Some(more) && one.replicas.contains(less)
                };
                if let Some(partition) = free.on(*more).find(leads) {
                    let (more, less) = (*more, *less);
                    *self.0.get_mut(&more).expect("in the list") -= 1;
                    *self.0.get_mut(&less).expect("in the list") += 1;
                    let at = partition.replicas.iter().position(|id| *id == less);
                    let mut to = partition.replicas.clone();
                    to.swap(0, at.expect("it has a replica there"));
                    return Some(Move {
                        partition: partition.id,
                        from: partition.replicas.clone(),
                        to,
                        reason: MoveReason::UnevenLeaders { more, less },
                    });
                }
            }
        }
        None
    }
}
