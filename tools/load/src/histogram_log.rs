//! The latencies of a load second by second, as an HdrHistogram interval log (version 2), which other programs read.
//!
//! Values are nanoseconds; the column of interval maxima is in milliseconds, as the format's default has it. Each line is
//! tagged with what was measured: `ack` is intended send to answer, `end-to-end` intended send to receipt.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use crate::seconds::Second;

const NANOS_PER_MILLI: f64 = 1e6;

/// Opens a log that began at `start`, lets `body` write seconds into it, and says what went wrong.
pub fn write<W: Write, T>(
    out: &mut W,
    start: SystemTime,
    comments: &[String],
    body: impl FnOnce(&mut dyn FnMut(&Second)) -> T,
) -> io::Result<T> {
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    for comment in comments {
        builder.add_comment(comment);
    }
    let mut log = builder
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NANOS_PER_MILLI)
        .begin_log_with(out, &mut serializer)?;
    let mut failure = None;
    let result = body(&mut |second: &Second| {
        let tally = &second.tally;
        for (name, histogram) in [("ack", &tally.latency), ("end-to-end", &tally.end_to_end)] {
            if second.warming || histogram.is_empty() || failure.is_some() {
                continue;
            }
            let begin = Duration::from_secs(second.number);
            let written = log.write_histogram(histogram, begin, second.length, Tag::new(name));
            failure = written.err();
        }
    });
    match failure {
        None => Ok(result),
        Some(IntervalLogWriterError::IoError(error)) => Err(error),
        Some(other) => Err(io::Error::other(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use crate::tally::Tally;

    #[test]
    fn another_reader_finds_the_seconds_and_their_latencies() {
        let mut out = Vec::new();
        let comments = ["ringlog load produce".to_owned()];
        write(&mut out, SystemTime::UNIX_EPOCH, &comments, |log| {
            for number in 0..3 {
                let mut second = Second::default();
                second.number = number;
                second.length = Duration::from_secs(1);
                second.warming = number == 0;
                let mut tally = Tally::default();
                tally.answered(Duration::from_millis(number + 1));
                tally.received(Duration::from_millis(number + 5));
                second.tally = tally;
                log(&second);
            }
        })
        .unwrap();
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(text.starts_with("#ringlog load produce"), "{text}");
        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(&out) {
            let LogEntry::Interval(interval) = entry.unwrap() else {
                continue;
            };
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            let told = interval.max();
            assert!((told - histogram.max() as f64 / 1e6).abs() < 0.01, "{told}");
            let millis = (histogram.max() as f64 / 1e6).round();
            read.push((
                interval.tag().unwrap().as_str().to_owned(),
                interval.start_timestamp().as_secs(),
                millis as u64,
            ));
        }
        let expected = [
            ("ack", 1, 2),
            ("end-to-end", 1, 6),
            ("ack", 2, 3),
            ("end-to-end", 2, 7),
        ];
        assert_eq!(read, expected.map(|(tag, at, ms)| (tag.to_owned(), at, ms)));
    }
}
