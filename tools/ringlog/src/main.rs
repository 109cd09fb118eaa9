//! `ringlog`: every command of the project in one binary. Arguments and wiring; no logic.

// The executable is where threads, files and the terminal are used.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// Nothing outside can reach a binary: `pub` says what a file offers to the others.
#![allow(unreachable_pub)]

mod allocator;
mod commands;
mod descriptors;
mod fence;
mod http;
mod memory;
mod node;
mod shard_thread;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::CommandError;

/// A Kafka-compatible commit log.
#[derive(Debug, Parser)]
#[command(name = "ringlog", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker.
    Broker(commands::broker::BrokerArgs),
    /// Run a broker, load it, read everything back, and show what it does.
    Demo(commands::demo::DemoArgs),
    /// Load a broker and measure it.
    Load(commands::load::LoadArgs),
    /// Show what a broker does, live.
    Top(commands::top::TopArgs),
    /// Compare batch sizes and latency, on one broker or several, and write a report.
    Sweep(Box<commands::sweep::SweepArgs>),
    /// Create, list, describe and delete topics.
    Topic(commands::topic::TopicArgs),
    /// Look into log files.
    Log(commands::log::LogArgs),
}

fn main() -> ExitCode {
    uring::prepare_process();
    let command = Cli::parse().command;
    log_to_stderr();
    let outcome: Result<(), CommandError> = match command {
        Command::Broker(args) => commands::broker::run(args),
        Command::Demo(args) => commands::demo::run(args),
        Command::Load(args) => commands::load::run(args),
        Command::Top(args) => commands::top::run(&args),
        Command::Sweep(args) => commands::sweep::run(*args),
        Command::Topic(args) => commands::topic::run(args),
        Command::Log(args) => commands::log::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringlog: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Log lines go to stderr; `RINGLOG_LOG=debug` (or any filter of the tracing crate) shows more.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("RINGLOG_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,glommio=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
