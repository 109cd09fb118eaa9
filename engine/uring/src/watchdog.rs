//! The watchdog: gets an executor out of a sleep that nothing else would end.
//!
//! The heartbeat bounds the lost turns of an executor (see `executor::heartbeat`), except the one that loses the
//! heartbeat itself: its timer has fired, its task has not run, and so no timer is armed. One thread of the process looks
//! at the heartbeat counters and sends a signal to a thread whose counter has not moved. Its handler does nothing, but a
//! sleep in io_uring_enter ends with EINTR, after which glommio looks at its queues again. A core that is only busy gets
//! the signal too and does not notice.
//!
//! Invariant: the thread runs if and only if somebody is watched.

use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often the counters are looked at: more than two heartbeats of an idle core, so that it finds nothing to do.
const PERIOD: Duration = Duration::from_millis(100);

/// Ignored by default and free of other uses here. With a handler it interrupts system calls.
const SIGNAL: libc::c_int = libc::SIGURG;

struct Watched {
    thread: libc::pid_t,
    beats: Arc<AtomicU64>,
    beats_seen: u64,
}

struct State {
    watched: Vec<Watched>,
    running: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    watched: Vec::new(),
    running: false,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calling thread is watched while this lives.
pub(crate) struct Watch {
    beats: Arc<AtomicU64>,
}

impl Watch {
    /// Watches the calling thread, whose heartbeat counts in `beats`.
    pub(crate) fn new(beats: Arc<AtomicU64>) -> io::Result<Watch> {
        handle_signal()?;
        // SAFETY: takes and returns plain numbers.
        let thread = unsafe { libc::gettid() };
        let mut state = state();
        if !state.running {
            thread::Builder::new()
                .name("watchdog".to_owned())
                .spawn(run)?;
            state.running = true;
        }
        state.watched.push(Watched {
            thread,
            beats: Arc::clone(&beats),
            beats_seen: 0,
        });
        Ok(Watch { beats })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        state()
            .watched
            .retain(|watched| !Arc::ptr_eq(&watched.beats, &self.beats));
    }
}

fn run() {
    loop {
        thread::sleep(PERIOD);
        let mut state = state();
        if state.watched.is_empty() {
            state.running = false;
            return;
        }
        for watched in &mut state.watched {
            let beats = watched.beats.load(Ordering::Relaxed);
            if beats == watched.beats_seen {
                interrupt(watched.thread);
            }
            watched.beats_seen = beats;
        }
    }
}

fn interrupt(thread: libc::pid_t) {
    // SAFETY: takes and returns plain numbers. The thread is alive, because it takes itself off the list, and its handler
    // does nothing.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
}

/// Gives [`SIGNAL`] a handler that does nothing, without SA_RESTART, and lets the calling thread receive it.
fn handle_signal() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}

    // SAFETY: all-zero is a valid sigaction (no flags, empty mask) and sigset; every pointer is to a live local of the
    // type the call expects. The handler touches nothing, so it is safe in any context.
    let failed = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigaddset(&mut set, SIGNAL);
        libc::sigaction(SIGNAL, &action, ptr::null_mut()) != 0
            || libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
