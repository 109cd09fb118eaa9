//! The storage's own files: indexes, snapshots, journals, checkpoints. Decoded by `storage::dump`, printed here.

use std::io;

use model::record::DecompressionScratch;
use model::{LeaderEpoch, Offset};
use storage::SnapshotId;
use storage::dump::{CheckpointLog, JournalAction, JournalGroup};

use super::Printer;
use super::segment::{batch_line, print_records};

/// Prints an index, and checks its chunks against `log`, the segment's bytes.
pub(super) fn dump_index(
    base_offset: Option<Offset>,
    bytes: &[u8],
    log: Option<&[u8]>,
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    let pages = storage::dump::index_pages(bytes, base_offset.unwrap_or(Offset::ZERO));
    let mut count = 0u64;
    for page in &pages {
        let Some(chunks) = &page.chunks else {
            printer.problem(&format!(
                "page {} is damaged, or belongs elsewhere (partition {}, segment {})",
                page.number, page.partition, page.segment_base_offset
            ))?;
            continue;
        };
        printer.line(&format!(
            "  page {}  partition {}  segment {}  {} chunks",
            page.number,
            page.partition,
            page.segment_base_offset,
            chunks.len()
        ))?;
        for chunk in chunks {
            printer.line(&format!(
                "  {:>10}  from offset {}  bytes {}  latest {}  checksum {:08x}",
                chunk.position,
                chunk.base_offset,
                chunk.length_bytes,
                chunk.max_timestamp,
                chunk.checksum
            ))?;
            if log.is_some_and(|log| !page.matches(chunk, log)) {
                printer.problem(&format!(
                    "position {}: the segment's bytes do not match this checksum",
                    chunk.position
                ))?;
            }
            count += 1;
        }
    }
    let checked = match log {
        Some(_) => "checked against the segment",
        None => "the segment is not there to check them against",
    };
    printer.line(&format!(
        "  {} pages, {count} chunks, {checked}",
        pages.len()
    ))
}

/// Prints an index of aborted transactions.
pub(super) fn dump_aborted(
    base_offset: Option<Offset>,
    bytes: &[u8],
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    let pages = storage::dump::aborted_pages(bytes, base_offset.unwrap_or(Offset::ZERO));
    let mut count = 0u64;
    for page in &pages {
        let Some(aborted) = &page.aborted else {
            printer.problem(&format!(
                "page {} is damaged, or belongs elsewhere (partition {}, segment {})",
                page.number, page.partition, page.segment_base_offset
            ))?;
            continue;
        };
        for one in aborted {
            printer.line(&format!(
                "  producer {}  offsets {}..={}  stable up to {}",
                one.producer_id, one.first_offset, one.last_offset, one.last_stable_offset
            ))?;
            count += 1;
        }
    }
    printer.line(&format!(
        "  {} pages, {count} aborted transactions",
        pages.len()
    ))
}

/// Prints the commit groups of a journal file.
pub(super) fn dump_journal(bytes: &[u8], printer: &mut Printer<'_>) -> io::Result<()> {
    let contents = storage::dump::journal_groups(bytes);
    let mut scratch = DecompressionScratch::new();
    for group in &contents.groups {
        printer.line(&format!(
            "  {:>10}  group {}  shard {}  generation {:016x}  durable through {}  bytes {}  checksum {:08x} after {:08x}",
            group.position,
            group.sequence,
            group.shard,
            group.generation,
            group.durable_sequence,
            group.used_bytes,
            group.checksum,
            group.previous_checksum,
        ))?;
        match &group.entries {
            Ok(entries) => {
                for entry in entries {
                    print_entry(bytes, entry, &mut scratch, printer)?;
                }
            }
            Err(error) if was_durable(group, &contents.groups) => {
                printer.problem(&format!("position {}: {error}", group.position))?;
            }
            Err(error) => printer.line(&format!(
                "              incomplete, and never reported as durable: {error}"
            ))?,
        }
    }
    for (position, format) in &contents.other_formats {
        printer.problem(&format!("position {position}: a group of format {format}"))?;
    }
    printer.line(&format!(
        "  {} groups in {} bytes",
        contents.groups.len(),
        bytes.len()
    ))
}

/// Whether a later group says that this one had been durable: then it is damaged, else it may just be torn.
fn was_durable(group: &JournalGroup, all: &[JournalGroup]) -> bool {
    all.iter().any(|other| {
        other.generation == group.generation
            && other.sequence > group.sequence
            && other.durable_sequence >= group.sequence
    })
}

fn print_entry(
    bytes: &[u8],
    entry: &storage::dump::JournalEntry,
    scratch: &mut DecompressionScratch,
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    let partition = entry.partition;
    let (what, header, position) = match &entry.action {
        JournalAction::Mark { what, offset } => {
            let offset = offset.map_or(String::new(), |offset| format!(" {offset}"));
            return printer.line(&format!("              {partition}  {what}{offset}"));
        }
        JournalAction::Batch { header, position } => ("batch", header, *position),
        JournalAction::CarriedBatch { header, position } => ("carried batch", header, *position),
    };
    printer.line(&format!(
        "{}  {what} of {partition}",
        batch_line(position, header)
    ))?;
    let end = position.saturating_add(header.size_bytes());
    match bytes.get(position..end) {
        Some(batch) => print_records(position, batch, scratch, printer),
        None => printer.problem(&format!("position {position}: the batch is cut off")),
    }
}

/// Prints a snapshot of a log. `id` is its name.
pub(super) fn dump_snapshot(
    id: Option<SnapshotId>,
    bytes: &[u8],
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    let (end_offset, epoch) = match id {
        Some(id) => (id.end_offset, id.epoch),
        None => (Offset::NONE, LeaderEpoch::NONE),
    };
    printer.line(&format!(
        "  snapshot of the records before offset {end_offset}, leader epoch {epoch}"
    ))?;
    let contents = storage::dump::snapshot(bytes, epoch);
    let mut scratch = DecompressionScratch::new();
    for (position, header) in &contents.batches {
        printer.line(&batch_line(*position, header))?;
        let end = position.saturating_add(header.size_bytes());
        let batch = bytes.get(*position..end).unwrap_or_default();
        print_records(*position, batch, &mut scratch, printer)?;
    }
    match contents.sound {
        Ok(last) => printer.line(&format!("  complete, its last record is of {last}")),
        Err((position, reason)) => printer.problem(&format!("position {position}: {reason}")),
    }
}

/// Prints a checkpoint.
pub(super) fn dump_checkpoint(bytes: &[u8], printer: &mut Printer<'_>) -> io::Result<()> {
    let checkpoint = match storage::dump::checkpoint(bytes) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return printer.problem(&error),
    };
    let (sequence, file, position) = checkpoint.replay_from;
    printer.line(&format!(
        "  checkpoint {}  shard {}  {}  generation {:016x}",
        checkpoint.sequence, checkpoint.shard, checkpoint.state, checkpoint.generation
    ))?;
    printer.line(&format!(
        "  replay from group {sequence} in {file}.journal at {position}  durable through {}",
        checkpoint.durable_through
    ))?;
    for removal in &checkpoint.removals {
        printer.line(&format!("  to be removed: {removal}"))?;
    }
    for log in &checkpoint.logs {
        print_log(log, printer)?;
    }
    printer.line(&format!("  {} logs", checkpoint.logs.len()))
}

fn print_log(log: &CheckpointLog, printer: &mut Printer<'_>) -> io::Result<()> {
    let epoch = log
        .leader_epoch
        .map_or("none".to_owned(), |epoch| epoch.to_string());
    printer.line(&format!(
        "  {}  offsets {}..{} in segments  epoch {epoch}  producers {}",
        log.partition, log.log_start_offset, log.written_end_offset, log.producer_count
    ))?;
    for segment in &log.segments {
        let (base, next) = segment.offsets;
        printer.line(&format!(
            "      segment {base}..{next}  bytes {}  latest {}  index pages {}  {}",
            segment.size_bytes,
            segment.max_timestamp,
            segment.index_pages,
            if segment.sealed { "sealed" } else { "open" }
        ))?;
    }
    Ok(())
}
