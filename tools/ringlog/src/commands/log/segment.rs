//! Segments: record batches back to back.

use std::io;

use model::Offset;
use model::record::{
    BatchHeader, Batches, DecompressionScratch, HEADER_LEN, TimestampType, crc_matches,
    read_records,
};

use super::Printer;

/// Bytes of a key or value that are shown.
const PREVIEW_BYTES: usize = 48;

/// Prints a segment whose first offset should be `base_offset` or more.
pub(super) fn dump(
    base_offset: Option<Offset>,
    bytes: &[u8],
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    let mut next_offset = base_offset;
    let mut scratch = DecompressionScratch::new();
    let (mut position, mut batches, mut records) = (0, 0u64, 0u64);
    for batch in Batches::new(bytes) {
        if is_end(&bytes[position..]) {
            break;
        }
        let (header, batch) = match batch {
            Ok(batch) => batch,
            Err(error) => {
                printer.problem(&format!("position {position}: {error}"))?;
                break;
            }
        };
        printer.line(&batch_line(position, &header))?;
        if !crc_matches(batch) {
            printer.problem(&format!("position {position}: checksum mismatch"))?;
        }
        if next_offset.is_some_and(|next| header.base_offset < next) {
            printer.problem(&format!(
                "position {position}: offset {} goes back",
                header.base_offset
            ))?;
        }
        next_offset = Some(header.next_offset());
        print_records(position, batch, &mut scratch, printer)?;
        batches += 1;
        records += u64::try_from(header.record_count).unwrap_or(0);
        position += batch.len();
    }
    let behind = &bytes[position.min(bytes.len())..];
    let what = if behind.iter().all(|byte| *byte == 0) {
        "behind them"
    } else {
        "behind them, not all zero: the file was an older segment's before, or damage begins there"
    };
    printer.line(&format!(
        "  {batches} batches, {records} records, {position} bytes, {} bytes {what}",
        behind.len()
    ))
}

/// Whether there are zeros where a batch header would be: the end of what a segment holds that is still written.
fn is_end(bytes: &[u8]) -> bool {
    bytes.iter().take(HEADER_LEN).all(|byte| *byte == 0)
}

/// One line about a batch.
pub(super) fn batch_line(position: usize, header: &BatchHeader) -> String {
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
    format!("{line}  crc {:08x}", header.crc)
}

/// The records of a batch, if they are asked for.
pub(super) fn print_records(
    position: usize,
    batch: &[u8],
    scratch: &mut DecompressionScratch,
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    if !printer.with_records {
        return Ok(());
    }
    let records = match read_records(batch, scratch) {
        Ok(records) => records,
        Err(error) => return printer.problem(&format!("position {position}: {error}")),
    };
    for record in records {
        match record {
            Ok(record) => printer.line(&format!(
                "              {}  time {}  key {}  value {}",
                record.offset,
                record.timestamp,
                preview(record.key),
                preview(record.value),
            ))?,
            Err(error) => return printer.problem(&format!("position {position}: {error}")),
        }
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
        assert!(preview(Some(&[b'x'; 1000])).ends_with("x\"... (1000)"));
    }
}
