//! `ringlog topic alter`.

use clap::Args;
use client::{ClientError, ConfigChange, ConfigOwner};

use super::admin::topic_setting;
use crate::commands::CommandError;
use crate::commands::config::{self, check_known};
use crate::commands::connect::Connect;

/// Arguments of `ringlog topic alter`.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// Its name.
    name: String,
    /// A setting that the topic is to have, KEY=VALUE, such as retention.ms=7d; repeatable.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = topic_setting, required_unless_present = "deleted")]
    configs: Vec<(String, String)>,
    /// A setting that is to be the broker's again; repeatable.
    #[arg(long = "delete-config", value_name = "KEY")]
    deleted: Vec<String>,
    /// Say what would change, and whether the broker accepts it, but change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Changes settings, all that are named or none.
pub fn run(args: AlterArgs) -> Result<(), CommandError> {
    let (dry_run, format) = (args.dry_run, args.connect.format);
    let owner = ConfigOwner::Topic(args.name);
    let set = args.configs.into_iter();
    let set = set.map(|(name, value)| ConfigChange::Set(name, value));
    let deleted = args.deleted.into_iter().map(ConfigChange::Delete);
    let changes: Vec<ConfigChange> = set.chain(deleted).collect();
    let (asked, asked_owner) = (changes.clone(), owner.clone());
    args.connect.server.ask(async move |cluster| {
        check_known(cluster, &asked_owner, &asked).await?;
        cluster.alter_configs(&asked_owner, &asked, dry_run).await?;
        Ok::<(), ClientError>(())
    })?;
    config::print_changes(&owner, &changes, dry_run, format)
}
