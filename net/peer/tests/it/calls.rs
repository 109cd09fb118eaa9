//! Requests and their answers: in any order, in time, and what is known of those that got none.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use peer::{
    CallError, FORWARD_BYTES_MAX, NotSent, PlantedFault, Purpose, Remote, Reply, RequestHandler,
    Settings,
};
use runtime::sim::{Fault, FaultRule, SimIo, Simulation};
use runtime::{Io, TaskClass};

use crate::bed::{self, Broker, id, within};

const TIMEOUT: Duration = Duration::from_secs(2);

type Seen = Rc<RefCell<BTreeSet<u64>>>;
type Outcomes = Rc<RefCell<Vec<(u64, Result<Bytes, CallError>)>>>;

/// Does as the first byte of a request says.
struct Handler {
    io: SimIo,
    seen: Seen,
    kept: Rc<RefCell<Vec<Reply>>>,
}

impl RequestHandler for Handler {
    fn handle(&self, _from: Remote, request: Bytes, reply: Reply) {
        let number = u64::from_be_bytes(request[1..9].try_into().unwrap());
        assert!(self.seen.borrow_mut().insert(number), "{number} came twice");
        match request[0] {
            b'a' => assert!(reply.answer(request)),
            b'd' => drop(reply),
            b'r' => {
                self.seen.borrow_mut().remove(&number);
                reply.refuse();
            }
            b'k' => self.kept.borrow_mut().push(reply),
            b'l' => {
                let most = Bytes::from(vec![1; FORWARD_BYTES_MAX]);
                assert!(reply.answer(most));
            }
            b'x' => {
                let longer = Bytes::from(vec![1; FORWARD_BYTES_MAX + 1]);
                assert!(!reply.answer(longer));
            }
            b's' => {
                let (io, pause) = (self.io.clone(), self.io.random() % 50);
                self.io.spawn(TaskClass::Foreground, async move {
                    io.sleep(Duration::from_millis(pause)).await;
                    assert!(reply.answer(request));
                });
            }
            other => panic!("{other}"),
        }
    }
}

struct Bed {
    simulation: Simulation,
    asking: Broker,
    seen: Seen,
    kept: Rc<RefCell<Vec<Reply>>>,
    outcomes: Outcomes,
}

impl Bed {
    fn new(seed: u64, settings: &Settings) -> Bed {
        let simulation = Simulation::new(seed, 2, 1);
        let asking = bed::start(&simulation, 0, settings.clone());
        let bed = Bed {
            simulation,
            asking,
            seen: Seen::default(),
            kept: Rc::default(),
            outcomes: Outcomes::default(),
        };
        bed.start_asked(settings);
        bed
    }

    fn start_asked(&self, settings: &Settings) {
        let asked = bed::start(&self.simulation, 1, settings.clone());
        asked.network.serve_requests(Handler {
            io: asked.io.clone(),
            seen: self.seen.clone(),
            kept: self.kept.clone(),
        });
        self.simulation.run_for(Duration::from_millis(10));
    }

    fn ask(&self, what: u8, number: u64) {
        let (network, outcomes) = (self.asking.network.clone(), self.outcomes.clone());
        let mut body = vec![what];
        body.extend(number.to_be_bytes());
        self.simulation.spawn(0, 0, async move {
            let answer = network.call(id(1), Purpose::Forward, Bytes::from(body), TIMEOUT);
            let answer = answer.await;
            outcomes.borrow_mut().push((number, answer));
        });
    }

    fn wait(&self, count: usize) {
        let limit = TIMEOUT + Duration::from_millis(100);
        let ended = || self.outcomes.borrow().len() == count;
        assert!(within(&self.simulation, limit, ended), "calls do not end");
    }

    fn one(&self, what: u8) -> Result<Bytes, CallError> {
        self.outcomes.borrow_mut().clear();
        self.ask(what, self.simulation.random().next());
        self.wait(1);
        self.outcomes.borrow_mut().pop().unwrap().1
    }
}

#[test]
fn answers_come_in_any_order_each_to_its_request() {
    for seed in 0..20 {
        let bed = Bed::new(seed, &Settings::default());
        for number in 0..200 {
            bed.ask(b's', number);
        }
        bed.wait(200);
        let outcomes = bed.outcomes.borrow();
        for (number, answer) in outcomes.iter() {
            let answer = answer.as_ref().unwrap();
            assert_eq!(answer[1..], number.to_be_bytes());
        }
        assert!(!outcomes.is_sorted_by_key(|(number, _)| *number));
    }
}

#[test]
fn every_way_to_get_no_answer_says_whether_it_may_have_been_done() {
    let bed = Bed::new(1, &Settings::default());
    assert_eq!(bed.one(b'a').unwrap()[0], b'a');
    assert_eq!(bed.one(b'd'), Err(CallError::GivenUp));
    assert_eq!(bed.one(b'x'), Err(CallError::GivenUp));
    assert_eq!(bed.one(b'r'), Err(CallError::NotTaken));
    assert_eq!(bed.one(b'k'), Err(CallError::TimedOut));
    assert_eq!(bed.one(b'l').unwrap().len(), FORWARD_BYTES_MAX);
    // The answer that comes after its deadline is dropped, and the connection goes on.
    let late = bed.kept.borrow_mut().pop().unwrap();
    assert!(late.answer(Bytes::from_static(b"late")));
    assert_eq!(bed.one(b'a').unwrap()[0], b'a');
    assert_eq!(bed.asking.network.counters().greeted.get(), 1);
    bed.ask(b'k', 7);
    bed.simulation.run_for(Duration::from_millis(100));
    bed.outcomes.borrow_mut().clear();
    bed.simulation.kill(1);
    bed.wait(1);
    let (_, lost) = bed.outcomes.borrow_mut().pop().unwrap();
    assert_eq!(lost, Err(CallError::Lost));
    let refused = bed.one(b'a');
    let unreachable = Err(CallError::NotSent(NotSent::Unreachable));
    assert_eq!(refused, unreachable);
    for (error, may) in [
        (CallError::GivenUp, true),
        (CallError::Lost, true),
        (CallError::TimedOut, true),
        (CallError::NotTaken, false),
        (CallError::NotSent(NotSent::TimedOut), false),
    ] {
        assert_eq!(error.may_have_been_carried_out(), may, "{error}");
    }
}

#[test]
fn what_is_asked_and_served_at_once_is_bounded() {
    let settings = Settings {
        calls_max: 20,
        served_max: 8,
        ..Settings::default()
    };
    let bed = Bed::new(2, &settings);
    for number in 0..25 {
        bed.ask(b'k', number);
    }
    bed.simulation.run_for(Duration::from_millis(200));
    assert_eq!(bed.kept.borrow().len(), 8, "more are served than may be");
    let full = Err(CallError::NotSent(NotSent::Full));
    let outcomes = bed.outcomes.take();
    assert_eq!(outcomes.len(), 5);
    assert!(outcomes.iter().all(|(_, answer)| *answer == full));
    // As some are answered, others come.
    for served in [16, 20] {
        let kept = bed.kept.take();
        for reply in kept {
            assert!(reply.answer(Bytes::new()));
        }
        bed.simulation.run_for(Duration::from_millis(200));
        assert_eq!(bed.seen.borrow().len(), served);
    }
}

/// Many requests while connections break; whether what the caller was told fits what was done.
fn tells_the_truth(seed: u64, planted: Option<PlantedFault>) -> bool {
    let settings = Settings {
        backoff_max: Duration::from_millis(50),
        planted,
        ..Settings::default()
    };
    let bed = Bed::new(seed, &settings);
    let resets = FaultRule::new(Fault::ConnectionReset).per_million(5_000);
    bed.simulation.faults().add(resets);
    let mut asked = 0;
    for _ in 0..300 {
        for what in [b'a', b's', b'd', b'r'] {
            bed.ask(what, asked);
            asked += 1;
        }
        let millis = bed.simulation.random().below(25);
        bed.simulation.run_for(Duration::from_millis(millis));
        match bed.simulation.random().below(60) {
            0 => {
                bed.simulation.kill(1);
                bed.simulation.restart(1);
                bed.start_asked(&settings);
            }
            1 => bed.simulation.reset_connections(0, 1),
            _ => {}
        }
    }
    let count = usize::try_from(asked).unwrap();
    bed.wait(count);
    let seen = bed.seen.borrow();
    let mut answered = 0;
    for (number, answer) in bed.outcomes.borrow().iter() {
        match answer {
            Ok(_) => {
                assert!(seen.contains(number));
                answered += 1;
            }
            Err(error) if error.may_have_been_carried_out() => {}
            Err(_) if seen.contains(number) => return false,
            Err(_) => {}
        }
    }
    assert!(answered > 100, "only {answered} of {asked}");
    true
}

#[test]
fn what_is_told_to_be_not_done_was_not_done() {
    for seed in bed::seeds(20) {
        assert!(tells_the_truth(seed, None), "seed {seed}");
    }
    let planted = Some(PlantedFault::LostIsNotCarriedOut);
    let is_noticed = (0..20).any(|seed| !tells_the_truth(seed, planted));
    assert!(is_noticed);
}
