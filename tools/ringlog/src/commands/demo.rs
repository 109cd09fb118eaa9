//! `ringlog demo`: a broker on embedded defaults, loaded for some seconds, read back and verified.

use std::time::Instant;

use clap::Parser;

use super::broker::{self, BrokerArgs};
use super::{CommandError, load};
use crate::node::Node;

/// The demo's topic. Each run stamps its records, so it verifies its own among those of earlier runs.
const TOPIC: &str = "ringlog-demo";

/// Arguments of `ringlog demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End after the report instead of leaving the broker running until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// How long to load the broker
    #[arg(long, default_value = "3s", value_name = "TIME")]
    duration: String,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// The load command's arguments, parsed as if they stood on the command line.
#[derive(Debug, Parser)]
struct LoadCommand {
    #[command(flatten)]
    args: load::LoadArgs,
}

/// Runs the demo.
pub fn run(args: DemoArgs) -> Result<(), CommandError> {
    let start = Instant::now();
    let config = args.broker.to_config()?;
    let signals = broker::signals()?;
    let node = Node::start(config)?;
    broker::announce(&node);
    let bootstrap = node.address.to_string();

    println!("\n1. one record, acknowledged when it is on the device");
    load(
        &bootstrap,
        &[
            "--records",
            "1",
            "--batch-records",
            "1",
            "--connections",
            "1",
        ],
    )?;
    println!(
        "   first acknowledgement {} ms after the start",
        start.elapsed().as_millis()
    );

    println!(
        "\n2. batches of 64 x 1 KiB for {}, then everything is read back and verified",
        args.duration
    );
    load(
        &bootstrap,
        &[
            "--duration",
            &args.duration,
            "--batch-records",
            "64",
            "--verify",
        ],
    )?;

    println!(
        "\n3. one record of 200 bytes per request for {}",
        args.duration
    );
    let small = [
        "--batch-records",
        "1",
        "--record-bytes",
        "200",
        "--connections",
        "8",
    ];
    load(
        &bootstrap,
        &[&small[..], &["--duration", &args.duration]].concat(),
    )?;

    if args.exit {
        return Ok(node.stop()?);
    }
    println!(
        "\nThe broker is running on {bootstrap}: point any Kafka client at it. Try
    ringlog topic list --bootstrap {bootstrap}
    ringlog load consume --topic {TOPIC} --bootstrap {bootstrap}
Ctrl-C ends it; the data stays in {}.",
        node.data_dir.display()
    );
    broker::wait_for_signal(&node, signals)?;
    Ok(node.stop()?)
}

fn load(bootstrap: &str, arguments: &[&str]) -> Result<(), CommandError> {
    let fixed = [
        "load",
        "produce",
        "--bootstrap",
        bootstrap,
        "--topic",
        TOPIC,
    ];
    let line = fixed.iter().chain(arguments);
    let command = LoadCommand::try_parse_from(line)
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    load::run(command.args)
}
