//! What a sweep writes down: a header, then one measurement per run, as JSON lines.
//!
//! The file is only appended to, one whole line at a time, so that whatever ends a sweep leaves a file that can be gone
//! on with. Invariants: the first line is the header; the last line may be torn, every other line is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::plan::{Plan, Point};

/// Version of the file's format; files of another one are refused.
pub const FORMAT_VERSION: u32 = 2;
/// Largest file that is read: a hundred times the longest sweep in practice.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What was known before the first run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// `FORMAT_VERSION`.
    pub ringlog_sweep: u32,
    /// Version of this program.
    pub version: String,
    /// The command line.
    pub command: String,
    /// Seconds since 1970 when it began.
    pub started: u64,
    /// Where the generator ran.
    pub machine: Machine,
    /// What each target said about itself, in the plan's order.
    pub brokers: Vec<String>,
    /// What is measured.
    pub plan: Plan,
}

/// Why a run was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A point of the grid.
    Grid,
    /// The closed loop that a search for the knee starts from, where the grid has none.
    Ceiling,
    /// A step of a search for the knee.
    Knee,
}

/// One run to be made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Why.
    pub phase: Phase,
    /// Which target, by its place in the plan.
    pub target: usize,
    /// Which repetition of the grid, or which step of the search.
    pub repetition: u32,
    /// What.
    pub point: Point,
}

/// Quantiles of latency in milliseconds: from the intended send time at a rate, from the send time in a closed loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Slowest.
    pub max: f64,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Measured time in seconds.
    pub seconds: f64,
    /// Records acknowledged per second.
    pub records_per_second: f64,
    /// 10^6 bytes of keys and values acknowledged per second.
    pub mb_per_second: f64,
    /// Requests acknowledged.
    pub requests: u64,
    /// Requests acknowledged per second.
    pub requests_per_second: f64,
    /// Records per second that the schedule asked for; `None` in a closed loop.
    pub offered_records_per_second: Option<f64>,
    /// From the intended time to the answer.
    pub latency_ms: Latency,
    /// Failed requests.
    pub errors: u64,
    /// CPU time of the generator over measured time: 1 is one core.
    pub generator_cores: f64,
    /// Why the run says nothing about the broker, if it does not: the generator fell behind.
    pub invalid: Option<String>,
    /// What else there is to know.
    pub note: Option<String>,
}

impl Figures {
    /// Achieved over offered rate; 1 in a closed loop, which offers what it achieves.
    pub fn achieved_share(&self) -> f64 {
        match self.offered_records_per_second {
            Some(offered) if offered > 0.0 => self.records_per_second / offered,
            _ => 1.0,
        }
    }

    /// A clean run, for tests.
    #[cfg(test)]
    pub(crate) fn fixture(mb_per_second: f64, p99: f64) -> Figures {
        Figures {
            seconds: 5.0,
            records_per_second: mb_per_second * 1_000.0,
            mb_per_second,
            requests: 1_000,
            requests_per_second: 200.0,
            latency_ms: Latency {
                p50: p99 / 2.0,
                p99,
                p999: p99 * 1.5,
                max: p99 * 2.0,
            },
            ..Figures::default()
        }
    }
}

/// A run and its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was run.
    #[serde(flatten)]
    pub job: Job,
    /// What it came to; `None` if it failed.
    pub figures: Option<Figures>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A file that cannot be written or gone on with.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is not what a sweep writes.
    #[error("{path}, line {line}: {reason}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
}

impl RecordError {
    fn io(path: &Path, source: io::Error) -> RecordError {
        RecordError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// What a file holds that nobody is writing to, without a torn last line.
pub fn read(path: &Path) -> Result<(Header, Vec<Measurement>), RecordError> {
    let text = read_text(path)?;
    parse(path, whole_lines(&text))
}

fn read_text(path: &Path) -> Result<String, RecordError> {
    let fail = |source| RecordError::io(path, source);
    if fs::metadata(path).map_err(fail)?.len() > FILE_BYTES_MAX {
        return Err(fail(io::Error::other("larger than any sweep")));
    }
    fs::read_to_string(path).map_err(fail)
}

fn whole_lines(text: &str) -> &str {
    &text[..text.rfind('\n').map_or(0, |at| at + 1)]
}

/// The file of a sweep that is being made.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// A new file with its header. There must be none yet.
    pub fn create(path: &Path, header: &Header) -> Result<Journal, RecordError> {
        let opened = OpenOptions::new().append(true).create_new(true).open(path);
        let file = opened.map_err(|source| RecordError::io(path, source))?;
        let mut journal = Journal {
            path: path.to_owned(),
            file,
        };
        journal.line(header)?;
        Ok(journal)
    }

    /// Opens a file to go on with: what it holds, without a torn last line, which is cut off.
    pub fn resume(path: &Path) -> Result<(Journal, Header, Vec<Measurement>), RecordError> {
        let fail = |source| RecordError::io(path, source);
        let text = read_text(path)?;
        let whole = whole_lines(&text);
        let (header, measurements) = parse(path, whole)?;
        let file = OpenOptions::new().append(true).open(path).map_err(fail)?;
        file.set_len(whole.len() as u64).map_err(fail)?;
        let journal = Journal {
            path: path.to_owned(),
            file,
        };
        Ok((journal, header, measurements))
    }

    /// Adds a measurement.
    pub fn append(&mut self, measurement: &Measurement) -> Result<(), RecordError> {
        self.line(measurement)
    }

    fn line<T: Serialize>(&mut self, value: &T) -> Result<(), RecordError> {
        let written = serde_json::to_string(value)
            .map_err(io::Error::other)
            .and_then(|text| self.file.write_all(format!("{text}\n").as_bytes()));
        written.map_err(|source| RecordError::io(&self.path, source))
    }
}

fn parse(path: &Path, text: &str) -> Result<(Header, Vec<Measurement>), RecordError> {
    let malformed = |line: usize, reason: String| RecordError::Malformed {
        path: path.to_owned(),
        line,
        reason,
    };
    let mut lines = text.lines().enumerate();
    let (_, first) = lines
        .next()
        .ok_or_else(|| malformed(1, "there is no header".to_owned()))?;
    let header: Header =
        serde_json::from_str(first).map_err(|error| malformed(1, error.to_string()))?;
    if header.ringlog_sweep != FORMAT_VERSION {
        let reason = format!("format {} is not {FORMAT_VERSION}", header.ringlog_sweep);
        return Err(malformed(1, reason));
    }
    header
        .plan
        .validate()
        .map_err(|error| malformed(1, error.to_string()))?;
    let mut measurements = Vec::new();
    for (index, line) in lines {
        let measurement: Measurement =
            serde_json::from_str(line).map_err(|error| malformed(index + 1, error.to_string()))?;
        if measurement.job.target >= header.plan.targets.len() {
            return Err(malformed(index + 1, "there is no such target".to_owned()));
        }
        measurements.push(measurement);
    }
    Ok((header, measurements))
}
