//! Somebody on the way who changes, repeats, drops or cuts frames, as broken hardware or software would.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use peer::frame::{HEADER_BYTES, Header};
use peer::handshake::take_body;
use peer::{PlantedFault, Purpose, Settings};
use runtime::sim::{SimIo, SimStream, Simulation};
use runtime::{Io, Listener as _, Stream as _, TaskClass};

use crate::bed::{self, Letter, PORT, entry_at, id, key, within};

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// One bit of its header is turned over.
    FlipHeader,
    /// It comes twice.
    Twice,
    /// It does not come.
    Drop,
    /// Half of it comes, and then the end.
    Cut,
}

pub(crate) const HARMS: [Harm; 4] = [Harm::FlipHeader, Harm::Twice, Harm::Drop, Harm::Cut];
/// One frame in so many is harmed.
const HARM_SHARE: u64 = 40;
pub(crate) const NODE: usize = 2;

pub(crate) struct Relay {
    io: SimIo,
    purpose: Purpose,
    harms: Vec<Harm>,
    pub(crate) is_harming: Cell<bool>,
    pub(crate) done: Cell<u64>,
}

async fn pump(from: SimStream, to: SimStream, first: BytesMut) {
    let mut buffer = first;
    loop {
        if !buffer.is_empty() {
            let bytes = buffer.split().freeze();
            if to.write_all(&mut vec![bytes]).await.is_err() {
                break;
            }
        }
        buffer.reserve(4096);
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    from.shutdown();
    to.shutdown();
}

impl Relay {
    fn random(&self, below: u64) -> u64 {
        self.io.random() % below
    }

    /// What is sent on instead of a frame, and whether that is all.
    fn harmed(&self, frame: &Bytes) -> (Vec<Bytes>, bool) {
        if !self.is_harming.get() || self.random(HARM_SHARE) != 0 || self.harms.is_empty() {
            return (vec![frame.clone()], false);
        }
        self.done.set(self.done.get() + 1);
        let harm = self.harms[self.random(self.harms.len() as u64) as usize];
        match harm {
            Harm::Twice => (vec![frame.clone(), frame.clone()], false),
            Harm::Drop => (Vec::new(), false),
            Harm::Cut => (vec![frame.slice(..frame.len() / 2)], true),
            Harm::FlipHeader => {
                let mut bytes = frame.to_vec();
                let bit = self.random(HEADER_BYTES as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                (vec![bytes.into()], false)
            }
        }
    }

    async fn carry(self: Rc<Relay>, from: SimStream, to: SimStream) {
        let mut buffer = BytesMut::new();
        let mut is_greeted = false;
        'all: loop {
            loop {
                if !is_greeted {
                    let whole = buffer.clone().freeze();
                    let before = buffer.len();
                    if take_body(&mut buffer).unwrap().is_none() {
                        break;
                    }
                    is_greeted = true;
                    let hello = whole.slice(..before - buffer.len());
                    if to.write_all(&mut vec![hello]).await.is_err() {
                        break 'all;
                    }
                }
                let Some(head) = buffer.first_chunk::<HEADER_BYTES>() else {
                    break;
                };
                let header = Header::decode(head, self.purpose).expect("what a broker sends");
                let size = HEADER_BYTES + header.length as usize;
                if buffer.len() < size {
                    break;
                }
                let frame = Bytes::copy_from_slice(&buffer[..size]);
                buffer.advance(size);
                let (mut frames, is_end) = self.harmed(&frame);
                if to.write_all(&mut frames).await.is_err() || is_end {
                    break 'all;
                }
            }
            buffer.reserve(4096);
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        from.shutdown();
        to.shutdown();
    }
}

/// Listens on its node and carries connections of one purpose to another one.
pub(crate) fn start(
    simulation: &Simulation,
    to: usize,
    purpose: Purpose,
    harms: &[Harm],
) -> Rc<Relay> {
    let io = simulation.io(NODE, 0);
    let relay = Rc::new(Relay {
        io: io.clone(),
        purpose,
        harms: harms.to_vec(),
        is_harming: Cell::new(true),
        done: Cell::new(0),
    });
    let address = simulation.address(NODE, PORT);
    let target = simulation.address(to, PORT);
    let listening = relay.clone();
    simulation.spawn(NODE, 0, async move {
        let listener = io.listen(address, false).await.unwrap();
        loop {
            let from = listener.accept().await.unwrap();
            let relay = listening.clone();
            io.spawn(TaskClass::Foreground, async move {
                let Ok(to) = relay.io.connect(target).await else {
                    from.shutdown();
                    return;
                };
                let back = pump(to.clone(), from.clone(), BytesMut::new());
                relay.io.spawn(TaskClass::Foreground, back);
                relay.carry(from, to).await;
            });
        }
    });
    relay
}

/// Broker 0 sends to broker 1 over a relay that does harm; what was wrong with what came.
fn run(seed: u64, harms: &[Harm], planted: Option<PlantedFault>) -> Result<u64, String> {
    let simulation = Simulation::new(seed, 3, 1);
    let settings = Settings {
        planted,
        ..Settings::default()
    };
    let brokers = [0, 1].map(|node| bed::start(&simulation, node, settings.clone()));
    let relay = start(&simulation, 1, Purpose::Raft, harms);
    let book = BTreeMap::from([(id(1), entry_at(&simulation, NODE, PORT, Some(1)))]);
    brokers[0].network.set_book(book).unwrap();
    simulation.run_for(Duration::from_millis(10));
    let sequence = RefCell::new(0);
    let send = || {
        let mut sequence = sequence.borrow_mut();
        *sequence += 1;
        let letter = Letter {
            from: key(0, 1),
            to: key(1, 1),
            life: 1,
            sequence: *sequence,
            sent_at: simulation.now(),
        };
        let filling = (simulation.random().below(3000)) as usize;
        let payload = letter.encode(filling);
        let _ = brokers[0].network.send(id(1), Purpose::Raft, payload);
    };
    for _ in 0..1500 {
        send();
        simulation.run_for(Duration::from_millis(2));
    }
    relay.is_harming.set(false);
    let healed_at = simulation.now();
    let check = || -> Result<u64, String> {
        let mut last = 0;
        for (_, payload) in brokers[1].taken.messages.borrow().iter() {
            let letter = Letter::decode(payload).ok_or("a message was changed")?;
            if letter.sequence <= last {
                return Err(format!("{} came behind {last}", letter.sequence));
            }
            last = letter.sequence;
        }
        Ok(last)
    };
    let limit = settings.silence_max + settings.backoff_max + Duration::from_secs(1);
    let sent_before = *sequence.borrow();
    let flows = within(&simulation, limit, || {
        send();
        check().is_ok_and(|last| last > sent_before)
    });
    check()?;
    if !flows {
        let late = simulation.now().since(healed_at);
        return Err(format!("nothing came within {late:?}"));
    }
    assert!(
        relay.done.get() > 0 || harms.is_empty(),
        "nothing was harmed"
    );
    Ok(relay.done.get())
}

#[test]
fn harmed_frames_never_arrive_and_messages_flow_again() {
    for seed in bed::seeds(12) {
        for harm in HARMS {
            if let Err(what) = run(seed, &[harm], None) {
                panic!("seed {seed}, {harm:?}: {what}");
            }
        }
        if let Err(what) = run(seed, &HARMS, None) {
            panic!("seed {seed}: {what}");
        }
    }
}

#[test]
fn a_relay_that_does_no_harm_loses_nothing() {
    assert_eq!(run(1, &[], None), Ok(0));
}

fn is_noticed(harm: Harm, planted: PlantedFault) -> bool {
    (0..12).any(|seed| run(seed, &[harm], Some(planted)).is_err())
}

#[test]
fn planted_faults_of_frames_are_noticed() {
    for (harm, planted) in [
        (Harm::FlipHeader, PlantedFault::HeaderUnchecked),
        (Harm::Twice, PlantedFault::NumbersUnchecked),
    ] {
        assert!(is_noticed(harm, planted), "{planted:?}");
    }
}
