//! The contract of `Io`, under simulation.

use std::path::Path;

use runtime::contract::{cases, check_all};
use runtime::sim::{SimIo, Simulation};

/// Seeds of each case.
const SEEDS: u64 = 40;

#[test]
fn every_case_holds_for_many_seeds() {
    for case in cases::<SimIo>() {
        for seed in 0..SEEDS {
            let simulation = Simulation::new(seed, 1, 1);
            let io = simulation.io(0, 0);
            simulation.block_on(0, case.check(&io, Path::new("/")));
        }
    }
}

#[test]
fn all_cases_hold_in_one_world() {
    for seed in 0..5 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        simulation.block_on(0, check_all(&io, Path::new("/data")));
    }
}
