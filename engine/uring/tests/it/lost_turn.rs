//! The lost turn: glommio parks with runnable tasks; the heartbeat and the watchdog bound it.
//!
//! When the preempt timer fires between its arming and the first look at the run queues, glommio takes the turn for an
//! idle one and sleeps until some event comes. With no timer armed and no I/O under way that is for ever. A child
//! process runs a task that only computes and yields, under a preempt timer so short that this happens soon; a hang is a
//! child that stops using processor time; it is killed.

use std::env;
use std::fs;
use std::hint;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use runtime::Io;
use uring::UringOptions;

use crate::{available, say};

/// Tells the child what to do: its heartbeat period in microseconds, 0 for none, and its turns.
const VARIABLE: &str = "RINGLOG_TEST_LOST_TURN";

/// Short enough to fire now and then before the first task runs.
const PREEMPT_TIMER: Duration = Duration::from_micros(20);

/// The heartbeat of the children that have one.
const HEARTBEAT: Duration = Duration::from_millis(5);

/// Computing between two yields of the child's task.
const WORK: Duration = Duration::from_micros(50);

/// Turns of a child that is to hang: one second of computing.
const TURN_COUNT_UNTIL_HANG: u32 = 20_000;

/// Turns of a child that is to finish. If every one is lost, and the heartbeat's own too, so that the watchdog comes up to
/// 200 ms later, they take 10 s.
const TURN_COUNT: u32 = 50;

/// A child that uses no processor time for so long hangs.
const STILL_MAX: Duration = Duration::from_secs(2);

/// How long a child may take at all.
const DEADLINE: Duration = Duration::from_secs(60);

/// Children without a heartbeat, until one hangs.
const ATTEMPT_COUNT: usize = 5;

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Finished,
    Hung,
}

fn run_child(heartbeat: Duration, turn_count: u32) -> Outcome {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "lost_turn::child", "--nocapture"])
        .env(VARIABLE, format!("{} {turn_count}", heartbeat.as_micros()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let mut ticks_seen = 0;
    let mut moved = start;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the child failed: {status}");
            return Outcome::Finished;
        }
        let ticks = processor_ticks(child.id());
        if ticks != ticks_seen {
            (ticks_seen, moved) = (ticks, Instant::now());
        }
        if moved.elapsed() > STILL_MAX || start.elapsed() > DEADLINE {
            child.kill().unwrap();
            child.wait().unwrap();
            return Outcome::Hung;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Processor time of a process, user and system, in clock ticks: fields 14 and 15 of proc_pid_stat(5), counted behind the
/// name, which may hold spaces.
fn processor_ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum()
}

/// Not a test of its own: what the other two start.
#[test]
fn child() {
    let Ok(orders) = env::var(VARIABLE) else {
        return;
    };
    let (period, turn_count) = orders.split_once(' ').unwrap();
    let period = Duration::from_micros(period.parse().unwrap());
    let turn_count = turn_count.parse::<u32>().unwrap();
    let options = UringOptions {
        preempt_timer: PREEMPT_TIMER,
        heartbeat: (!period.is_zero()).then_some(period),
        ..UringOptions::default()
    };
    uring::block_on(None, options, move |io| async move {
        for _ in 0..turn_count {
            let start = Instant::now();
            while start.elapsed() < WORK {
                hint::spin_loop();
            }
            io.yield_if_needed().await;
        }
    })
    .unwrap();
}

#[test]
fn without_a_heartbeat_a_turn_is_lost_for_ever() {
    if !available() {
        return;
    }
    for attempt in 1..=ATTEMPT_COUNT {
        if run_child(Duration::ZERO, TURN_COUNT_UNTIL_HANG) == Outcome::Hung {
            eprintln!("the hang showed in attempt {attempt}");
            return;
        }
    }
    say(&format!(
        "NOT SHOWN: the lost turn did not appear in {ATTEMPT_COUNT} attempts on this machine"
    ));
}

#[test]
fn with_a_heartbeat_none_is() {
    if !available() {
        return;
    }
    for _ in 0..ATTEMPT_COUNT {
        assert_eq!(run_child(HEARTBEAT, TURN_COUNT), Outcome::Finished);
    }
}
