//! `ringlog log dump`: what is in a partition's files.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use model::Offset;
use model::record::{
    BatchHeader, Batches, DecompressionScratch, TimestampType, crc_matches, read_records,
};

use super::CommandError;

/// Bytes of a key or value that are shown.
const PREVIEW_BYTES: usize = 48;

/// Arguments of `ringlog log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the batches of segment files and check their checksums and offsets.
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
struct DumpArgs {
    /// Segment files (.log), or directories of which all segments are printed.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print every record, too.
    #[arg(long)]
    records: bool,
}

/// Runs the command.
pub fn run(args: LogArgs) -> Result<(), CommandError> {
    let Action::Dump(args) = args.action;
    let mut problems = 0;
    for path in &args.paths {
        for file in segments(path)? {
            problems += dump_segment(&file, args.records)?;
        }
    }
    if problems > 0 {
        return Err(CommandError::Failed(format!("{problems} problems found")));
    }
    Ok(())
}

fn segments(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let what = || format!("listing {}", path.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| CommandError::io(what(), e))? {
        let file = entry.map_err(|e| CommandError::io(what(), e))?.path();
        if file.extension().is_some_and(|extension| extension == "log") {
            files.push(file);
        }
    }
    if files.is_empty() {
        let path = path.display();
        return Err(CommandError::Usage(format!(
            "{path} holds no segment (*.log): name a partition's directory, such as DATA/TOPIC-0"
        )));
    }
    files.sort();
    Ok(files)
}

/// Prints a segment; the number of problems in it.
fn dump_segment(path: &Path, with_records: bool) -> Result<u64, CommandError> {
    println!("{}", path.display());
    let what = || format!("reading {}", path.display());
    let bytes = fs::read(path).map_err(|e| CommandError::io(what(), e))?;
    // A preallocated file ends in zeros, which are no batches.
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let mut problem = Problems::default();
    let mut next_offset: Option<Offset> = base_offset(path);
    let mut scratch = DecompressionScratch::new();
    let (mut position, mut batches, mut records) = (0, 0u64, 0u64);
    for batch in Batches::new(&bytes) {
        if position >= used {
            break;
        }
        let (header, batch) = match batch {
            Ok(batch) => batch,
            Err(error) => {
                problem.found(&format!("position {position}: {error}"));
                break;
            }
        };
        print_batch(position, &header);
        if !crc_matches(batch) {
            problem.found(&format!("position {position}: checksum mismatch"));
        }
        if next_offset.is_some_and(|next| header.base_offset < next) {
            problem.found(&format!(
                "position {position}: offset {} goes back",
                header.base_offset
            ));
        }
        next_offset = Some(header.next_offset());
        if with_records && let Err(error) = print_records(batch, &mut scratch) {
            problem.found(&format!("position {position}: {error}"));
        }
        batches += 1;
        records += u64::try_from(header.record_count).unwrap_or(0);
        position += batch.len();
    }
    let spare = bytes.len().saturating_sub(position);
    println!("  {batches} batches, {records} records, {position} bytes, {spare} bytes behind them");
    Ok(problem.count)
}

#[derive(Default)]
struct Problems {
    count: u64,
}

impl Problems {
    fn found(&mut self, text: &str) {
        self.count += 1;
        println!("  PROBLEM {text}");
    }
}

/// A segment's name is its first offset.
fn base_offset(path: &Path) -> Option<Offset> {
    path.file_stem()?.to_str()?.parse().ok().map(Offset)
}

fn print_batch(position: usize, header: &BatchHeader) {
    let codec = header.compression().map_or("unknown", |codec| codec.name());
    let time = match header.timestamp_type() {
        TimestampType::CreateTime => "created",
        TimestampType::LogAppendTime => "appended",
    };
    let mut line = format!(
        "  {position:>10}  offsets {}..{}  records {}  bytes {}  epoch {}  {codec}  {time} {}",
        header.base_offset,
        header.last_offset(),
        header.record_count,
        header.size_bytes(),
        header.leader_epoch,
        header.max_timestamp,
    );
    if header.is_idempotent() {
        line += &format!(
            "  producer {} epoch {} sequence {}",
            header.producer_id, header.producer_epoch, header.base_sequence
        );
    }
    if header.is_transactional() {
        line += "  transactional";
    }
    if header.is_control() {
        line += "  control";
    }
    println!("{line}  crc {:08x}", header.crc);
}

fn print_records(
    batch: &[u8],
    scratch: &mut DecompressionScratch,
) -> Result<(), model::record::RecordError> {
    for record in read_records(batch, scratch)? {
        let record = record?;
        println!(
            "              {}  time {}  key {}  value {}",
            record.offset,
            record.timestamp,
            preview(record.key),
            preview(record.value),
        );
    }
    Ok(())
}

/// The beginning of a field, with bytes that are not printable escaped, and its length.
fn preview(field: Option<&[u8]>) -> String {
    let Some(bytes) = field else {
        return "null".to_owned();
    };
    let shown = &bytes[..bytes.len().min(PREVIEW_BYTES)];
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{more} ({})", shown.escape_ascii(), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_short_and_printable() {
        assert_eq!(preview(None), "null");
        assert_eq!(preview(Some(b"")), "\"\" (0)");
        assert_eq!(preview(Some(b"a\n\xff")), "\"a\\n\\xff\" (3)");
        assert!(preview(Some(&[b'x'; 1000])).ends_with("...  (1000)".replace("  ", " ").as_str()));
    }

    #[test]
    fn a_segment_is_named_by_its_first_offset() {
        assert_eq!(
            base_offset(Path::new("/a/00000000000000000042.log")),
            Some(Offset(42))
        );
        assert_eq!(base_offset(Path::new("/a/other.log")), None);
    }
}
