//! Ctrl-C and SIGTERM of commands that have something to say before they end.
//!
//! The first signal asks the command to come to an end and to tell what it has; the second ends the process at once. A
//! command that was stopped before it was done fails as [`CommandError::Interrupted`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::commands::CommandError;

/// What a shell says of a process that a signal ended: this and the signal's number.
pub const EXIT_CODE_OF_SIGNALS: u8 = 128;

/// Whether a signal has come.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Watches for SIGINT and SIGTERM from now on, for the rest of the process's life.
    pub fn watch() -> Result<Interrupt, CommandError> {
        let interrupt = Interrupt::default();
        for signal in [SIGINT, SIGTERM] {
            let status = i32::from(EXIT_CODE_OF_SIGNALS) + signal;
            let number =
                usize::try_from(signal).expect("numbers of signals are small and positive");
            // In this order: the first action takes effect only if an earlier signal has run the second.
            flag::register_conditional_shutdown(signal, status, interrupt.stop.clone())
                .and_then(|_| flag::register(signal, interrupt.stop.clone()))
                .and_then(|_| flag::register_usize(signal, interrupt.signal.clone(), number))
                .map_err(|error| CommandError::io("signals", error))?;
        }
        Ok(interrupt)
    }

    /// The flag that the first signal sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// As if a signal had come: there is no reason to go on.
    pub fn set(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether a signal has come.
    pub fn is_set(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error if a signal has come.
    pub fn check(&self) -> Result<(), CommandError> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(CommandError::Interrupted(signal)),
        }
    }
}
