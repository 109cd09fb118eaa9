//! `ringlog log dump`: what is in the files of a data directory. Reads files only, so it is best used on a broker that
//! is stopped; on one that runs, the newest bytes may be in the middle of a change.

mod own_files;
mod segment;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::CommandError;

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
        DATA/partitions/<topic id>-<index>/*.log, *.index    (`ringlog topic list` shows the ids)\n  \
        DATA/journal/<shard>/*.journal\n  \
        DATA/partitions/<topic id>-<index>/*.checkpoint      (snapshots: of the metadata log)\n  \
        DATA/checkpoint/<shard>.0, <shard>.1\n\n\
        Exit code: 1 if anything is damaged.")]
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
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Segment,
    Index,
    Snapshot,
    Journal,
    Checkpoint,
}

/// Where lines go, and how many problems were among them.
struct Printer<'a> {
    out: &'a mut dyn Write,
    with_records: bool,
    problems: u64,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    fn problem(&mut self, text: &str) -> io::Result<()> {
        self.problems += 1;
        writeln!(self.out, "  PROBLEM {text}")
    }
}

/// Runs the command.
pub fn run(args: LogArgs) -> Result<(), CommandError> {
    let Action::Dump(args) = args.action;
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(files_of(path)?);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let mut printer = Printer {
        out: &mut out,
        with_records: args.records,
        problems: 0,
    };
    for (kind, path) in &files {
        let bytes = fs::read(path)
            .map_err(|e| CommandError::io(format!("reading {}", path.display()), e))?;
        if let Err(error) = dump(*kind, path, &bytes, &mut printer) {
            return ended(error);
        }
    }
    let problems = printer.problems;
    if let Err(error) = out.flush() {
        return ended(error);
    }
    if problems > 0 {
        return Err(CommandError::Failed(format!("damage found: {problems} x")));
    }
    Ok(())
}

/// A reader that has seen enough, such as `head`, is no error.
fn ended(error: io::Error) -> Result<(), CommandError> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(CommandError::io("writing the output", error))
}

fn dump(kind: FileKind, path: &Path, bytes: &[u8], printer: &mut Printer<'_>) -> io::Result<()> {
    printer.line(&path.display().to_string())?;
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
        "journal" => Some(FileKind::Journal),
        _ => storage::Layout::checkpoint_shard(path).map(|_| FileKind::Checkpoint),
    }
}

/// The file itself, or every known file below a directory, in the order of their names.
fn files_of(path: &Path) -> Result<Vec<(FileKind, PathBuf)>, CommandError> {
    if !path.is_dir() {
        let kind = kind_of(path).ok_or_else(|| {
            CommandError::Usage(format!(
                "{}: not the name of a segment (.log), index (.index), snapshot (.checkpoint), journal (.journal) or checkpoint \
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
    fn printed(kind: FileKind, bytes: &[u8]) -> (String, u64) {
        let mut out = Vec::new();
        let mut printer = Printer {
            out: &mut out,
            with_records: true,
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
            assert_eq!(printed(kind, &[]).1, empty, "{kind:?}");
            let (text, problems) = printed(kind, &[0x5a; 4096]);
            assert_eq!(problems, garbage, "{kind:?}: {text}");
            assert!(text.lines().count() > 1, "{kind:?} says nothing");
        }
    }
}
