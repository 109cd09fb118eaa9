//! Ctrl-C: every wait looks at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::DriveError;

/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(5);

/// Whether a person wants it to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens to SIGINT and SIGTERM from now on.
    pub fn on_signals() -> Result<Stop, DriveError> {
        let stop = Stop::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, stop.0.clone())
                .map_err(DriveError::io("listening to signals"))?;
        }
        Ok(stop)
    }

    /// Fails once the end is wanted.
    pub fn check(&self) -> Result<(), DriveError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(DriveError::Interrupted);
        }
        Ok(())
    }

    /// Waits.
    pub fn sleep(&self, duration: Duration) -> Result<(), DriveError> {
        let end = Instant::now() + duration;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Asks until there is an answer, for at most `timeout`.
    pub fn until<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut ask: impl FnMut() -> Result<Option<T>, DriveError>,
    ) -> Result<T, DriveError> {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            if start.elapsed() > timeout {
                return Err(DriveError::TimedOut {
                    what: what.to_owned(),
                    after: timeout,
                });
            }
            self.sleep(LOOK)?;
        }
    }
}
