//! The connection of commands that ask a cluster something.

use client::{ClientError, Cluster};
use uring::{UringIo, UringOptions};

use super::CommandError;
use super::table::Format;
use crate::profiles::{bootstrap, bootstrap_default};

/// What the client calls itself.
const CLIENT_ID: &str = "ringlog-cli";

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct Bootstrap {
    /// Broker to ask: HOST:PORT, several with commas, or @PROFILE; also from RINGLOG_BOOTSTRAP.
    #[arg(
        long,
        visible_alias = "bootstrap-server",
        default_value_t = bootstrap_default(),
        value_parser = bootstrap,
        value_name = "HOST:PORT"
    )]
    pub bootstrap: String,
}

/// Whom to ask, and how to print what comes.
#[derive(Debug, clap::Args)]
pub struct Connect {
    #[command(flatten)]
    pub server: Bootstrap,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl Bootstrap {
    /// Connects, and asks.
    pub fn ask<T, Ask>(&self, ask: Ask) -> Result<T, CommandError>
    where
        T: 'static,
        Ask: AsyncFnOnce(&mut Cluster<UringIo>) -> Result<T, ClientError> + 'static,
    {
        let asked = self.with_cluster(async move |mut cluster| ask(&mut cluster).await)?;
        Ok(asked?)
    }

    /// Connects, and gives the connection away.
    pub fn with_cluster<T, Work>(&self, work: Work) -> Result<T, CommandError>
    where
        T: 'static,
        Work: AsyncFnOnce(Cluster<UringIo>) -> T + 'static,
    {
        let bootstrap = self.bootstrap.clone();
        let done = uring::block_on(None, UringOptions::default(), async move |io: UringIo| {
            let options = load::cluster_options(CLIENT_ID);
            let cluster = Cluster::connect(&io, &bootstrap, options).await?;
            Ok::<T, ClientError>(work(cluster).await)
        })?;
        Ok(done?)
    }
}
