//! Records out of a stream of bytes: delimited values, perhaps with keys, or a JSON document each.
//!
//! Pure. Invariant: what is kept of the stream is one record that has not ended yet, of at most [`RECORD_BYTES_MAX`].

use bytes::Bytes;
use client::Outgoing;
use model::{PartitionIndex, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::encoding::Encoding;

/// Largest record read: far above what brokers accept unless told otherwise.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// How records stand in the stream.
#[derive(Clone, Debug)]
pub enum Form {
    /// Values, or keys and values.
    Delimited {
        /// What ends a record, at least a byte.
        delimiter: Vec<u8>,
        /// What stands between key and value; `None`: there are no keys.
        key_delimiter: Option<Vec<u8>>,
        /// Whether an empty key or value is none at all.
        empty_is_null: bool,
    },
    /// A JSON document a line, such as `ringlog topic consume --format json` prints.
    Json,
}

/// Takes a stream apart.
#[derive(Debug)]
pub struct Splitter {
    form: Form,
    encoding: Encoding,
    /// What every record has that does not say otherwise.
    fixed: Outgoing,
    /// The beginning of a record that has not ended.
    rest: Vec<u8>,
    /// Of `rest`, how much is known to hold no delimiter.
    searched: usize,
    /// Records so far, to say which one is wrong.
    count: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRecord {
    #[serde(default)]
    key: Value,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    headers: Vec<JsonHeader>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    /// What a read record has beside these: accepted, so that it can be written as it was read.
    #[serde(rename = "topic")]
    _topic: Option<String>,
    #[serde(rename = "offset")]
    _offset: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonHeader {
    key: String,
    #[serde(default)]
    value: Value,
}

impl Splitter {
    /// For a stream of this form. What `fixed` says wins over what the stream says.
    pub fn new(form: Form, encoding: Encoding, fixed: Outgoing) -> Splitter {
        Splitter {
            form,
            encoding,
            fixed,
            rest: Vec::new(),
            searched: 0,
            count: 0,
        }
    }

    /// Takes the next bytes of the stream; the records that end in them, and what is wrong with the one behind them.
    pub fn push(&mut self, bytes: &[u8]) -> (Vec<Outgoing>, Result<(), String>) {
        self.rest.extend_from_slice(bytes);
        let delimiter = match &self.form {
            Form::Delimited { delimiter, .. } => delimiter.clone(),
            Form::Json => b"\n".to_vec(),
        };
        let (mut records, mut begin) = (Vec::new(), 0);
        // A delimiter may have begun in the bytes before these.
        let mut from = self.searched.saturating_sub(delimiter.len() - 1);
        let mut outcome = Ok(());
        while let Some(end) = find(&self.rest[from..], &delimiter).map(|at| from + at) {
            let record = self.record(&self.rest[begin..end]);
            self.count += 1;
            match record {
                Ok(record) => records.extend(record),
                Err(reason) => {
                    outcome = Err(format!("record {}: {reason}", self.count));
                    break;
                }
            }
            begin = end + delimiter.len();
            from = begin;
        }
        self.rest.drain(..begin);
        self.searched = self.rest.len();
        if outcome.is_ok() && self.rest.len() > RECORD_BYTES_MAX {
            let number = self.count + 1;
            outcome = Err(format!(
                "record {number} is longer than {RECORD_BYTES_MAX} bytes"
            ));
        }
        (records, outcome)
    }

    /// The record that the end of the stream ends.
    pub fn finish(mut self) -> Result<Option<Outgoing>, String> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return Ok(None);
        }
        let number = self.count + 1;
        self.record(&rest)
            .map_err(|reason| format!("record {number}: {reason}"))
    }

    fn record(&self, bytes: &[u8]) -> Result<Option<Outgoing>, String> {
        let mut record = match &self.form {
            Form::Delimited {
                key_delimiter,
                empty_is_null,
                ..
            } => self.delimited(bytes, key_delimiter.as_deref(), *empty_is_null)?,
            Form::Json if bytes.trim_ascii().is_empty() => return Ok(None),
            Form::Json => self.json(bytes)?,
        };
        let fixed = &self.fixed;
        record.partition = fixed.partition.or(record.partition);
        record.timestamp = fixed.timestamp.or(record.timestamp);
        record.key = fixed.key.clone().or(record.key);
        record.headers.extend(fixed.headers.iter().cloned());
        Ok(Some(record))
    }

    fn delimited(
        &self,
        bytes: &[u8],
        key_delimiter: Option<&[u8]>,
        empty_is_null: bool,
    ) -> Result<Outgoing, String> {
        let (key, value) = match key_delimiter {
            None => (None, bytes),
            Some(delimiter) => match find(bytes, delimiter) {
                // As kcat: what has no delimiter has no key.
                None => (None, bytes),
                Some(at) => (Some(&bytes[..at]), &bytes[at + delimiter.len()..]),
            },
        };
        let read = |bytes: &[u8]| match bytes.is_empty() && empty_is_null {
            true => Ok(None),
            false => self
                .encoding
                .read(bytes)
                .map(|bytes| Some(Bytes::from(bytes))),
        };
        Ok(Outgoing {
            key: key.map_or(Ok(None), read)?,
            value: read(value)?,
            ..Outgoing::default()
        })
    }

    fn json(&self, bytes: &[u8]) -> Result<Outgoing, String> {
        let document: JsonRecord =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let read = |name: &str, value: &Value| match self.encoding.of_json(value) {
            Ok(bytes) => Ok(bytes.map(Bytes::from)),
            Err(reason) => Err(format!("{name}: {reason}")),
        };
        let headers = document.headers.iter();
        let headers = headers.map(|h| Ok((h.key.clone(), read(&h.key, &h.value)?)));
        Ok(Outgoing {
            partition: document.partition.map(PartitionIndex),
            timestamp: document.timestamp.map(Timestamp),
            key: read("key", &document.key)?,
            value: read("value", &document.value)?,
            headers: headers.collect::<Result<_, String>>()?,
        })
    }
}

/// Where `needle`, which is not empty, first stands.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    match needle {
        [byte] => memchr::memchr(*byte, bytes),
        needle => memchr::memmem::find(bytes, needle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(key_delimiter: Option<&[u8]>, empty_is_null: bool, delimiter: &[u8]) -> Form {
        Form::Delimited {
            delimiter: delimiter.to_vec(),
            key_delimiter: key_delimiter.map(<[u8]>::to_vec),
            empty_is_null,
        }
    }

    /// Key and value of each record, `-` for none, however the stream is cut.
    fn check(form: &Form, stream: &[u8], expected: Result<&[(&str, &str)], &str>) {
        for size in 1..=stream.len().max(1) {
            let fixed = Outgoing::default();
            let mut splitter = Splitter::new(form.clone(), Encoding::Text, fixed);
            let (mut found, mut outcome) = (Vec::new(), Ok(()));
            for piece in stream.chunks(size) {
                let (records, pushed) = splitter.push(piece);
                found.extend(records);
                outcome = outcome.and(pushed);
                if outcome.is_err() {
                    break;
                }
            }
            let outcome = outcome
                .and_then(|()| splitter.finish())
                .map(|last| found.extend(last));
            let text = |bytes: &Option<Bytes>| match bytes {
                None => "-".to_owned(),
                Some(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            };
            let found: Vec<(String, String)> = found
                .iter()
                .map(|r| (text(&r.key), text(&r.value)))
                .collect();
            match expected {
                Ok(expected) => {
                    outcome.unwrap();
                    let expected: Vec<(String, String)> = expected
                        .iter()
                        .map(|(k, v)| ((*k).into(), (*v).into()))
                        .collect();
                    assert_eq!(found, expected, "{form:?} in pieces of {size}");
                }
                Err(reason) => {
                    let error = outcome.unwrap_err();
                    assert!(error.contains(reason), "{error}");
                }
            }
        }
    }

    #[test]
    fn values_and_keys() {
        let plain = lines(None, false, b"\n");
        check(&plain, b"", Ok(&[]));
        check(&plain, b"a\nb\n", Ok(&[("-", "a"), ("-", "b")]));
        check(&plain, b"a\nb", Ok(&[("-", "a"), ("-", "b")]));
        check(
            &plain,
            b"a\n\nb\n",
            Ok(&[("-", "a"), ("-", ""), ("-", "b")]),
        );
        check(
            &lines(None, true, b"\n"),
            b"\na\n",
            Ok(&[("-", "-"), ("-", "a")]),
        );
        let keyed = lines(Some(b":"), false, b"\n");
        check(
            &keyed,
            b"k:v:w\n:v\nv\n",
            Ok(&[("k", "v:w"), ("", "v"), ("-", "v")]),
        );
        check(
            &lines(Some(b"::"), true, b"||"),
            b"k::v|||l::||",
            Ok(&[("k", "v"), ("|l", "-")]),
        );
    }

    #[test]
    fn delimiters_of_several_bytes_may_be_cut() {
        check(
            &lines(None, false, b"--\n"),
            b"a--\n-b--\nc-",
            Ok(&[("-", "a"), ("-", "-b"), ("-", "c-")]),
        );
    }

    #[test]
    fn json_documents() {
        check(
            &Form::Json,
            b"{\"key\":\"k\",\"value\":\"v\"}\n\n{\"value\":null,\"offset\":7,\"topic\":\"t\"}",
            Ok(&[("k", "v"), ("-", "-")]),
        );
        check(
            &Form::Json,
            b"{\"value\":\"a\"}\n{\"value\":",
            Err("record 2: EOF"),
        );
        check(
            &Form::Json,
            b"{\"valu\":\"a\"}\n",
            Err("record 1: unknown field"),
        );
        check(
            &Form::Json,
            b"{\"value\":7}\n",
            Err("record 1: value: expected a text"),
        );
        check(
            &Form::Json,
            b"{\"headers\":[{\"key\":\"h\",\"value\":{}}]}\n",
            Err("record 1: h: expected"),
        );
    }

    #[test]
    fn what_is_given_for_all_wins() {
        let fixed = Outgoing {
            partition: Some(PartitionIndex(3)),
            key: Some(Bytes::from_static(b"K")),
            headers: vec![("all".to_owned(), None)],
            ..Outgoing::default()
        };
        let mut splitter = Splitter::new(Form::Json, Encoding::Hex, fixed);
        let document = b"{\"key\":\"00\",\"value\":\"ff\",\"partition\":1,\"timestamp\":9,\"headers\":[{\"key\":\"h\"}]}\n";
        let (records, outcome) = splitter.push(document);
        outcome.unwrap();
        assert_eq!(
            records,
            [Outgoing {
                partition: Some(PartitionIndex(3)),
                timestamp: Some(Timestamp(9)),
                key: Some(Bytes::from_static(b"K")),
                value: Some(Bytes::from_static(b"\xff")),
                headers: vec![("h".to_owned(), None), ("all".to_owned(), None)],
            }]
        );
    }
}
