//! A stream over somebody who changes, repeats, drops or cuts frames: what comes on one connection has no gap all the same.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peer::{PlantedFault, Purpose, Settings};
use runtime::sim::Simulation;

use crate::bed::{self, Letter, PORT, entry_at, id, key, within};
use crate::relay::{self, HARMS, Harm, NODE};
use crate::stream_bed::{SHARDS, Seen, Unit, brokers};

/// What the receiving side knows.
#[derive(Default)]
struct Window {
    is_open: bool,
    last: Option<(u32, u64)>,
    newest_course: Option<u32>,
}

impl Window {
    fn take(&mut self, seen: &Seen) -> Result<(), String> {
        match seen {
            Seen::Up(..) if self.is_open => return Err("no end was told".to_owned()),
            Seen::Up(..) => self.is_open = true,
            Seen::Down(_) => (self.is_open, self.last) = (false, None),
            Seen::Room(_) => {}
            Seen::Message(_, _, payload) => self.take_letter(payload)?,
        }
        Ok(())
    }

    fn take_letter(&mut self, payload: &Bytes) -> Result<(), String> {
        let letter = Letter::decode(payload).ok_or("a message was changed")?;
        let is_next = match self.last {
            Some((course, last)) => (letter.life, letter.sequence) == (course, last + 1),
            None => letter.sequence == 1 && self.newest_course < Some(letter.life),
        };
        if !is_next || !self.is_open {
            return Err(format!("{letter:?} came behind {:?}", self.last));
        }
        self.last = Some((letter.life, letter.sequence));
        self.newest_course = Some(letter.life);
        Ok(())
    }
}

/// Sends, one course of letters after the other.
struct Sender<'a> {
    unit: &'a Unit,
    simulation: &'a Simulation,
    course: Cell<u32>,
    sent: Cell<u64>,
}

impl Sender<'_> {
    fn send(&self, to: &Unit) {
        for seen in self.unit.seen.take() {
            if matches!(seen, Seen::Down(_)) {
                self.course.set(self.course.get() + 1);
                self.sent.set(0);
            }
        }
        let letter = Letter {
            from: key(0, 1),
            to: key(1, 1),
            life: self.course.get(),
            sequence: self.sent.get() + 1,
            sent_at: self.simulation.now(),
        };
        let filling = self.simulation.random().below(3000) as usize;
        let sent = self.unit.network.stream_send(to.at, letter.encode(filling));
        if sent.is_ok() {
            self.sent.set(letter.sequence);
        }
    }
}

/// What was wrong with what came, or how often harm was done.
fn run(seed: u64, harms: &[Harm], planted: Option<PlantedFault>) -> Result<u64, String> {
    let simulation = Simulation::new(seed, 3, SHARDS);
    let settings = Settings {
        planted,
        ..Settings::default()
    };
    let [left, right] = brokers(&simulation, &settings);
    let (near, far) = (&left[1], &right[1]);
    let relay = relay::start(&simulation, 1, Purpose::Stream, harms);
    let book = BTreeMap::from([(id(1), entry_at(&simulation, NODE, PORT, Some(1)))]);
    near.network.set_book(book).unwrap();
    simulation.run_for(Duration::from_millis(10));
    let sender = Sender {
        unit: near,
        simulation: &simulation,
        course: Cell::new(1),
        sent: Cell::new(0),
    };
    let mut window = Window::default();
    let mut take = || -> Result<u32, String> {
        for seen in far.seen.take() {
            window.take(&seen)?;
        }
        Ok(window.newest_course.unwrap_or(0))
    };
    for _ in 0..1500 {
        sender.send(far);
        simulation.run_for(Duration::from_millis(2));
        take()?;
    }
    relay.is_harming.set(false);
    near.network.end_stream(far.at);
    simulation.run_for(Duration::from_millis(2));
    sender.send(far);
    let course = sender.course.get();
    let limit = settings.silence_max + settings.backoff_max + Duration::from_secs(1);
    let flows = within(&simulation, limit, || {
        sender.send(far);
        take().is_ok_and(|newest| newest >= course)
    });
    take()?;
    if !flows {
        return Err("nothing came any more".to_owned());
    }
    assert!(relay.done.get() > 0 || harms.is_empty(), "no harm was done");
    Ok(relay.done.get())
}

#[test]
fn harmed_frames_leave_no_gap_and_messages_flow_again() {
    for seed in bed::seeds(10) {
        for harms in HARMS.map(|harm| vec![harm]).iter().chain([&HARMS.to_vec()]) {
            if let Err(what) = run(seed, harms, None) {
                panic!("seed {seed}, {harms:?}: {what}");
            }
        }
    }
}

#[test]
fn a_relay_that_does_no_harm_ends_nothing() {
    assert_eq!(run(1, &[], None), Ok(0));
}

#[test]
fn planted_faults_of_frames_are_noticed() {
    for (harm, planted) in [
        (Harm::FlipHeader, PlantedFault::HeaderUnchecked),
        (Harm::Twice, PlantedFault::NumbersUnchecked),
        (Harm::Drop, PlantedFault::NumbersUnchecked),
    ] {
        let is_noticed = (0..10).any(|seed| run(seed, &[harm], Some(planted)).is_err());
        assert!(is_noticed, "{harm:?} {planted:?}");
    }
}
