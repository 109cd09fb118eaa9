//! What moves by itself: a new broker is filled, a drained one is emptied, what a lost one had is rebuilt, and preferred
//! replicas lead again; under load, and nothing that was acknowledged is lost on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use model::BrokerId;

use crate::moves::Bed;

impl Bed {
    /// Lets replicas move by themselves.
    fn let_move(&self) {
        self.world.set_all(0, "ringlog.moves.max", "4");
    }

    /// How many replicas each broker has, as a node has it; `None` while something moves or is not in sync.
    fn counts(&self, node: usize) -> Option<BTreeMap<BrokerId, usize>> {
        let mut counts = BTreeMap::new();
        for id in &self.ids {
            let state = self.state(node, *id);
            if state.is_moving() || state.isr.len() < state.replicas.len() {
                return None;
            }
            for broker in &state.replicas {
                *counts.entry(*broker).or_default() += 1;
            }
        }
        Some(counts)
    }

    /// Lets time pass until all is whole and each of these has as many replicas; while records are produced.
    fn until_counts(&mut self, node: usize, expected: &[(i32, usize)]) {
        let expected: BTreeMap<BrokerId, usize> = expected
            .iter()
            .map(|(id, count)| (BrokerId(*id), *count))
            .collect();
        let deadline = self.world.simulation.now().plus(Duration::from_secs(60));
        while self.counts(node).as_ref() != Some(&expected) {
            let now = self.world.simulation.now();
            assert!(now < deadline, "{:?}, not {expected:?}", self.counts(node));
            self.produce(1);
            self.world.simulation.run_for(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_new_broker_is_filled() {
    for seed in 0..4 {
        let mut bed = Bed::new(seed, 4);
        bed.produce(10);
        bed.let_move();
        bed.join(3);
        bed.until_counts(3, &[(1, 3), (2, 3), (3, 3), (4, 3)]);
        bed.produce(5);
        bed.check();
    }
}

#[test]
fn a_drained_broker_is_emptied_and_gets_nothing() {
    for seed in 0..4 {
        let mut bed = Bed::new(seed, 4);
        bed.join(3);
        bed.produce(10);
        bed.let_move();
        let drained = (seed % 3) as usize;
        bed.world.set(3, drained, "ringlog.broker.drain", "true");
        let left: Vec<(i32, usize)> = [1, 2, 3, 4]
            .into_iter()
            .filter(|id| *id != drained as i32 + 1)
            .map(|id| (id, 4))
            .collect();
        bed.until_counts(3, &left);
        for id in bed.ids.clone() {
            bed.gone(drained, id);
        }
        let (topic, answer) = bed.world.create_with(3, 6, 3);
        assert!(answer.unwrap()[0].1.is_ok());
        assert!(bed.world.knows(3, topic));
        let image = bed.world.brokers[3].as_ref().unwrap()[0]
            .shard
            .image()
            .clone();
        let broker = BrokerId(drained as i32 + 1);
        let has_new = image
            .partitions()
            .any(|(id, state)| id.topic == topic && state.has_replica(broker));
        assert!(!has_new, "seed {seed}: a drained broker has got a replica");
        bed.check();
    }
}

#[test]
fn what_a_lost_broker_had_is_rebuilt() {
    for seed in 0..4 {
        let mut bed = Bed::new(seed, 4);
        bed.join(3);
        bed.produce(10);
        bed.let_move();
        bed.until_counts(3, &[(1, 3), (2, 3), (3, 3), (4, 3)]);
        bed.world.set_all(3, "ringlog.self.heal.after.ms", "3000");
        bed.world.kill(1);
        bed.until_counts(3, &[(1, 4), (3, 4), (4, 4)]);
        // It comes back with nothing of that, and is filled again.
        bed.world.start(1, &[0, 1, 2], &[]);
        bed.until_counts(3, &[(1, 3), (2, 3), (3, 3), (4, 3)]);
        bed.check();
    }
}

#[test]
fn preferred_replicas_lead_again() {
    let mut bed = Bed::new(7, 4);
    bed.produce(5);
    let leads_preferred = |bed: &Bed| {
        let mut states = bed.ids.iter().map(|id| bed.state(0, *id));
        states.all(|state| state.leader == state.replicas.first().copied())
    };
    assert!(leads_preferred(&bed));
    bed.world.kill(2);
    bed.produce(5);
    bed.world.start(2, &[0, 1, 2], &[]);
    bed.until_counts(0, &[(1, 4), (2, 4), (3, 4)]);
    assert!(
        !leads_preferred(&bed),
        "the broker that was killed led something"
    );
    // As often as it is looked, which is Kafka's five minutes.
    bed.world.simulation.run_for(Duration::from_secs(310));
    assert!(leads_preferred(&bed));
    // The records are of 1970, and retention has looked meanwhile.
    bed.produce(5);
}
