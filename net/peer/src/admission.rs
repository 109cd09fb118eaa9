//! Whether a broker that says hello is let in, and where.
//!
//! Pure. One function over plain values, so that the order of the checks is a table in the tests.

use model::ShardId;
use quorum::DirectoryId;

use crate::handshake::{Hello, Refusal, VERSIONS, Welcome};
use crate::identity::PeerIdentity;
use crate::purpose::Purpose;
use crate::settings::PlantedFault;

/// What becomes of a hello that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is welcome here.
    Here(Purpose, Welcome),
    /// Another shard of this broker decides.
    Elsewhere,
}

/// What the answering side knows when a hello comes.
#[derive(Clone, Debug)]
pub struct House<'a> {
    /// Its cluster.
    pub cluster: &'a str,
    /// Who it is.
    pub identity: PeerIdentity,
    /// The shard that decides.
    pub shard: ShardId,
    /// Connections for other shards can be handed over to them.
    pub hands_over: bool,
    /// Purposes that somebody serves.
    pub served: &'a [Purpose],
    /// The caller's directory, if the address book has it.
    pub caller_directory: Option<DirectoryId>,
    /// It takes no new connections.
    pub is_closing: bool,
    /// It has as many as it may have.
    pub is_full: bool,
    /// Whoever would serve it does not want it now.
    pub objection: Option<Refusal>,
    /// What is wrong on purpose.
    pub planted: Option<PlantedFault>,
}

impl House<'_> {
    /// Decides. What is wrong for good comes before what may pass, so that an operator reads the reason that matters.
    pub fn admit(&self, hello: &Hello) -> Result<Admission, Refusal> {
        let us = self.identity.key;
        let version = VERSIONS.common(hello.versions);
        let version = version.ok_or(Refusal::Version(VERSIONS))?;
        let is_ours = hello.cluster == self.cluster;
        if !is_ours && self.planted != Some(PlantedFault::ClusterUnchecked) {
            return Err(Refusal::Cluster(self.cluster.to_owned()));
        }
        if hello.from.key == us {
            return Err(Refusal::Oneself);
        }
        if hello.from.node() == us.broker {
            return Err(Refusal::DuplicateNode(us.directory));
        }
        if hello.to.node != us.broker {
            return Err(Refusal::Node(us.broker));
        }
        let is_meant = hello
            .to
            .directory
            .is_none_or(|wanted| wanted == us.directory);
        if !is_meant && self.planted != Some(PlantedFault::DirectoryUnchecked) {
            return Err(Refusal::Directory(us.directory));
        }
        // A broker whose directory is a new one has to be able to say so.
        let is_of_its_data = ![Purpose::Forward, Purpose::Probe]
            .map(Purpose::code)
            .contains(&hello.purpose);
        if let Some(known) = self.caller_directory
            && known != hello.from.key.directory
            && is_of_its_data
            && self.planted != Some(PlantedFault::DirectoryUnchecked)
        {
            return Err(Refusal::CallerDirectory(known));
        }
        let is_elsewhere = hello.target_shard != self.shard;
        let purpose = Purpose::from_code(hello.purpose);
        // What another shard serves is not known here.
        let purpose = purpose.filter(|purpose| is_elsewhere || self.served.contains(purpose));
        let purpose = purpose.ok_or(Refusal::Purpose(hello.purpose))?;
        if is_elsewhere && !self.hands_over {
            return Err(Refusal::Shard(hello.target_shard));
        }
        if self.is_closing {
            return Err(Refusal::ShuttingDown);
        }
        if is_elsewhere {
            return Ok(Admission::Elsewhere);
        }
        if self.is_full {
            return Err(Refusal::TooManyConnections);
        }
        if let Some(objection) = &self.objection {
            return Err(objection.clone());
        }
        let identity = self.identity;
        Ok(Admission::Here(purpose, Welcome { version, identity }))
    }
}
