//! Standard output and standard error: the only place that writes to them.
//!
//! Results go to standard output, what is to be said about them to standard error. A reader that has seen enough
//! (`| head -1`) is no fault: the write fails as [`CommandError::OutputClosed`], which ends a command quietly and is no
//! failure. What standard error does not take is not said: there is nowhere left to say so.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, StderrLock, StdoutLock, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::fmt::MakeWriter;

use crate::commands::CommandError;

/// Prints a line of a result.
macro_rules! outln {
    ($($text:tt)*) => {
        $crate::stdio::print_line(format_args!($($text)*))
    };
}

/// Says something about a result, or why there is none.
macro_rules! noteln {
    ($($text:tt)*) => {
        $crate::stdio::note_line(format_args!($($text)*))
    };
}

pub(crate) use {noteln, outln};

/// Behind [`outln!`].
pub fn print_line(text: fmt::Arguments<'_>) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(unwritten)
}

/// Prints a text as it is.
pub fn print_text(text: &str) -> Result<(), CommandError> {
    print_bytes(text.as_bytes())
}

/// Prints bytes as they are.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(unwritten)
}

/// Says on standard output that a service is ready. Whoever started it may have stopped listening: a service runs on.
pub fn announce(text: fmt::Arguments<'_>) {
    if let Err(error) = print_line(text) {
        tracing::warn!("{text} (standard output: {error})");
    }
}

/// Behind [`noteln!`].
pub fn note_line(text: fmt::Arguments<'_>) {
    let _nowhere_left_to_say_so = writeln!(io::stderr().lock(), "{text}");
}

/// Standard output for many small pieces, gathered until [`Write::flush`].
pub fn gathered() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Why something could not be written to standard output.
pub fn unwritten(error: io::Error) -> CommandError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::OutputClosed,
        _ => CommandError::io("standard output", error),
    }
}

/// Whether standard output is a pipe that nobody reads any more. Commands that may have nothing to print for long ask this:
/// a write would tell, but may never come.
pub fn is_out_closed() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let found = poll(&mut polled, Some(&Timespec::default()));
    found.is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

/// Where log lines go: standard error, or nowhere when nobody reads it any more.
#[derive(Clone, Copy, Debug)]
pub struct LogLines;

/// One writer of log lines.
pub struct LogWriter(StderrLock<'static>);

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter(io::stderr().lock())
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A log line that fails must not become another one, nor a panic.
        match self.0.write(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Ok(bytes.len()),
            outcome => outcome,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard error takes colours: it is a terminal that knows them, and nobody asked for none
/// (<https://no-color.org>).
pub fn has_colours() -> bool {
    takes_colours(io::stderr().is_terminal())
}

fn takes_colours(is_terminal: bool) -> bool {
    let no_color = std::env::var_os("NO_COLOR");
    let term = std::env::var_os("TERM");
    is_terminal
        && no_color.is_none_or(|value| value.is_empty())
        && term.is_some_and(|name| name != "dumb")
}

/// Colours of standard output, or none. They are of the terminal's own palette, which suits its background.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub const NONE: Paint = Paint { colours: false };

    /// As standard output takes them.
    pub fn stdout() -> Paint {
        Paint {
            colours: takes_colours(io::stdout().is_terminal()),
        }
    }

    /// A heading.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// A bar.
    pub fn bar(self, text: &str) -> String {
        self.with("36", text)
    }

    /// What is well.
    pub fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }

    /// What is not.
    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
