//! Promises about tasks, time and waking.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::{Setup, start};
use crate::io::{Io, TaskClass};
use crate::mailbox::mailbox;
use crate::signal::{Oneshot, Signal};

pub(super) async fn time_passes_while_sleeping<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (start, wall) = (io.now(), io.wall_clock());
    io.sleep(Duration::from_millis(30)).await;
    assert!(io.now().since(start) >= Duration::from_millis(30));
    assert!(wall.0 > 1_600_000_000_000, "milliseconds since 1970");
    assert!(io.wall_clock().0 >= wall.0 + 29, "the wall clock moves too");
    io.sleep(Duration::ZERO).await;
}

pub(super) async fn shorter_sleeps_end_first<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let order = Rc::new(RefCell::new(Vec::new()));
    let sleepers: Vec<_> = [90, 30, 60]
        .into_iter()
        .map(|millis| {
            let (order, task_io) = (Rc::clone(&order), io.clone());
            start(&io, async move {
                task_io.sleep(Duration::from_millis(millis)).await;
                order.borrow_mut().push(millis);
            })
        })
        .collect();
    for sleeper in sleepers {
        sleeper.take().await;
    }
    assert_eq!(*order.borrow(), [30, 60, 90]);
}

pub(super) async fn spawn_does_not_run_the_task_within_the_call<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    for class in [TaskClass::Foreground, TaskClass::Background] {
        let ran = Rc::new(Cell::new(false));
        let done = Oneshot::new();
        let (seen, told) = (Rc::clone(&ran), Rc::clone(&done));
        io.spawn(class, async move {
            seen.set(true);
            told.set(());
        });
        assert!(!ran.get(), "a borrow held over spawn would break");
        done.take().await;
        assert!(ran.get());
    }
}

pub(super) async fn signals_and_oneshots_wake_their_waiter<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (ping, pong) = (Signal::new(), Signal::new());
    let count = Rc::new(Cell::new(0));
    let player = {
        let (ping, pong, count) = (Rc::clone(&ping), Rc::clone(&pong), Rc::clone(&count));
        start(&io, async move {
            for _ in 0..100 {
                ping.wait().await;
                count.set(count.get() + 1);
                pong.raise();
            }
        })
    };
    for round in 1..=100 {
        ping.raise();
        ping.raise();
        pong.wait().await;
        assert_eq!(count.get(), round, "raising twice counts once");
    }
    player.take().await;
    let value = Oneshot::new();
    let setter = Rc::clone(&value);
    io.spawn(TaskClass::Background, async move { setter.set(7) });
    assert_eq!(value.take().await, 7);
}

pub(super) async fn mailboxes_wake_their_inbox<I: Io>(setup: Setup<I>) {
    const MESSAGES: u32 = 200;
    let io = setup.io;
    let (sender, mut inbox) = mailbox(4);
    let received = start(&io, async move {
        let mut all = Vec::new();
        while all.len() < MESSAGES as usize {
            all.push(inbox.next().await);
            while let Some(next) = inbox.try_next() {
                all.push(next);
            }
        }
        all
    });
    let sent = start(&io, async move {
        for number in 0..MESSAGES {
            sender.send(number).await;
        }
    });
    assert_eq!(received.take().await, (0..MESSAGES).collect::<Vec<_>>());
    sent.take().await;
}

pub(super) async fn a_busy_task_that_yields_lets_others_run<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let stop = Rc::new(Cell::new(false));
    let turns = Rc::new(Cell::new(0_u64));
    let busy: Vec<_> = [TaskClass::Foreground, TaskClass::Background]
        .into_iter()
        .map(|class| {
            let (stop, turns, task_io) = (Rc::clone(&stop), Rc::clone(&turns), io.clone());
            let done = Oneshot::new();
            let told = Rc::clone(&done);
            io.spawn(class, async move {
                while !stop.get() {
                    turns.set(turns.get() + 1);
                    task_io.yield_if_needed().await;
                }
                told.set(());
            });
            done
        })
        .collect();
    // Timers fire and tasks of both classes start although two tasks never wait.
    for _ in 0..3 {
        io.sleep(Duration::from_millis(2)).await;
        start(&io, async {}).take().await;
    }
    stop.set(true);
    for done in busy {
        done.take().await;
    }
    assert!(turns.get() > 0);
}

pub(super) async fn random_bits_differ<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let mut drawn: Vec<u64> = (0..64).map(|_| io.random()).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 64);
}
