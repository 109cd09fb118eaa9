//! Every bench runs, with tiny counts.

use std::collections::BTreeSet;

use ringlog_benches::{BENCHES, Effort};

#[test]
fn every_bench_measures_something() {
    for bench in BENCHES {
        let measured = bench.measure(Effort::Tiny);
        assert!(measured.ops > 0, "{}", bench.name);
        assert!(measured.nanos_per_op > 0.0, "{}", bench.name);
    }
}

#[test]
fn names_are_unique_and_begin_with_their_subject() {
    let names: BTreeSet<&str> = BENCHES.iter().map(|bench| bench.name).collect();
    assert_eq!(names.len(), BENCHES.len());
    assert!(names.iter().all(|name| name.contains('/')));
}
