//! Partitions of a network, of all shapes: which directions between which nodes are cut.
//!
//! Pure. Members are the brokers' nodes and the clients'; a cut is one direction.

use runtime::sim::Generator;

/// How a network is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One broker and everybody else.
    Isolated,
    /// Nothing reaches one broker.
    Deaf,
    /// Nothing comes from one broker.
    Mute,
    /// Two sides.
    Split,
    /// Two sides, and one member that reaches both.
    Bridge,
    /// Two brokers do not reach each other.
    Pair,
    /// One broker does not reach another one.
    OneWay,
    /// Clients and one broker do not reach each other.
    Clients,
}

/// Every shape.
pub const SHAPES: [Shape; 8] = [
    Shape::Isolated,
    Shape::Deaf,
    Shape::Mute,
    Shape::Split,
    Shape::Bridge,
    Shape::Pair,
    Shape::OneWay,
    Shape::Clients,
];

/// Draws the cuts of a shape among brokers on the nodes from 0 on and the clients' node; none if there are too few
/// members.
pub fn draw(
    shape: Shape,
    random: &Generator,
    brokers: usize,
    client: usize,
) -> Vec<(usize, usize)> {
    let mut members: Vec<usize> = (0..brokers).chain([client]).collect();
    let one = random.index(brokers);
    let others = |one: usize| members.iter().copied().filter(move |other| *other != one);
    match shape {
        Shape::Isolated => others(one).flat_map(|other| both(one, other)).collect(),
        Shape::Deaf => others(one).map(|other| (other, one)).collect(),
        Shape::Mute => others(one).map(|other| (one, other)).collect(),
        Shape::Clients => both(one, client).to_vec(),
        Shape::Pair | Shape::OneWay if brokers < 2 => Vec::new(),
        Shape::Pair => both(one, another(random, one, brokers)).to_vec(),
        Shape::OneWay => vec![(one, another(random, one, brokers))],
        Shape::Bridge if members.len() < 3 => Vec::new(),
        Shape::Bridge => {
            members.swap_remove(random.index(members.len()));
            sides(random, members)
        }
        Shape::Split => sides(random, members),
    }
}

fn both(a: usize, b: usize) -> [(usize, usize); 2] {
    [(a, b), (b, a)]
}

fn another(random: &Generator, one: usize, brokers: usize) -> usize {
    (one + 1 + random.index(brokers - 1)) % brokers
}

/// Cuts between two sides, neither of them empty.
fn sides(random: &Generator, mut members: Vec<usize>) -> Vec<(usize, usize)> {
    // In any order, so that any of them may be on either side.
    for index in (1..members.len()).rev() {
        members.swap(index, random.index(index + 1));
    }
    let border = 1 + random.index(members.len() - 1);
    let (left, right) = members.split_at(border);
    let pairs = left.iter().flat_map(|a| right.iter().map(|b| both(*a, *b)));
    pairs.flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Brokers 0 to `brokers`, clients on the next node: whether `from` is cut from `to`.
    fn check(shape: Shape, brokers: usize, holds: impl Fn(&BTreeSet<(usize, usize)>) -> bool) {
        for seed in 0..100 {
            let random = Generator::new(seed, 1);
            let cuts = draw(shape, &random, brokers, brokers);
            let count = cuts.len();
            let cuts: BTreeSet<_> = cuts.into_iter().collect();
            assert_eq!(cuts.len(), count, "{shape:?}: no cut twice");
            for (from, to) in &cuts {
                assert!(from != to && *from <= brokers && *to <= brokers);
            }
            assert!(holds(&cuts), "{shape:?} of seed {seed}: {cuts:?}");
        }
    }

    fn is_symmetric(cuts: &BTreeSet<(usize, usize)>) -> bool {
        cuts.iter().all(|(a, b)| cuts.contains(&(*b, *a)))
    }

    /// Members that have a cut with somebody, each with how many.
    fn degrees(cuts: &BTreeSet<(usize, usize)>) -> Vec<usize> {
        let members: BTreeSet<usize> = cuts.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let of = |member| {
            let with = cuts.iter().filter(|(a, _)| *a == member);
            with.count()
        };
        members.into_iter().map(of).collect()
    }

    #[test]
    fn shapes_are_what_they_say() {
        for brokers in 1..=5 {
            let all = brokers + 1;
            check(Shape::Isolated, brokers, |cuts| {
                cuts.len() == 2 * (all - 1) && is_symmetric(cuts)
            });
            check(Shape::Deaf, brokers, |cuts| {
                let to: BTreeSet<_> = cuts.iter().map(|(_, to)| to).collect();
                cuts.len() == all - 1 && to.len() == 1
            });
            check(Shape::Mute, brokers, |cuts| {
                let from: BTreeSet<_> = cuts.iter().map(|(from, _)| from).collect();
                cuts.len() == all - 1 && from.len() == 1
            });
            check(Shape::Clients, brokers, |cuts| {
                cuts.len() == 2 && is_symmetric(cuts) && cuts.iter().any(|(a, _)| *a == brokers)
            });
            check(Shape::Split, brokers, |cuts| {
                // Everybody has lost the other side.
                is_symmetric(cuts) && degrees(cuts).len() == all
            });
            check(Shape::Bridge, brokers, |cuts| match brokers {
                1 => cuts.is_empty(),
                // Everybody but the bridge.
                _ => is_symmetric(cuts) && degrees(cuts).len() == all - 1,
            });
            let pair = if brokers < 2 { 0 } else { 2 };
            check(Shape::Pair, brokers, |cuts| {
                cuts.len() == pair && is_symmetric(cuts) && cuts.iter().all(|(a, _)| *a < brokers)
            });
            check(Shape::OneWay, brokers, |cuts| {
                cuts.len() == pair / 2 && cuts.iter().all(|(a, b)| *a < brokers && *b < brokers)
            });
        }
    }
}
