//! Whether a log waits for a segment writer or has one. Pure.
//!
//! Invariants: one task at a time writes a log's segments; a log stands in the queue at most once.

/// The state of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WriterState {
    /// Nothing to do.
    #[default]
    Idle,
    /// It stands in the queue. `all`: what little there is goes too.
    Queued { all: bool },
    /// A task writes it.
    Writing,
    /// A task writes it, and it goes back into the queue after that.
    WritingAgain { all: bool },
}

impl WriterState {
    /// Asks for a writer. True if the log has to be put into the queue.
    #[must_use]
    pub(crate) fn request(&mut self, all: bool) -> bool {
        let (next, enqueue) = match *self {
            WriterState::Idle => (WriterState::Queued { all }, true),
            WriterState::Queued { all: known } => {
                (WriterState::Queued { all: known || all }, false)
            }
            WriterState::Writing => (WriterState::WritingAgain { all }, false),
            WriterState::WritingAgain { all: known } => {
                (WriterState::WritingAgain { all: known || all }, false)
            }
        };
        *self = next;
        enqueue
    }

    /// A task has taken the log from the queue. Says whether all of it goes.
    #[must_use]
    pub(crate) fn begin(&mut self) -> bool {
        let WriterState::Queued { all } = *self else {
            panic!("a log that is taken from the queue stands in it, not {self:?}");
        };
        *self = WriterState::Writing;
        all
    }

    /// The task is done with it. True if the log has to be put into the queue again.
    #[must_use]
    pub(crate) fn end(&mut self) -> bool {
        let (next, again) = match *self {
            WriterState::Writing => (WriterState::Idle, false),
            WriterState::WritingAgain { all } => (WriterState::Queued { all }, true),
            other => panic!("a task that is done has written, not {other:?}"),
        };
        *self = next;
        again
    }

    /// A task writes it.
    pub(crate) fn is_writing(self) -> bool {
        matches!(
            self,
            WriterState::Writing | WriterState::WritingAgain { .. }
        )
    }

    /// Nobody writes it and nobody will.
    pub(crate) fn is_idle(self) -> bool {
        self == WriterState::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writer_and_one_place_in_the_queue() {
        let mut state = WriterState::default();
        assert!(state.request(false), "into the queue");
        assert!(!state.request(true) && !state.request(false), "once");
        assert!(state.begin(), "somebody wanted all of it");
        assert!(state.is_writing() && !state.request(false) && !state.request(true));
        assert!(state.end(), "again");
        assert!(state.begin());
        assert!(!state.end() && state.is_idle());
    }
}
