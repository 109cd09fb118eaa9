//! What the records of a `producer-perf-test` hold: random bytes, texts of a file, or numbers.

use std::sync::Arc;

use bytes::Bytes;
use load::workload::RECORD_OVERHEAD_BYTES;
use load::{BatchSize, Payload, RecordSizes};
use model::record::HEADER_LEN;

use super::perf_test::PerfTestArgs;
use crate::commands::CommandError;

/// Largest file of payloads: it is kept in memory.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What the arguments ask for.
pub fn read(args: &PerfTestArgs) -> Result<Payload, CommandError> {
    if args.payload_monotonic {
        return Ok(Payload::Numbers { first: 0 });
    }
    let Some(path) = &args.payload_file else {
        return Ok(Payload::Random);
    };
    let name = path.display();
    let failed = |error| CommandError::io(format!("--payload-file {name}"), error);
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(CommandError::Usage(format!(
            "--payload-file {name}: {bytes} bytes are too many, {FILE_BYTES_MAX} at most"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let delimiter = unescaped(&args.payload_delimiter).map_err(CommandError::Usage)?;
    let texts = split(&text, &delimiter);
    match texts.is_empty() {
        true => Err(CommandError::Usage(format!(
            "--payload-file {name}: there is no payload in it"
        ))),
        false => Ok(Payload::Listed(Arc::new(texts))),
    }
}

/// The texts between delimiters; those at the end that are empty are none, as Java splits.
fn split(text: &str, delimiter: &str) -> Vec<Bytes> {
    let mut texts: Vec<&str> = text.split(delimiter).collect();
    while texts.last().is_some_and(|last| last.is_empty()) {
        texts.pop();
    }
    let texts = texts.into_iter();
    texts
        .map(|text| Bytes::copy_from_slice(text.as_bytes()))
        .collect()
}

/// A delimiter in which some characters are written with a backslash.
fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('\\') => '\\',
                _ => {
                    return Err(format!(
                        "--payload-delimiter {text}: only \\n, \\r, \\t and \\\\ are known"
                    ));
                }
            },
            c => c,
        });
    }
    match out.is_empty() {
        true => Err("--payload-delimiter: it must not be empty".to_owned()),
        false => Ok(out),
    }
}

/// The sizes of records.
pub fn sizes(args: &PerfTestArgs, payload: &Payload) -> RecordSizes {
    let longest = || (args.num_records - 1).to_string().len();
    payload
        .sizes()
        .unwrap_or_else(|| RecordSizes::Fixed(args.record_size.unwrap_or_else(longest)))
}

/// How much is in a batch. Where records differ it is a number of them, so that their count comes out exactly.
pub fn batch(payload: &Payload, bytes: usize) -> BatchSize {
    let Payload::Listed(texts) = payload else {
        return BatchSize::Bytes(bytes);
    };
    let all: usize = texts.iter().map(Bytes::len).sum();
    let mean = all / texts.len() + RECORD_OVERHEAD_BYTES;
    // A batch has a record, however small it may be.
    let records = bytes.saturating_sub(HEADER_LEN) / mean;
    BatchSize::Records(records.max(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_as_java_does() {
        for (text, delimiter, expected) in [
            ("a\nb\n\n", "\n", &["a", "b"][..]),
            ("\na", "\n", &["", "a"]),
            ("a, b,c", ", ", &["a", "b,c"]),
            ("a|b", "|", &["a", "b"]),
            ("", "\n", &[]),
            ("\n\n", "\n", &[]),
        ] {
            assert_eq!(split(text, delimiter), expected, "{text:?}");
        }
    }

    #[test]
    fn delimiters() {
        assert_eq!(unescaped("\\n"), Ok("\n".to_owned()));
        assert_eq!(unescaped("\\t\\\\x"), Ok("\t\\x".to_owned()));
        for wrong in ["", "\\", "\\s+"] {
            assert!(unescaped(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn batches_of_texts_have_a_number_of_them() {
        let texts = |lengths: &[usize]| {
            let texts = lengths.iter().map(|bytes| Bytes::from(vec![b'x'; *bytes]));
            Payload::Listed(Arc::new(texts.collect()))
        };
        let records = |payload: &Payload| batch(payload, 16_384);
        assert_eq!(
            records(&texts(&[50, 150])),
            BatchSize::Records((16_384 - 61) / 112)
        );
        assert_eq!(records(&texts(&[1 << 20])), BatchSize::Records(1));
        assert_eq!(records(&Payload::Random), BatchSize::Bytes(16_384));
    }
}
