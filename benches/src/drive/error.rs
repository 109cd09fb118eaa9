//! Why something could not be measured.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Failure of a step.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// Ctrl-C or SIGTERM: everything ends.
    #[error("interrupted")]
    Interrupted,
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was asked of it.
        what: String,
        /// Its answer.
        source: std::io::Error,
    },
    /// A program ended otherwise than it should.
    #[error("{program} ended with {status}: {last_words}")]
    Ended {
        /// Which.
        program: String,
        /// How.
        status: ExitStatus,
        /// The end of what it said.
        last_words: String,
    },
    /// Something took too long.
    #[error("{what}: nothing after {after:?}")]
    TimedOut {
        /// What was awaited.
        what: String,
        /// How long.
        after: Duration,
    },
    /// A program said something that is not understood.
    #[error("{what} is not understood: {reason}")]
    Unreadable {
        /// Whose words.
        what: String,
        /// Why.
        reason: String,
    },
    /// A file that is needed is not there.
    #[error("{} is not there; {hint}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
}

impl DriveError {
    /// Wraps an error of the operating system.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DriveError {
        let what = what.into();
        move |source| DriveError::Io { what, source }
    }

    /// Whether it was a person who ended it.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, DriveError::Interrupted)
    }
}
