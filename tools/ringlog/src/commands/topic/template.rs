//! How read records are printed: format strings as those of kcat, and JSON.
//!
//! Pure: a record in, bytes out.

use std::borrow::Cow;
use std::io::Write as _;

use model::PartitionIndex;
use model::record::Record;
use serde::Serialize;
use serde_json::Value;

use super::encoding::{Encoding, unescape};

/// What `--help` says about format strings.
pub const TEMPLATE_HELP: &str = "\
Format strings (-f):
  %s value    %S bytes of the value, -1 if there is none    %R the same as 4 bytes, big-endian
  %k key      %K bytes of the key, -1 if there is none      %h headers: name=value,name=value
  %t topic    %p partition    %o offset    %T timestamp in milliseconds since 1970    %% a percent sign
  \\n \\t \\r \\0 \\\\ \\xHH    %v and %V are %s and %S";

/// Part of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Value,
    ValueLength,
    ValueLengthBinary,
    Key,
    KeyLength,
    Headers,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

/// How a record is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// One JSON document a line.
    Json,
    /// A format string.
    Pieces(Pieces),
}

/// The parts of a format string, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces(Vec<Piece>);

#[derive(Serialize)]
struct JsonRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Value,
    value: Value,
    headers: Vec<JsonHeader<'a>>,
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    key: Cow<'a, str>,
    value: Value,
}

/// Reads `text` (the value and the end of a line), `json`, or a format string.
pub fn template(text: &str) -> Result<Template, String> {
    let text = match text {
        "json" => return Ok(Template::Json),
        "text" => "%s\\n",
        format => format,
    };
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(percent) = rest.find('%') {
        let (literal, directive) = rest.split_at(percent);
        push_literal(&mut pieces, literal)?;
        let mut directive = directive.chars();
        directive.next();
        match directive.next() {
            Some('s' | 'v') => pieces.push(Piece::Value),
            Some('S' | 'V') => pieces.push(Piece::ValueLength),
            Some('R') => pieces.push(Piece::ValueLengthBinary),
            Some('k') => pieces.push(Piece::Key),
            Some('K') => pieces.push(Piece::KeyLength),
            Some('h') => pieces.push(Piece::Headers),
            Some('t') => pieces.push(Piece::Topic),
            Some('p') => pieces.push(Piece::Partition),
            Some('o') => pieces.push(Piece::Offset),
            Some('T') => pieces.push(Piece::Timestamp),
            Some('%') => pieces.push(Piece::Literal(b"%".to_vec())),
            other => {
                let other = other.map_or(String::new(), String::from);
                return Err(format!(
                    "%{other} is not known: see `ringlog topic consume --help`"
                ));
            }
        }
        rest = directive.as_str();
    }
    push_literal(&mut pieces, rest)?;
    Ok(Template::Pieces(Pieces(pieces)))
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) -> Result<(), String> {
    if !text.is_empty() {
        pieces.push(Piece::Literal(unescape(text)?));
    }
    Ok(())
}

impl Template {
    /// Appends a record.
    pub fn render(
        &self,
        topic: &str,
        partition: PartitionIndex,
        record: &Record<'_>,
        encoding: Encoding,
        out: &mut Vec<u8>,
    ) {
        match self {
            Template::Json => render_json(topic, partition, record, encoding, out),
            Template::Pieces(Pieces(pieces)) => {
                for piece in pieces {
                    piece.render(topic, partition, record, encoding, out);
                }
            }
        }
    }
}

impl Piece {
    fn render(
        &self,
        topic: &str,
        partition: PartitionIndex,
        record: &Record<'_>,
        encoding: Encoding,
        out: &mut Vec<u8>,
    ) {
        let length = |bytes: Option<&[u8]>| match bytes {
            None => -1,
            Some(bytes) => i32::try_from(bytes.len()).expect("a record has fewer than 2^31 bytes"),
        };
        match self {
            Piece::Literal(bytes) => out.extend_from_slice(bytes),
            Piece::Value => encoding.write(record.value.unwrap_or_default(), out),
            Piece::ValueLength => number(length(record.value), out),
            Piece::ValueLengthBinary => out.extend_from_slice(&length(record.value).to_be_bytes()),
            Piece::Key => encoding.write(record.key.unwrap_or_default(), out),
            Piece::KeyLength => number(length(record.key), out),
            Piece::Headers => {
                for (position, (name, value)) in record.headers.enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(name);
                    out.push(b'=');
                    encoding.write(value.unwrap_or_default(), out);
                }
            }
            Piece::Topic => out.extend_from_slice(topic.as_bytes()),
            Piece::Partition => number(partition, out),
            Piece::Offset => number(record.offset, out),
            Piece::Timestamp => number(record.timestamp, out),
        }
    }
}

fn number(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("writing to memory");
}

/// One line. `ringlog topic produce --format json` reads it.
fn render_json(
    topic: &str,
    partition: PartitionIndex,
    record: &Record<'_>,
    encoding: Encoding,
    out: &mut Vec<u8>,
) {
    let document = JsonRecord {
        topic,
        partition: partition.0,
        offset: record.offset.0,
        timestamp: record.timestamp.0,
        key: encoding.to_json(record.key),
        value: encoding.to_json(record.value),
        headers: record
            .headers
            .map(|(name, value)| JsonHeader {
                key: String::from_utf8_lossy(name),
                value: encoding.to_json(value),
            })
            .collect(),
    };
    serde_json::to_writer(&mut *out, &document).expect("writing to memory");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::record::{BatchBuilder, DecompressionScratch, read_records};
    use model::{Offset, Timestamp};

    fn check(format: &str, encoding: Encoding, expected: &[u8]) {
        let mut batch = BatchBuilder::new().base_offset(Offset(41));
        let headers: [(&str, Option<&[u8]>); 2] = [("h", Some(b"1")), ("n", None)];
        batch.push(Timestamp(1), None, None);
        batch.push_with_headers(Timestamp(1234), Some(b"k"), Some(b"v\xff"), &headers);
        let batch = batch.build().unwrap();
        let mut scratch = DecompressionScratch::new();
        let record = read_records(&batch, &mut scratch).unwrap().nth(1).unwrap();
        let template = template(format).unwrap();
        let mut out = Vec::new();
        template.render(
            "orders",
            PartitionIndex(3),
            &record.unwrap(),
            encoding,
            &mut out,
        );
        assert_eq!(out, expected, "{format}: {}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn formats() {
        check("text", Encoding::Text, b"v\xff\n");
        check(
            "%t[%p]@%o %T %k=%s\\n",
            Encoding::Hex,
            b"orders[3]@42 1234 6b=76ff\n",
        );
        check("%S %K %R %h %%", Encoding::Text, b"2 1 \0\0\0\x02 h=1,n= %");
        check("%v%V", Encoding::Base64, b"dv8=2");
        check("\\x00\\t", Encoding::Text, b"\0\t");
        check("", Encoding::Text, b"");
        check(
            "json",
            Encoding::Text,
            b"{\"topic\":\"orders\",\"partition\":3,\"offset\":42,\"timestamp\":1234,\"key\":\"k\",\"value\":{\"base64\":\"dv8=\"},\
              \"headers\":[{\"key\":\"h\",\"value\":\"1\"},{\"key\":\"n\",\"value\":null}]}\n",
        );
        for bad in ["%", "%q", "a%", "\\q", "%s%"] {
            assert!(template(bad).is_err(), "{bad}");
        }
    }
}
