//! `ringlog cluster`: what there is and what is wrong with it, and brokers that come, go, or have too much.

mod drains;
mod moves;
mod shape;
mod status;

use clap::{Args, Subcommand};

use super::CommandError;
use super::connect::Connect;

/// Arguments of `ringlog cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show brokers, the metadata log and partitions. Fails if a partition has no leader or lacks a replica.
    Status {
        #[command(flatten)]
        connect: Connect,
    },
    /// Show which replicas ought to be elsewhere, and why. Changes nothing.
    Plan {
        #[command(flatten)]
        connect: Connect,
    },
    /// Move replicas until the brokers are even, a few partitions at a time, and show how far it is.
    Rebalance {
        /// Partitions that move at once.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
        at_once: u16,
        /// Show the moves, but make none.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Let a broker give its replicas to others, and wait until it has none. It gets no new ones until `add`.
    Drain {
        /// The broker.
        broker: i32,
        /// Show the moves, but make none.
        #[arg(long)]
        dry_run: bool,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Let a broker that was drained have replicas again. (A new broker is added by starting it with --join.)
    Add {
        /// The broker.
        broker: i32,
        #[command(flatten)]
        connect: Connect,
    },
    /// Make the cluster forget a broker that was drained and stopped.
    Remove {
        /// The broker.
        broker: i32,
        #[command(flatten)]
        connect: Connect,
    },
    /// Let nothing move by itself until `resume`. What is under way goes on.
    Pause {
        #[command(flatten)]
        connect: Connect,
    },
    /// Let replicas move by themselves again.
    Resume {
        #[command(flatten)]
        connect: Connect,
    },
}

/// Runs the command.
pub fn run(args: ClusterArgs) -> Result<(), CommandError> {
    match args.action {
        Action::Status { connect } => status::run(connect),
        Action::Plan { connect } => moves::plan(&connect, None),
        Action::Rebalance {
            dry_run: true,
            connect,
            ..
        } => moves::plan(&connect, None),
        Action::Rebalance {
            at_once, connect, ..
        } => moves::rebalance(&connect, usize::from(at_once)),
        Action::Drain {
            broker,
            dry_run: true,
            connect,
            ..
        } => moves::plan(&connect, Some(broker)),
        Action::Drain {
            broker,
            no_wait,
            connect,
            ..
        } => drains::drain(&connect, broker, !no_wait),
        Action::Add { broker, connect } => drains::add(&connect, broker),
        Action::Remove { broker, connect } => drains::remove(&connect, broker),
        Action::Pause { connect } => drains::pause(&connect, true),
        Action::Resume { connect } => drains::pause(&connect, false),
    }
}
