//! The commands of `ringlog`, one file each, and how they fail.
//!
//! Each has a `clap::Args` struct and `pub fn run(args) -> Result<(), CommandError>`. Adding one is one file and one
//! line in `main.rs`.

pub mod broker;
pub mod demo;
pub mod load;
pub mod log;
pub mod metrics_source;
pub mod sweep;
pub mod table;
pub mod top;
pub mod topic;

use std::io;

use client::ClientError;
use model::ErrorCode;

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
}

impl CommandError {
    /// An I/O error with what was tried.
    pub fn io(what: impl Into<String>, source: io::Error) -> CommandError {
        CommandError::Io {
            what: what.into(),
            source,
        }
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
