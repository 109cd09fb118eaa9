//! Plans of moves: what they say of small clusters, and that they lead to an even one from any shape.

use model::{BrokerId, PartitionIndex, TopicId, TopicPartition};
use ringlog_metadata::balance::{
    BrokerShape, ClusterShape, Limits, PartitionShape, Plan, Standing, StuckReason,
};

fn id(index: usize) -> TopicPartition {
    TopicPartition {
        topic: TopicId([1; 16]),
        partition: PartitionIndex(index as i32),
    }
}

fn plan(shape: &ClusterShape, moves_max: usize) -> Plan {
    let limits = Limits {
        moves_max,
        may_spread: true,
    };
    ringlog_metadata::balance::plan(shape, limits)
}

/// Brokers as `1a` (number and rack), followed by `+` if drained, `?` if away, `!` if lost; partitions as lists of
/// brokers, with `-` before them if nobody leads, `~` if they move.
fn shape(brokers: &str, partitions: &[&str]) -> ClusterShape {
    let brokers = brokers.split(' ').map(|word| {
        let standing = match word.chars().last() {
            Some('+') => Standing::Drained,
            Some('?') => Standing::Away,
            Some('!') => Standing::Lost,
            _ => Standing::Active,
        };
        let name = word.trim_end_matches(['+', '?', '!']);
        let rack = name.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let number = name[..name.len() - rack.len()].parse().unwrap();
        let shape = BrokerShape {
            rack: (!rack.is_empty()).then(|| rack.to_owned()),
            standing,
        };
        (BrokerId(number), shape)
    });
    let partitions = partitions.iter().enumerate().map(|(index, words)| {
        let list = words.trim_start_matches(['-', '~']);
        let replicas: Vec<BrokerId> = list
            .bytes()
            .map(|digit| BrokerId(i32::from(digit - b'0')))
            .collect();
        PartitionShape {
            id: id(index),
            replicas: replicas.iter().copied().collect(),
            before: replicas.iter().copied().collect(),
            is_moving: words.starts_with('~'),
            has_leader: !words.starts_with('-'),
            is_whole: true,
            bytes: 0,
        }
    });
    ClusterShape {
        brokers: brokers.collect(),
        partitions: partitions.collect(),
    }
}

/// Moves as `0 12>13 broker 2 is lost`.
fn said(plan: &Plan) -> Vec<String> {
    let list = |brokers: &[BrokerId]| brokers.iter().map(ToString::to_string).collect::<String>();
    let moves = plan.moves.iter().map(|one| {
        let index = one.partition.partition.0;
        format!(
            "{index} {}>{} {}",
            list(&one.from),
            list(&one.to),
            one.reason
        )
    });
    let stuck = plan
        .stuck
        .iter()
        .map(|(id, why)| format!("{} {why}", id.partition.0));
    moves.chain(stuck).collect()
}

#[test]
fn small_clusters() {
    let table: [(&str, &str, &[&str], &[&str]); 12] = [
        ("even", "1 2 3", &["12", "23", "31"], &[]),
        (
            "a lost broker",
            "1 2 3! 4",
            &["13", "32", "21"],
            &["0 13>14 broker 3 is lost", "1 32>42 broker 3 is lost"],
        ),
        (
            "one that is away keeps what it has",
            "1 2 3?",
            &["13", "32", "21"],
            &[],
        ),
        (
            "one that nobody knows is lost",
            "1 2",
            &["13"],
            &["0 13>12 broker 3 is lost"],
        ),
        (
            "a drained one",
            "1+ 2 3",
            &["12"],
            &["0 12>32 broker 1 is drained"],
        ),
        (
            "nobody can take it",
            "1+ 2",
            &["12"],
            &["0 no other broker can take a replica"],
        ),
        (
            "nobody leads it",
            "1! 2 3",
            &["-12"],
            &["0 nobody leads the partition"],
        ),
        (
            "a new broker is filled",
            "1 2 3",
            &["12", "21", "12", "21", "12", "21"],
            &[
                "0 12>32 broker 1 has more than broker 3",
                "1 21>31 broker 2 has more than broker 3",
                "2 12>32 broker 1 has more than broker 3",
                "3 21>31 broker 2 has more than broker 3",
            ],
        ),
        (
            "other racks come first",
            "1a 2b 3a 4b!",
            &["14"],
            &["0 14>12 broker 4 is lost"],
        ),
        (
            "no move puts both into one rack",
            "1a 2b 3a",
            &["12", "12", "12", "12"],
            &[
                "0 12>32 broker 1 has more than broker 3",
                "1 12>32 broker 1 has more than broker 3",
            ],
        ),
        (
            "leaders are spread",
            "1 2",
            &["12", "12", "12", "12"],
            &[
                "0 12>21 broker 1 is to lead more than broker 2",
                "1 12>21 broker 1 is to lead more than broker 2",
            ],
        ),
        ("what moves is left alone", "1 2 3", &["~12", "~12"], &[]),
    ];
    for (name, brokers, partitions, expected) in table {
        let plan = plan(&shape(brokers, partitions), 100);
        assert_eq!(said(&plan), expected, "{name}");
    }
}

#[test]
fn a_move_under_way_to_a_broker_that_is_lost_goes_elsewhere() {
    let plan = plan(&shape("1 2! 3", &["~12"]), 10);
    assert_eq!(said(&plan), ["0 12>13 broker 2 is lost"]);
}

#[test]
fn a_few_at_a_time_and_repairs_first() {
    let shape = shape("1 2 3! 4", &["13", "13", "13", "12", "12", "12"]);
    let first = plan(&shape, 2);
    assert_eq!(
        said(&first),
        ["0 13>14 broker 3 is lost", "1 13>14 broker 3 is lost"]
    );
    assert_eq!(plan(&shape, 0).moves, []);
}

#[test]
fn what_is_only_uneven_stays_if_it_is_to() {
    let limits = Limits {
        moves_max: 10,
        may_spread: false,
    };
    let uneven = shape("1 2 3", &["1", "1", "1"]);
    let lost = shape("1 2! 3", &["1", "1", "2"]);
    assert_eq!(
        said(&ringlog_metadata::balance::plan(&uneven, limits)),
        [""; 0]
    );
    let plan = ringlog_metadata::balance::plan(&lost, limits);
    assert_eq!(said(&plan), ["2 2>3 broker 2 is lost"]);
}

#[test]
fn large_partitions_count_for_more() {
    let mut shape = shape("1 2", &["1", "1", "1", "2", "2", "2"]);
    for (partition, bytes) in shape.partitions.iter_mut().zip([900, 10, 10, 30, 30, 20]) {
        partition.bytes = bytes;
    }
    // The numbers are even, the bytes are not.
    let plan = plan(&shape, 1);
    assert_eq!(said(&plan), ["1 1>2 broker 1 has more than broker 2"]);
}

/// A generator that is the same everywhere (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % bound
    }
}

fn random_shape(random: &mut Random) -> ClusterShape {
    let count = 3 + random.below(6) as i32;
    let brokers = (1..=count).map(|number| {
        let standing = match random.below(8) {
            0 => Standing::Lost,
            1 => Standing::Drained,
            2 => Standing::Away,
            _ => Standing::Active,
        };
        let rack = (random.below(2) == 0).then(|| format!("rack {}", random.below(3)));
        (BrokerId(number), BrokerShape { rack, standing })
    });
    let brokers: std::collections::BTreeMap<_, _> = brokers.collect();
    let factor = 1 + random.below(3) as usize;
    let partitions = (0..random.below(60) as usize).map(|index| {
        let mut replicas: Vec<BrokerId> = Vec::new();
        while replicas.len() < factor {
            let broker = BrokerId(1 + random.below(count as u64) as i32);
            if !replicas.contains(&broker) {
                replicas.push(broker);
            }
        }
        PartitionShape {
            id: id(index),
            replicas: replicas.iter().copied().collect(),
            before: replicas.iter().copied().collect(),
            is_moving: false,
            has_leader: true,
            is_whole: true,
            bytes: random.below(1000) * random.below(2),
        }
    });
    let partitions = partitions.collect();
    ClusterShape {
        brokers,
        partitions,
    }
}

fn racks(shape: &ClusterShape, replicas: &[BrokerId]) -> usize {
    let racks = replicas.iter().map(|id| shape.brokers[id].rack.clone());
    racks.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn plans_come_to_an_end_and_leave_nothing_where_it_ought_not_to_be() {
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let mut shape = random_shape(&mut random);
        let mut rounds = 0;
        loop {
            let next = plan(&shape, 1 + random.below(5) as usize);
            for one in &next.moves {
                let index = one.partition.partition.0 as usize;
                let partition = &mut shape.partitions[index];
                assert_eq!(one.from, partition.replicas, "seed {seed}");
                let distinct: std::collections::BTreeSet<_> = one.to.iter().collect();
                assert_eq!(distinct.len(), one.from.len(), "seed {seed}: {one:?}");
                partition.replicas = one.to.clone();
                partition.before = one.to.clone();
                for added in one.to.iter().filter(|id| !one.from.contains(id)) {
                    assert_eq!(
                        shape.brokers[added].standing,
                        Standing::Active,
                        "seed {seed}"
                    );
                }
                let leaves = one
                    .from
                    .iter()
                    .any(|id| shape.brokers[id].standing.must_leave());
                let fewer = racks(&shape, &one.to) < racks(&shape, &one.from);
                assert!(leaves || !fewer, "seed {seed}: {one:?}");
            }
            if next.moves.is_empty() {
                let takers = shape.brokers.values();
                let takers = takers
                    .filter(|one| one.standing == Standing::Active)
                    .count();
                for partition in &shape.partitions {
                    let leaves = |id: &&BrokerId| shape.brokers[*id].standing.must_leave();
                    let left = partition.replicas.iter().filter(leaves).count();
                    let is_stuck = next.stuck.contains(&(partition.id, StuckReason::NoBroker));
                    assert_eq!(left > 0, is_stuck, "seed {seed}");
                    assert!(
                        left == 0 || takers < partition.replicas.len(),
                        "seed {seed}"
                    );
                }
                break;
            }
            rounds += 1;
            assert!(rounds < 500, "seed {seed} does not come to an end");
        }
    }
}
