//! `ringlog topic produce`: records from standard input.
//!
//! A thread of its own reads, because reading waits; what it has read is written as soon as nothing more is there, so
//! that a line typed at a terminal is written when it is ended, and a file in full batches.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use client::{Cluster, Outgoing, Writer, WriterOptions, Written};
use model::record::Compression;
use model::{Offset, PartitionIndex, Timestamp};
use uring::UringIo;

use super::encoding::{Encoding, unescape};
use super::input::{Form, Splitter};
use crate::commands::CommandError;
use crate::commands::acks::AcksArg;
use crate::commands::connect::Bootstrap;
use crate::commands::load::values::compression;
use crate::commands::position::time;
use crate::commands::topic::key_value;
use crate::interrupt::Interrupt;
use crate::stdio::noteln;

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// Pieces of the input that may wait for the broker.
const PIECES_MAX: usize = 4;
/// How often a signal is looked for while there is no input.
const LOOK: Duration = Duration::from_millis(50);

/// What `--help` says at its end.
const EXAMPLES: &str = "\
Examples:
  echo hello | ringlog topic produce greetings
  ringlog topic produce orders -K : < keys-and-values.txt
  ringlog topic consume orders -e --format json | ringlog topic produce copy --format json

Records that have no partition go where their key belongs, as with Kafka's clients. With --acks all, each is written once.
How many there were is told on standard error.";

/// Arguments of `ringlog topic produce`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ProduceArgs {
    /// Topic to write to.
    topic: String,
    #[command(flatten)]
    server: Bootstrap,
    /// How records stand in the input: text, or a JSON document a line.
    #[arg(short, long, value_enum, default_value = "text")]
    format: InputFormat,
    /// How bytes of keys and values stand in it.
    #[arg(long, value_enum, default_value_t)]
    encoding: Encoding,
    /// What ends a record.
    #[arg(short = 'D', long, value_name = "TEXT", value_parser = delimiter, default_value = "\\n")]
    delimiter: Delimiter,
    /// What stands between key and value. Without it there are no keys.
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = delimiter)]
    key_delimiter: Option<Delimiter>,
    /// An empty key or value is none at all; a value that is none deletes its key in a compacted topic.
    #[arg(short = 'Z', long)]
    null: bool,
    /// Key of every record.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "key_delimiter")]
    key: Option<String>,
    /// A header of every record; repeatable.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,
    /// Partition of every record.
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Timestamp of every record: milliseconds since 1970, a date, or -DURATION ago. [default: now]
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    timestamp: Option<Timestamp>,
    /// Codec: none, gzip, snappy, lz4 or zstd.
    #[arg(short = 'z', long, value_parser = compression, default_value = "none")]
    compression: Compression,
    /// What the broker confirms: all in-sync replicas, the leader, or nothing.
    #[arg(long, value_enum, default_value = "all", allow_negative_numbers = true)]
    acks: AcksArg,
    /// Do not tell how many records there were.
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    Text,
    Json,
}

/// A delimiter of at least a byte.
#[derive(Clone, Debug)]
struct Delimiter(Vec<u8>);

fn delimiter(text: &str) -> Result<Delimiter, String> {
    let bytes = unescape(text)?;
    match bytes.is_empty() {
        true => Err("a delimiter has at least a byte".to_owned()),
        false => Ok(Delimiter(bytes)),
    }
}

impl ProduceArgs {
    fn splitter(&self) -> Result<Splitter, CommandError> {
        let form = match self.format {
            InputFormat::Json if self.key_delimiter.is_some() || self.null => {
                return Err(CommandError::Usage(
                    "--format json has keys and null of its own: leave out --key-delimiter and --null"
                        .to_owned(),
                ));
            }
            InputFormat::Json => Form::Json,
            InputFormat::Text => Form::Delimited {
                delimiter: self.delimiter.0.clone(),
                key_delimiter: self.key_delimiter.as_ref().map(|d| d.0.clone()),
                empty_is_null: self.null,
            },
        };
        let read = |text: &String| {
            let bytes = self.encoding.read(text.as_bytes());
            bytes.map(Bytes::from).map_err(CommandError::Usage)
        };
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| Ok((name.clone(), Some(read(value)?))));
        let fixed = Outgoing {
            partition: self.partition.map(PartitionIndex),
            timestamp: self.timestamp,
            key: self.key.as_ref().map(read).transpose()?,
            value: None,
            headers: headers.collect::<Result<_, CommandError>>()?,
        };
        Ok(Splitter::new(form, self.encoding, fixed))
    }
}

/// Runs the command.
pub fn run(args: &ProduceArgs) -> Result<(), CommandError> {
    let splitter = args.splitter()?;
    let interrupt = Interrupt::watch()?;
    let options = WriterOptions {
        acks: args.acks.into(),
        compression: args.compression,
        ..WriterOptions::default()
    };
    let (topic, quiet) = (args.topic.clone(), args.quiet);
    let stopped = interrupt.clone();
    let produced = args.server.with_cluster(async move |cluster| {
        produce(cluster, &topic, options, splitter, &stopped, quiet).await
    })?;
    produced.and(interrupt.check())
}

async fn produce(
    cluster: Cluster<UringIo>,
    topic: &str,
    options: WriterOptions,
    splitter: Splitter,
    interrupt: &Interrupt,
    quiet: bool,
) -> Result<(), CommandError> {
    let mut writer = Writer::open(cluster, topic, options).await?;
    let (sender, input) = sync_channel(PIECES_MAX);
    // Ends with the process: whoever waits for a terminal cannot be called back.
    std::thread::spawn(move || read_input(splitter, &sender));
    let copied = copy(&input, &mut writer, interrupt).await;
    let flushed = writer.flush().await.map_err(CommandError::from);
    if !quiet {
        tell(&writer);
    }
    copied.and(flushed)
}

/// What the reading thread found: records, and in the end why there are no more.
type Piece = Result<Vec<Outgoing>, CommandError>;

fn read_input(mut splitter: Splitter, sender: &SyncSender<Piece>) {
    let mut input = BufReader::with_capacity(READ_BYTES, std::io::stdin().lock());
    loop {
        let (records, outcome, used) = match input.fill_buf() {
            Ok([]) => break,
            Ok(bytes) => {
                let (records, outcome) = splitter.push(bytes);
                (records, outcome.map_err(CommandError::Failed), bytes.len())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => (
                Vec::new(),
                Err(CommandError::io("standard input", error)),
                0,
            ),
        };
        input.consume(used);
        if sender.send(Ok(records)).is_err() {
            return;
        }
        if let Err(error) = outcome {
            // Nobody listens any more after an error of the broker's.
            return drop(sender.send(Err(error)));
        }
    }
    let last = splitter.finish().map_err(CommandError::Failed);
    drop(sender.send(last.map(|record| record.into_iter().collect())));
}

/// Writes what is read, until its end or a signal.
async fn copy(
    input: &Receiver<Piece>,
    writer: &mut Writer<UringIo>,
    interrupt: &Interrupt,
) -> Result<(), CommandError> {
    while !interrupt.is_set() {
        let piece = match input.try_recv() {
            Ok(piece) => piece,
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {
                writer.flush().await?;
                match input.recv_timeout(LOOK) {
                    Ok(piece) => piece,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
        };
        for record in piece? {
            writer.push(&record).await?;
        }
    }
    Ok(())
}

/// How many records there were, and where they are.
fn tell(writer: &Writer<UringIo>) {
    let written = writer.written();
    let records: u64 = written.values().map(|w| w.records).sum();
    let places: Vec<String> = written.iter().map(place).collect();
    let places = match places.is_empty() {
        true => String::new(),
        false => format!(": {}", places.join(", ")),
    };
    let ending = if records == 1 { "" } else { "s" };
    noteln!(
        "ringlog: {records} record{ending} written to {}{places}",
        writer.topic().name
    );
}

/// `partition 3 offsets 10 to 19`.
fn place((partition, written): (&PartitionIndex, &Written)) -> String {
    match (written.first, written.end) {
        (Offset::NONE, _) | (_, Offset::NONE) => {
            format!("partition {partition}, {} records", written.records)
        }
        (first, end) if end == first.plus(1) => format!("partition {partition} offset {first}"),
        (first, end) => format!("partition {partition} offsets {first} to {}", end.plus(-1)),
    }
}
