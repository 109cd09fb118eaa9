//! What happened, as a rolling hash and as the last few lines.
//!
//! Everything that could differ between two runs of one seed goes in here; nothing that may differ (addresses in
//! memory, real time) does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write;

/// Lines kept for a failure report.
const RECENT_MAX: usize = 40;

/// One kind of thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Spawn,
    Poll,
    Timer,
    DiskSubmit,
    DiskComplete,
    Fault,
    Send,
    Arrive,
    Receive,
    Connect,
    Stop,
    Restart,
    PowerCut,
    Cut,
    Heal,
    Pause,
    Resume,
    Clock,
    Path,
    Disk,
    HandOver,
}

#[derive(Clone, Copy)]
struct Line {
    time: u64,
    step: Step,
    detail: [u64; 3],
    label: &'static str,
}

/// The trace of one simulation.
pub(crate) struct Trace {
    hash: Cell<u64>,
    count: Cell<u64>,
    recent: RefCell<VecDeque<Line>>,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Trace {
        Trace {
            hash: Cell::new(seed ^ 0xCBF2_9CE4_8422_2325),
            count: Cell::new(0),
            recent: RefCell::new(VecDeque::with_capacity(RECENT_MAX)),
        }
    }

    pub(crate) fn record(&self, time: u64, step: Step, label: &'static str, detail: [u64; 3]) {
        let mut hash = self.hash.get();
        for word in [time, step as u64, detail[0], detail[1], detail[2]] {
            hash = (hash ^ word)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29);
        }
        self.hash.set(hash);
        self.count.set(self.count.get() + 1);
        let mut recent = self.recent.borrow_mut();
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(Line {
            time,
            step,
            detail,
            label,
        });
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// The last lines, oldest first.
    pub(crate) fn recent(&self) -> String {
        let mut text = String::new();
        for line in self.recent.borrow().iter() {
            writeln!(
                text,
                "  {:>14} ns  {:?} {} {:?}",
                line.time, line.step, line.label, line.detail
            )
            .expect("writing to a String cannot fail");
        }
        text
    }
}
