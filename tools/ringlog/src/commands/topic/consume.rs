//! `ringlog topic consume`: records to standard output.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use client::{Position, Reader};
use model::PartitionIndex;
use model::record::Record;
use uring::UringIo;

use super::encoding::Encoding;
use super::template::{TEMPLATE_HELP, Template, template};
use crate::commands::CommandError;
use crate::commands::connect::Bootstrap;
use crate::commands::position::position;
use crate::interrupt::Interrupt;
use crate::quantity::count;
use crate::stdio::{self, noteln};

/// How long the broker may wait for records; a signal is looked for as often.
const WAIT: Duration = Duration::from_millis(250);

/// Bytes that are gathered before they are written.
const OUT_BYTES: usize = 64 << 10;

/// Arguments of `ringlog topic consume`.
#[derive(Debug, Args)]
#[command(after_help = TEMPLATE_HELP)]
pub struct ConsumeArgs {
    /// Topic to read.
    topic: String,
    #[command(flatten)]
    server: Bootstrap,
    /// Partitions to read, with commas. [default: all]
    #[arg(short, long = "partition", value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Where to begin in each: start, end, OFFSET, -COUNT before the end, or @TIME (milliseconds since 1970, a date, or
    /// -DURATION ago).
    #[arg(short, long, value_name = "FROM", value_parser = position, allow_hyphen_values = true, default_value = "start")]
    offset: Position,
    /// Where to end, written like --offset; the record there is not read. [default: never]
    #[arg(long, value_name = "TO", value_parser = position, allow_hyphen_values = true)]
    until: Option<Position>,
    /// End when everything is read that was there at the beginning: --until end.
    #[arg(short = 'e', long, conflicts_with = "until")]
    until_end: bool,
    /// End after so many records.
    #[arg(short, long, visible_short_alias = 'n', value_name = "NUMBER", value_parser = count)]
    count: Option<u64>,
    /// How to print: text (the value and the end of a line), json (a document a line), or a format string.
    #[arg(short, long, value_parser = template, default_value = "text")]
    format: Template,
    /// How bytes of keys, values and headers are printed.
    #[arg(long, value_enum, default_value_t)]
    encoding: Encoding,
    /// Do not tell how many records there were.
    #[arg(short, long)]
    quiet: bool,
}

impl ConsumeArgs {
    fn until(&self) -> Option<Position> {
        match self.until_end {
            true => Some(Position::End),
            false => self.until,
        }
    }
}

/// Runs the command.
pub fn run(args: &ConsumeArgs) -> Result<(), CommandError> {
    let interrupt = Interrupt::watch()?;
    let partitions: Vec<PartitionIndex> = args
        .partitions
        .iter()
        .copied()
        .map(PartitionIndex)
        .collect();
    let (topic, from, until) = (args.topic.clone(), args.offset, args.until());
    let printer = Printer {
        out: Vec::new(),
        failure: None,
        template: args.format.clone(),
        encoding: args.encoding,
        topic: topic.clone(),
        left: args.count,
        records: 0,
        bytes: 0,
    };
    let (stopped, quiet) = (interrupt.clone(), args.quiet);
    let consumed = args.server.with_cluster(async move |cluster| {
        let mut reader = Reader::open(cluster, &topic, &partitions, from, until).await?;
        let mut printer = printer;
        let outcome = consume(&mut reader, &mut printer, &stopped, quiet).await;
        if !quiet && !matches!(outcome, Err(CommandError::OutputClosed)) {
            printer.tell(reader.partition_count());
        }
        outcome
    })?;
    consumed?;
    // Without an end, Ctrl-C is the end.
    match args.until().is_some() || args.count.is_some() {
        true => interrupt.check(),
        false => Ok(()),
    }
}

async fn consume(
    reader: &mut Reader<UringIo>,
    printer: &mut Printer,
    interrupt: &Interrupt,
    quiet: bool,
) -> Result<(), CommandError> {
    tell_moved(reader, quiet);
    while !reader.is_done() && printer.left != Some(0) && !interrupt.is_set() {
        let polled = reader
            .poll(WAIT, &mut |partition, record| {
                printer.take(partition, record);
                let ended = printer.left == Some(0) || printer.failure.is_some();
                match ended || interrupt.is_set() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
            .await;
        printer.flush();
        if let Some(failure) = printer.failure.take() {
            return Err(stdio::unwritten(failure));
        }
        polled?;
        tell_moved(reader, quiet);
        if stdio::is_out_closed() {
            return Err(CommandError::OutputClosed);
        }
    }
    Ok(())
}

fn tell_moved(reader: &mut Reader<UringIo>, quiet: bool) {
    for moved in reader.moved().iter().filter(|_| !quiet) {
        noteln!(
            "ringlog: partition {} has no offset {}: going on at {}",
            moved.partition,
            moved.from,
            moved.to
        );
    }
}

/// Prints records.
struct Printer {
    /// What is not written yet: little more than [`OUT_BYTES`] and a record.
    out: Vec<u8>,
    /// Why it could not be written.
    failure: Option<io::Error>,
    template: Template,
    encoding: Encoding,
    topic: String,
    /// Records that may still be printed.
    left: Option<u64>,
    records: u64,
    bytes: u64,
}

impl Printer {
    fn take(&mut self, partition: PartitionIndex, record: &Record<'_>) {
        let Printer {
            template,
            encoding,
            topic,
            out,
            ..
        } = self;
        template.render(topic, partition, record, *encoding, out);
        let len = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| bytes.len() as u64);
        self.records += 1;
        self.bytes += len(record.key) + len(record.value);
        self.left = self
            .left
            .map(|left| left.checked_sub(1).expect("none is taken behind the last"));
        if self.out.len() >= OUT_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() && self.failure.is_none() {
            let mut out = io::stdout().lock();
            self.failure = out.write_all(&self.out).and_then(|()| out.flush()).err();
            self.out.clear();
        }
    }

    fn tell(&self, partitions: usize) {
        let ending = |count: u64| if count == 1 { "" } else { "s" };
        let partitions = partitions as u64;
        noteln!(
            "ringlog: {} record{} read from {partitions} partition{} of {}, {} bytes of keys and values",
            self.records,
            ending(self.records),
            ending(partitions),
            self.topic,
            self.bytes
        );
    }
}
