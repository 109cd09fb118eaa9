//! The commands of `ringlog`, one file or folder each, and how they fail.
//!
//! Each has a `clap::Args` struct and `pub fn run(args) -> Result<(), CommandError>`. Adding one is one file and one
//! line in `commands!`.

pub mod acks;
pub mod broker;
pub mod cluster;
pub mod completions;
pub mod config;
pub mod connect;
pub mod demo;
pub mod doctor;
pub mod group;
pub mod load;
pub mod log;
pub mod man;
pub mod metrics_source;
pub mod position;
pub mod sweep;
pub mod table;
pub mod top;
pub mod topic;

use std::io;

use client::ClientError;
use model::ErrorCode;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::interrupt::EXIT_CODE_OF_SIGNALS;

/// What `--help` says about how every command ends.
pub const EXIT_CODES: &str = "\
Exit codes of every command:
    0  it is done, or whoever read its output has seen enough; also when Ctrl-C or SIGTERM ended
       what has no other end: broker, demo behind its report, top, topic consume that follows
    1  it could not be done, or the result is bad: a request failed, verification found a
       violation, a run is not valid, a file is damaged
    2  the command line, a variable or a configuration file makes no sense
  130  Ctrl-C ended it before it was done; what there was by then is printed
  143  the same for SIGTERM";

/// Declares the commands: what `--help` says, the name, and the arguments in its module.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $module:ident::$args:ident;)*) => {
        /// A command and its arguments.
        #[derive(Debug, clap::Subcommand)]
        pub enum Command {$(
            $(#[$doc])*
            $name(Box<$module::$args>),
        )*}

        impl Command {
            /// Runs it to its end.
            pub fn run(self) -> Result<(), CommandError> {
                match self {
                    $(Command::$name(args) => $module::run(*args),)*
                }
            }
        }
    };
}

commands! {
    /// Run a broker.
    Broker = broker::BrokerArgs;
    /// Run a broker, load it, read everything back, and show what it does.
    Demo = demo::DemoArgs;
    /// Check whether a broker runs well on this machine, and say what to change.
    Doctor = doctor::DoctorArgs;
    /// Write and read records; create, list, describe, alter, grow, trim and delete topics.
    Topic = topic::TopicArgs;
    /// List and describe consumer groups.
    Group = group::GroupArgs;
    /// Show how a cluster is.
    Cluster = cluster::ClusterArgs;
    /// List, describe and change the configuration of brokers and topics.
    Config = config::ConfigArgs;
    /// Load a broker and measure it.
    Load = load::LoadArgs;
    /// Compare batch sizes and latency, on one broker or several, and write a report.
    Sweep = sweep::SweepArgs;
    /// Show what a broker does, live.
    Top = top::TopArgs;
    /// Look into log files.
    Log = log::LogArgs;
    /// Print a script that completes commands in a shell.
    Completions = completions::CompletionsArgs;
    /// Write the manual pages.
    Man = man::ManArgs;
}

/// Why a command failed. Its text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No broker, or one that refused.
    #[error("{error}{}", advice(.error))]
    Client {
        /// What happened.
        #[from]
        error: ClientError,
    },
    /// An argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The broker could not start or end.
    #[error(transparent)]
    Node(#[from] crate::node::NodeError),
    /// The executors could not start.
    #[error("cannot start: {0}")]
    Start(#[from] uring::StartError),
    /// Files or the terminal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The command did its work, and the result is bad. Already printed.
    #[error("{0}")]
    Failed(String),
    /// Records are lost, doubled, moved or changed. Already printed.
    #[error("{0}")]
    Violated(String),
    /// A signal ended the command before it was done; what it had by then is printed.
    #[error("ended by {} before it was done", signal_name(*.0))]
    Interrupted(usize),
    /// Whoever reads standard output has seen enough. No failure.
    #[error("nobody reads the output any more")]
    OutputClosed,
}

impl CommandError {
    /// An I/O error with what was tried.
    pub fn io(what: impl Into<String>, source: io::Error) -> CommandError {
        CommandError::Io {
            what: what.into(),
            source,
        }
    }

    /// The status that the process ends with; [`EXIT_CODES`] is the table of them.
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::OutputClosed => 0,
            CommandError::Usage(_) => 2,
            CommandError::Interrupted(signal) => u8::try_from(*signal)
                .ok()
                .and_then(|signal| EXIT_CODE_OF_SIGNALS.checked_add(signal))
                .expect("a signal has a number below 128"),
            CommandError::Client { .. }
            | CommandError::Node(_)
            | CommandError::Start(_)
            | CommandError::Io { .. }
            | CommandError::Failed(_)
            | CommandError::Violated(_) => 1,
        }
    }
}

fn signal_name(signal: usize) -> &'static str {
    match i32::try_from(signal) {
        Ok(SIGINT) => "Ctrl-C",
        Ok(SIGTERM) => "SIGTERM",
        _ => "a signal",
    }
}

/// What to do about an error, as a sentence to append.
fn advice(error: &ClientError) -> &'static str {
    match error {
        ClientError::Connect { .. } => {
            "\nIs a broker running there? Start one with `ringlog broker`, or name another with --bootstrap HOST:PORT."
        }
        ClientError::Closed | ClientError::Lost(_) | ClientError::Timeout(_) => {
            "\nLook into the broker's log; if it speaks TLS on this port, use its plaintext listener."
        }
        ClientError::FrameLength { .. } | ClientError::Malformed { .. } => {
            "\nIs this port a Kafka listener? HTTP and TLS ports answer like this."
        }
        ClientError::Broker { code, .. } => match code {
            ErrorCode::UnknownTopicOrPartition => {
                "\n`ringlog topic list` shows the topics; `ringlog topic create NAME --partitions N` makes one."
            }
            ErrorCode::TopicAlreadyExists => {
                "\nUse it as it is (`ringlog topic describe NAME`), or `ringlog topic delete NAME` first."
            }
            ErrorCode::InvalidReplicationFactor => {
                "\nThere must be as many brokers as replicas: a smaller --replication-factor, or leave it out."
            }
            ErrorCode::InvalidTopicException => {
                "\nNames have 1 to 249 of the characters a-z A-Z 0-9 . _ - and are not . or .."
            }
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
                "\nSmaller batches, or a topic with `--config max.message.bytes=BYTES`."
            }
            _ => "",
        },
        _ => "",
    }
}
