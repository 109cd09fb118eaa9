//! `ringlog`: every command of the project in one binary. Arguments and wiring; no logic.

// The executable is where threads, files and the terminal are used.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// Nothing outside can reach a binary: `pub` says what a file offers to the others.
#![allow(unreachable_pub)]
// They panic when nobody reads any more: everything is written by `stdio.rs`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod allocator;
mod cgroup;
mod commands;
mod configuration;
mod descriptors;
mod fence;
mod http;
mod interrupt;
mod limits;
mod logging;
mod memory;
mod node;
mod notify;
mod ports;
mod profiles;
mod quantity;
mod shard_thread;
mod stdio;
mod variables;
mod version;

use std::process::ExitCode;

use clap::Parser;

use commands::{Command, CommandError, EXIT_CODES};

/// A Kafka-compatible commit log.
#[derive(Debug, Parser)]
#[command(name = "ringlog", version = version::VERSION, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: logging::LogArgs,
}

fn main() -> ExitCode {
    uring::prepare_process();
    let Cli { command, logging } = Cli::parse();
    let outcome = logging::begin(&logging).and_then(|()| command.run());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CommandError::OutputClosed) {
                stdio::noteln!("ringlog: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}
