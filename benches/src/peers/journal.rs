//! Results on disk: one JSON document per line, appended as soon as it is known, so that a run can be resumed.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Machine;
use crate::drive::{DriveError, Limits, Loaded, Noise, Peer};
use crate::workloads::Durability;

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Which round.
    pub round: usize,
    /// Which broker.
    pub peer: Peer,
    /// What it promised.
    pub durability: Durability,
    /// Which workload.
    pub workload: String,
    /// What came of it; nothing if it failed.
    pub loaded: Option<Loaded>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// What else the machine did.
    pub noise: Noise,
}

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The begin of a run, or of its continuation.
    Run(Machine),
    /// The machine's limits.
    Limits {
        /// 0 at the begin, 1 at the end.
        number: usize,
        /// What they are.
        limits: Limits,
    },
    /// A measurement.
    Window(Window),
}

/// The file, and what is in it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

impl Journal {
    /// Begins an empty one, or continues what is there.
    pub fn open(path: &Path, resume: bool) -> Result<Journal, DriveError> {
        let wrap = || DriveError::io(path.display().to_string());
        let mut entries = Vec::new();
        if resume && path.exists() {
            let text = std::fs::read_to_string(path).map_err(wrap())?;
            entries = parse(&text).map_err(|reason| DriveError::Unreadable {
                what: path.display().to_string(),
                reason,
            })?;
        }
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(path)
            .map_err(wrap())?;
        let mut journal = Journal {
            path: path.to_owned(),
            file,
            entries: Vec::new(),
        };
        for entry in entries {
            journal.append(entry)?;
        }
        Ok(journal)
    }

    /// Appends a line.
    pub fn append(&mut self, entry: Entry) -> Result<(), DriveError> {
        let wrap = || DriveError::io(self.path.display().to_string());
        let line = serde_json::to_string(&entry).map_err(|error| DriveError::Unreadable {
            what: "a result".to_owned(),
            reason: error.to_string(),
        })?;
        writeln!(self.file, "{line}").map_err(wrap())?;
        self.file.flush().map_err(wrap())?;
        self.entries.push(entry);
        Ok(())
    }

    /// Everything so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether a window was measured and did not fail.
    pub fn has(&self, round: usize, peer: Peer, durability: Durability, workload: &str) -> bool {
        self.windows().any(|window| {
            let same = (window.round, window.peer) == (round, peer);
            same && window.durability == durability
                && window.workload == workload
                && window.failure.is_none()
        })
    }

    /// Whether limits of that number were measured.
    pub fn has_limits(&self, wanted: usize) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| matches!(entry, Entry::Limits { number, .. } if *number == wanted))
    }

    /// All windows.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Window(window) => Some(window),
            Entry::Run(_) | Entry::Limits { .. } => None,
        })
    }
}

/// All lines but a last one that was cut off.
fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = complete.lines().filter(|line| !line.is_empty());
    let parsed = lines.map(serde_json::from_str);
    parsed
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::{Figures, Metric};

    fn window(round: usize, failure: Option<&str>) -> Window {
        let loaded = Loaded {
            figures: Figures::from([(Metric::MbPerSecond, 500.5), (Metric::P999Ms, 3.0)]),
            ..Loaded::default()
        };
        Window {
            round,
            peer: Peer::Kafka,
            durability: Durability::Flushed,
            workload: "64x1KiB".to_owned(),
            loaded: failure.is_none().then_some(loaded),
            failure: failure.map(str::to_owned),
            noise: Noise::default(),
        }
    }

    #[test]
    fn a_run_that_was_cut_off_continues_where_it_ended() {
        let name = format!("ringlog-benches-{}-journal", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut journal = Journal::open(&path, false).unwrap();
        journal.append(Entry::Window(window(0, None))).unwrap();
        journal
            .append(Entry::Window(window(1, Some("it broke"))))
            .unwrap();
        write!(journal.file, "{{\"window\":{{\"rou").unwrap();
        let journal = Journal::open(&path, true).unwrap();
        let has = |round| journal.has(round, Peer::Kafka, Durability::Flushed, "64x1KiB");
        assert_eq!((has(0), has(1), has(2)), (true, false, false));
        let first = journal.windows().next().unwrap().loaded.clone().unwrap();
        assert_eq!(first.figures[&Metric::MbPerSecond], 500.5);
        assert!(!journal.has_limits(0));
        std::fs::remove_file(path).unwrap();
    }
}
