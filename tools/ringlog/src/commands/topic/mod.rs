//! `ringlog topic`: records and topics.

mod admin;
mod alter;
mod consume;
mod describe;
mod encoding;
mod input;
mod produce;
mod template;

use clap::{Args, Subcommand};

use super::CommandError;
pub use admin::{key_value, topic_setting};

/// Arguments of `ringlog topic`.
#[derive(Debug, Args)]
pub struct TopicArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write records: a line of standard input is one.
    Produce(Box<produce::ProduceArgs>),
    /// Read records to standard output.
    Consume(Box<consume::ConsumeArgs>),
    /// Create a topic.
    Create(admin::CreateArgs),
    /// List all topics.
    List(admin::ListArgs),
    /// Show a topic's partitions, who leads and has them, where they begin and end, what they lack, and its own settings.
    Describe(describe::DescribeArgs),
    /// Change a topic's own settings.
    Alter(alter::AlterArgs),
    /// Add partitions to a topic.
    AddPartitions(admin::AddPartitionsArgs),
    /// Delete the oldest records of a topic.
    Trim(admin::TrimArgs),
    /// Delete a topic and all its records.
    Delete(admin::DeleteArgs),
}

/// Runs the command.
pub fn run(args: TopicArgs) -> Result<(), CommandError> {
    match args.action {
        Action::Produce(args) => produce::run(&args),
        Action::Consume(args) => consume::run(&args),
        Action::Create(args) => admin::create(args),
        Action::List(args) => admin::list(&args),
        Action::Describe(args) => describe::describe(&args),
        Action::Alter(args) => alter::run(args),
        Action::AddPartitions(args) => admin::add_partitions(args),
        Action::Trim(args) => admin::trim(args),
        Action::Delete(args) => admin::delete(&args),
    }
}
