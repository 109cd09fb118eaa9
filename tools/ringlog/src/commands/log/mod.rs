//! `ringlog log dump`: what is in the files of a data directory. Reads files only, so it is best used on a broker that
//! is stopped; on one that runs, the newest bytes may be in the middle of a change.

mod own_files;
mod segment;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::CommandError;
use super::table::Format;
use crate::stdio;

/// Arguments of `ringlog log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the files of a data directory and check their checksums: segments, indexes, snapshots, journals, checkpoints.
    #[command(after_help = "Where they are:\n  \
        DATA/partitions/<topic id>-<index>/*.log, *.index, *.txnindex    (`ringlog topic list` shows the ids)\n  \
        DATA/journal/<shard>/*.journal\n  \
        DATA/partitions/<topic id>-<index>/*.checkpoint      (snapshots: of the metadata log)\n  \
        DATA/checkpoint/<shard>.0, <shard>.1")]
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
struct DumpArgs {
    /// Files, or directories of which every known file is printed: a partition's, or the whole data directory.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print every record, too.
    #[arg(long)]
    records: bool,
    /// How to print; json is a document a line, with the file and a text or a problem.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Segment,
    Index,
    Snapshot,
    Aborted,
    Journal,
    Checkpoint,
}

/// Where lines go, and how many problems were among them.
struct Printer<'a> {
    out: &'a mut dyn Write,
    with_records: bool,
    format: Format,
    /// The file that is looked into.
    file: String,
    problems: u64,
}

/// A line for programs.
#[derive(Serialize)]
struct JsonLine<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

impl Printer<'_> {
    /// Goes on with the next file.
    fn begin(&mut self, path: &Path) -> io::Result<()> {
        self.file = path.display().to_string();
        match self.format {
            Format::Text => writeln!(self.out, "{}", self.file),
            Format::Json => Ok(()),
        }
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.out, "{text}"),
            Format::Json => self.json(Some(text.trim()), None),
        }
    }

    fn problem(&mut self, text: &str) -> io::Result<()> {
        self.problems += 1;
        match self.format {
            Format::Text => writeln!(self.out, "  PROBLEM {text}"),
            Format::Json => self.json(None, Some(text)),
        }
    }

    fn json(&mut self, text: Option<&str>, problem: Option<&str>) -> io::Result<()> {
        let line = JsonLine {
            file: &self.file,
            text,
            problem,
        };
        serde_json::to_writer(&mut *self.out, &line)?;
        writeln!(self.out)
    }
}

/// Runs the command.
pub fn run(args: LogArgs) -> Result<(), CommandError> {
    let Action::Dump(args) = args.action;
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(files_of(path)?);
    }
    let mut out = stdio::gathered();
    let mut printer = Printer {
        out: &mut out,
        with_records: args.records,
        format: args.format,
        file: String::new(),
        problems: 0,
    };
    for (kind, path) in &files {
        let bytes = fs::read(path)
            .map_err(|e| CommandError::io(format!("reading {}", path.display()), e))?;
        dump(*kind, path, &bytes, &mut printer).map_err(stdio::unwritten)?;
    }
    let problems = printer.problems;
    out.flush().map_err(stdio::unwritten)?;
    if problems > 0 {
        return Err(CommandError::Failed(format!("damage found: {problems} x")));
    }
    Ok(())
}

fn dump(kind: FileKind, path: &Path, bytes: &[u8], printer: &mut Printer<'_>) -> io::Result<()> {
    printer.begin(path)?;
    match kind {
        FileKind::Segment => segment::dump(base_offset(path), bytes, printer),
        FileKind::Index => {
            // An index is checked against its segment, if that is there.
            let log = fs::read(path.with_extension("log")).ok();
            own_files::dump_index(base_offset(path), bytes, log.as_deref(), printer)
        }
        FileKind::Snapshot => {
            own_files::dump_snapshot(storage::Layout::snapshot_of(path), bytes, printer)
        }
        FileKind::Aborted => own_files::dump_aborted(base_offset(path), bytes, printer),
        FileKind::Journal => own_files::dump_journal(bytes, printer),
        FileKind::Checkpoint => own_files::dump_checkpoint(bytes, printer),
    }
}

/// A segment's name is its first offset.
fn base_offset(path: &Path) -> Option<model::Offset> {
    storage::Layout::segment_of(path).map(|(base_offset, _)| base_offset)
}

/// The kind of a file; `None` for files that are not the storage's.
fn kind_of(path: &Path) -> Option<FileKind> {
    match path.extension()?.to_str()? {
        "log" => Some(FileKind::Segment),
        "index" => Some(FileKind::Index),
        "checkpoint" => storage::Layout::snapshot_of(path).map(|_| FileKind::Snapshot),
        "txnindex" => Some(FileKind::Aborted),
        "journal" => Some(FileKind::Journal),
        _ => storage::Layout::checkpoint_shard(path).map(|_| FileKind::Checkpoint),
    }
}

/// The file itself, or every known file below a directory, in the order of their names.
fn files_of(path: &Path) -> Result<Vec<(FileKind, PathBuf)>, CommandError> {
    if !path.is_dir() {
        let kind = kind_of(path).ok_or_else(|| {
            CommandError::Usage(format!(
                "{}: not the name of a segment (.log), index (.index, .txnindex), snapshot (.checkpoint), journal (.journal) or checkpoint \
                 (SHARD.0, SHARD.1)",
                path.display()
            ))
        })?;
        return Ok(vec![(kind, path.to_owned())]);
    }
    let mut files = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let what = || format!("listing {}", directory.display());
        for entry in fs::read_dir(&directory).map_err(|e| CommandError::io(what(), e))? {
            let entry = entry.map_err(|e| CommandError::io(what(), e))?;
            let file_type = entry.file_type().map_err(|e| CommandError::io(what(), e))?;
            // Symbolic links are not followed: a circle of them would never end.
            if file_type.is_dir() {
                directories.push(entry.path());
            } else if let Some(kind) = kind_of(&entry.path()) {
                files.push((kind, entry.path()));
            }
        }
    }
    if files.is_empty() {
        return Err(CommandError::Usage(format!(
            "{} holds no file of a log: name a data directory, or a partition's in it, DATA/partitions/<topic id>-<index>",
            path.display()
        )));
    }
    files.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        for (name, kind) in [
            ("p/00000000000000000042.log", Some(FileKind::Segment)),
            ("p/00000000000000000042.index", Some(FileKind::Index)),
            (
                "p/00000000000000000042-0000000003.checkpoint",
                Some(FileKind::Snapshot),
            ),
            ("p/00000000000000000042-0000000003.checkpoint.part", None),
            ("p/42.checkpoint", None),
            ("p/00000000000000000042.3.txnindex", Some(FileKind::Aborted)),
            ("p/00000000000000000042.3.txnindex.new", None),
            ("journal/3/7.journal", Some(FileKind::Journal)),
            ("journal/3/7.journal.new", None),
            ("checkpoint/12.1", Some(FileKind::Checkpoint)),
            ("checkpoint/12.2", None),
            ("meta.properties", None),
            ("README", None),
        ] {
            assert_eq!(kind_of(Path::new(name)), kind, "{name}");
        }
    }

    /// What is printed, and the count of problems.
    fn printed(kind: FileKind, bytes: &[u8], format: Format) -> (String, u64) {
        let mut out = Vec::new();
        let mut printer = Printer {
            out: &mut out,
            with_records: true,
            format,
            file: String::new(),
            problems: 0,
        };
        let path = Path::new("00000000000000000007.log");
        dump(kind, path, bytes, &mut printer).unwrap();
        let problems = printer.problems;
        (String::from_utf8(out).unwrap(), problems)
    }

    #[test]
    fn damage_is_a_problem_and_emptiness_is_none() {
        let kinds = [
            (FileKind::Segment, 0, 1),
            (FileKind::Index, 0, 1),
            (FileKind::Snapshot, 1, 1),
            (FileKind::Journal, 0, 0),
            (FileKind::Checkpoint, 1, 1),
        ];
        for (kind, empty, garbage) in kinds {
            assert_eq!(printed(kind, &[], Format::Text).1, empty, "{kind:?}");
            let (text, problems) = printed(kind, &[0x5a; 4096], Format::Text);
            assert_eq!(problems, garbage, "{kind:?}: {text}");
            assert!(text.lines().count() > 1, "{kind:?} says nothing");
            let (json, _) = printed(kind, &[0x5a; 4096], Format::Json);
            let told = json.lines().filter(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["file"], "00000000000000000007.log");
                line["problem"].is_string()
            });
            assert_eq!(told.count() as u64, problems, "{kind:?}");
        }
    }
}
