//! AddRaftVoter and RemoveRaftVoter (keys 80 and 81): who agrees on the metadata log (KIP-853).
//!
//! Votes are given and taken by the controller itself; these say of one broker that it shall have one, or never. What was
//! said is a value of that broker's configuration, so it holds until something else is said.

use std::time::Duration;

use metadata::ConfigResourceType;
use metadata::controller::{AlterConfigsRequest, ConfigChange, ConfigOperation, ConfigResource};
use model::config::{VOTE_ALWAYS, VOTE_KEY, VOTE_NEVER};
use model::{BrokerId, ErrorCode, ShardId};
use protocol::Text;
use protocol::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use protocol::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use runtime::Io;
use shard::request::DescribeQuorum;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes::{self, Refused};

/// How long a change of the voters is waited for where the request does not say.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether the voters are as they shall be.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Answers when the broker has a vote, or the time is over.
pub async fn add<I: Io>(
    context: &Context<'_, I>,
    request: &AddRaftVoterRequest,
) -> Result<(), ConnectionEnd> {
    let change = Change {
        cluster_id: request.cluster_id.as_ref(),
        broker: BrokerId(request.voter_id),
        directory: request.voter_directory_id,
        shall_vote: true,
    };
    let patience = request
        .ack_when_committed
        .then(|| Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)));
    let refused = change.carry_out(context, patience).await.err();
    let code = refused.as_ref().map_or(ErrorCode::None, |one| one.code);
    context.answer(&AddRaftVoterResponse {
        error_code: context.code(code),
        error_message: refused.map(|one| Text::copy_from(&one.message)),
        ..AddRaftVoterResponse::default()
    })
}

/// Answers when the broker has no vote any more, or the time is over.
pub async fn remove<I: Io>(
    context: &Context<'_, I>,
    request: &RemoveRaftVoterRequest,
) -> Result<(), ConnectionEnd> {
    let change = Change {
        cluster_id: request.cluster_id.as_ref(),
        broker: BrokerId(request.voter_id),
        directory: request.voter_directory_id,
        shall_vote: false,
    };
    let refused = change.carry_out(context, Some(PATIENCE)).await.err();
    let code = refused.as_ref().map_or(ErrorCode::None, |one| one.code);
    context.answer(&RemoveRaftVoterResponse {
        error_code: context.code(code),
        error_message: refused.map(|one| Text::copy_from(&one.message)),
        ..RemoveRaftVoterResponse::default()
    })
}

/// What shall be.
struct Change<'a> {
    cluster_id: Option<&'a Text>,
    broker: BrokerId,
    directory: [u8; 16],
    shall_vote: bool,
}

impl Change<'_> {
    /// `patience`: how long to wait until it is so; `None`: not at all.
    async fn carry_out<I: Io>(
        &self,
        context: &Context<'_, I>,
        patience: Option<Duration>,
    ) -> Result<(), Refused> {
        let io = &context.server.io;
        let begun = io.now();
        self.check(context)?;
        if self.is_so(context).await? {
            let (code, message) = match self.shall_vote {
                true => (ErrorCode::DuplicateVoter, "it has a vote already"),
                false => (ErrorCode::VoterNotFound, "it has no vote"),
            };
            return Err(refused(code, message));
        }
        self.say(context).await?;
        let Some(patience) = patience else {
            return Ok(());
        };
        while !self.is_so(context).await? {
            if io.now().since(begun) >= patience {
                let message = "the voters have not agreed on it in time; they may yet";
                return Err(refused(ErrorCode::RequestTimedOut, message));
            }
            io.sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    fn check<I: Io>(&self, context: &Context<'_, I>) -> Result<(), Refused> {
        let image = context.server.shard.image();
        if self
            .cluster_id
            .is_some_and(|id| id.as_str() != image.cluster_id())
        {
            let message = format!("this is cluster {}", image.cluster_id());
            return Err(refused(ErrorCode::InconsistentClusterId, &message));
        }
        let known = image.broker(self.broker);
        let is_there =
            known.is_some_and(|known| known.log_dirs.iter().any(|id| id.0 == self.directory));
        // A vote of a broker that is gone can be taken, and none given to it.
        if self.shall_vote && !is_there {
            let message = "no broker is registered with this number and directory";
            return Err(refused(ErrorCode::InvalidVoterKey, message));
        }
        Ok(())
    }

    async fn is_so<I: Io>(&self, context: &Context<'_, I>) -> Result<bool, Refused> {
        let quorum = context.server.shard.ask(ShardId(0), DescribeQuorum).await;
        let quorum = quorum.map_err(|refusal| error_codes::metadata(&refusal))?;
        let votes = quorum.replicas.iter().any(|replica| {
            let key = replica.key;
            replica.is_voter && key.broker == self.broker && key.directory.0 == self.directory
        });
        Ok(votes == self.shall_vote)
    }

    /// Says of the broker that it shall have a vote, or not.
    async fn say<I: Io>(&self, context: &Context<'_, I>) -> Result<(), Refused> {
        let resource = ConfigResource {
            kind: ConfigResourceType::Broker,
            name: self.broker.to_string(),
        };
        let wish = match self.shall_vote {
            true => VOTE_ALWAYS,
            false => VOTE_NEVER,
        };
        let change = ConfigChange {
            name: VOTE_KEY.to_owned(),
            operation: Some(ConfigOperation::Set),
            value: Some(wish.to_owned()),
        };
        let request = AlterConfigsRequest {
            resources: vec![(resource, vec![change])],
            replaces: false,
            validate_only: false,
        };
        let altered = context.server.shard.ask(ShardId(0), request).await;
        let altered = altered.map_err(|refusal| error_codes::metadata(&refusal))?;
        for (_, result) in altered {
            result.map_err(error_codes::controller)?;
        }
        Ok(())
    }
}

fn refused(code: ErrorCode, message: &str) -> Refused {
    Refused {
        code,
        message: message.to_owned(),
    }
}
