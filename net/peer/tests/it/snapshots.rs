//! Fetching snapshots: whole, resumed, over connections that break, and from sources that are not what they were.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use peer::{
    CallError, FetchEnd, FetchError, NAME_BYTES_MAX, NoPiece, NotSent, Piece, Settings,
    SnapshotSink, SnapshotSource, fetch,
};
use runtime::sim::{Fault, FaultRule, Simulation};

use crate::bed::{self, Broker, id};

const NAME: &str = "snapshot-7";

struct Source {
    contents: Rc<RefCell<Bytes>>,
    is_failing: Rc<Cell<bool>>,
    pieces: Rc<Cell<usize>>,
    is_short: bool,
}

impl SnapshotSource for Source {
    async fn read(&self, name: &str, offset: u64, length: usize) -> Result<Piece, NoPiece> {
        if self.is_failing.get() {
            return Err(NoPiece::Failed);
        }
        if name != NAME {
            return Err(NoPiece::Unknown);
        }
        self.pieces.set(self.pieces.get() + 1);
        let contents = self.contents.borrow();
        let begin = usize::try_from(offset).unwrap().min(contents.len());
        let end = (begin + length).min(contents.len());
        let end = if self.is_short { begin } else { end };
        Ok(Piece {
            total: contents.len() as u64,
            bytes: contents.slice(begin..end),
        })
    }
}

#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    room: Option<usize>,
    longest: usize,
}

impl SnapshotSink for Sink {
    async fn write(&mut self, offset: u64, bytes: Bytes) -> io::Result<()> {
        assert_eq!(offset, self.bytes.len() as u64, "a gap");
        if self
            .room
            .is_some_and(|room| self.bytes.len() + bytes.len() > room)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.longest = self.longest.max(bytes.len());
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }
}

struct Bed {
    simulation: Simulation,
    asking: Broker,
    contents: Rc<RefCell<Bytes>>,
    is_failing: Rc<Cell<bool>>,
    pieces: Rc<Cell<usize>>,
}

fn bytes(count: usize) -> Bytes {
    (0..count)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

impl Bed {
    fn new(seed: u64, count: usize, is_short: bool) -> Bed {
        let simulation = Simulation::new(seed, 2, 1);
        let asking = bed::start(&simulation, 0, Settings::default());
        let bed = Bed {
            simulation,
            asking,
            contents: Rc::new(RefCell::new(bytes(count))),
            is_failing: Rc::default(),
            pieces: Rc::default(),
        };
        bed.start_asked(is_short);
        bed
    }

    fn start_asked(&self, is_short: bool) {
        let asked = bed::start(&self.simulation, 1, Settings::default());
        asked.network.serve_snapshots(Source {
            contents: self.contents.clone(),
            is_failing: self.is_failing.clone(),
            pieces: self.pieces.clone(),
            is_short,
        });
        self.simulation.run_for(Duration::from_millis(10));
    }

    fn fetch(&self, name: &str, already: u64, sink: &mut Sink) -> Result<u64, FetchError> {
        let fetching = fetch(&self.asking.network, id(1).into(), name, already, sink);
        self.simulation.block_on(0, fetching)
    }
}

#[test]
fn snapshots_of_all_sizes_come_whole_piece_by_piece() {
    for count in [0, 1, 1 << 20, (1 << 20) - 17, (1 << 20) - 16, 3_500_000] {
        let bed = Bed::new(1, count, false);
        let mut sink = Sink::default();
        let total = bed.fetch(NAME, 0, &mut sink).unwrap();
        assert_eq!(total, count as u64);
        assert!(sink.bytes == bytes(count));
        assert!(sink.longest <= peer::CHUNK_BYTES_MAX);
        let pieces = count.div_ceil((1 << 20) - 17).max(1);
        assert_eq!(bed.pieces.get(), pieces, "{count} bytes");
    }
}

#[test]
fn a_fetch_goes_on_where_it_stopped() {
    let bed = Bed::new(2, 3_000_000, false);
    let mut sink = Sink {
        room: Some(1_500_000),
        ..Sink::default()
    };
    let stopped = bed.fetch(NAME, 0, &mut sink).unwrap_err();
    assert!(matches!(stopped.why, FetchEnd::Sink(_)), "{stopped}");
    assert_eq!(stopped.reached, sink.bytes.len() as u64);
    sink.room = None;
    let before = bed.pieces.get();
    let total = bed.fetch(NAME, stopped.reached, &mut sink).unwrap();
    assert_eq!(total, 3_000_000);
    assert!(sink.bytes == bytes(3_000_000));
    assert_eq!(bed.pieces.get() - before, 2, "only what was missing");
    // All is there already.
    assert_eq!(bed.fetch(NAME, total, &mut sink).unwrap(), total);
}

#[test]
fn a_source_that_is_not_what_it_was_is_noticed() {
    let bed = Bed::new(3, 1_000, false);
    let mut sink = Sink::default();
    let unknown = bed.fetch("another", 0, &mut sink).unwrap_err();
    assert!(matches!(unknown.why, FetchEnd::Unknown), "{unknown}");
    bed.is_failing.set(true);
    let failed = bed.fetch(NAME, 0, &mut sink).unwrap_err();
    assert!(matches!(failed.why, FetchEnd::Failed), "{failed}");
    bed.is_failing.set(false);
    let longer = "x".repeat(NAME_BYTES_MAX + 1);
    let long = bed.fetch(&longer, 0, &mut sink).unwrap_err();
    let too_long = CallError::NotSent(NotSent::TooLong);
    assert!(matches!(long.why, FetchEnd::Call(error) if error == too_long));
    // Shorter than what is here already: it is another one.
    let changed = bed.fetch(NAME, 2_000, &mut sink).unwrap_err();
    let is_changed = matches!(
        changed.why,
        FetchEnd::Changed {
            was: 2_000,
            is: 1_000
        }
    );
    assert!(is_changed, "{changed}");
    assert!(sink.bytes.is_empty());
    // A source that gives nothing must not be asked for ever.
    let bed = Bed::new(4, 1_000, true);
    let broken = bed.fetch(NAME, 0, &mut sink).unwrap_err();
    assert!(matches!(broken.why, FetchEnd::Broken), "{broken}");
}

#[test]
fn a_snapshot_whose_length_changes_on_the_way_is_given_up() {
    let bed = Bed::new(5, 3_000_000, false);
    let contents = bed.contents.clone();
    let pieces = bed.pieces.clone();
    let io = bed.simulation.io(1, 0);
    bed.simulation.spawn(1, 0, async move {
        while pieces.get() < 2 {
            runtime::Io::sleep(&io, Duration::from_micros(100)).await;
        }
        *contents.borrow_mut() = bytes(3_000_001);
    });
    let mut sink = Sink::default();
    let changed = bed.fetch(NAME, 0, &mut sink).unwrap_err();
    assert!(matches!(changed.why, FetchEnd::Changed { .. }), "{changed}");
}

#[test]
fn connections_that_break_do_not_harm_a_snapshot() {
    for seed in bed::seeds(15) {
        let bed = Bed::new(seed, 6_000_000, false);
        let resets = FaultRule::new(Fault::ConnectionReset).per_million(2_000);
        bed.simulation.faults().add(resets);
        let mut sink = Sink::default();
        let mut reached = 0;
        let mut tries = 0;
        loop {
            match bed.fetch(NAME, reached, &mut sink) {
                Ok(total) => break assert_eq!(total, 6_000_000),
                Err(error) => reached = error.reached,
            }
            tries += 1;
            assert!(tries < 50, "seed {seed}: no end at {reached}");
        }
        assert!(sink.bytes == bytes(6_000_000), "seed {seed}");
    }
}

#[test]
fn a_source_that_restarts_is_asked_again() {
    for seed in bed::seeds(10) {
        let bed = Bed::new(seed, 4_000_000, false);
        let fetched = Rc::new(RefCell::new(None));
        let (network, outcome) = (bed.asking.network.clone(), fetched.clone());
        bed.simulation.spawn(0, 0, async move {
            let mut sink = Sink::default();
            let result = fetch(&network, id(1).into(), NAME, 0, &mut sink).await;
            *outcome.borrow_mut() = Some((result, sink.bytes));
        });
        let pieces = bed.pieces.clone();
        bed.simulation.run_until(|| pieces.get() == 2);
        bed.simulation.kill(1);
        bed.simulation.restart(1);
        bed.start_asked(false);
        bed.simulation.run_until(|| fetched.borrow().is_some());
        let (result, got) = fetched.take().unwrap();
        assert_eq!(result.unwrap(), 4_000_000, "seed {seed}");
        assert!(got == bytes(4_000_000));
    }
}
