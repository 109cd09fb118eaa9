//! What the controller is asked, by this broker or another one, and how that travels between brokers.
//!
//! Pure. A request reaches whichever broker is the controller as JSON within a frame of the peers' protocol: there are a few
//! per second, fields may be added, and what a release does not know of another one is left aside.
//! Bound: a frame of a forwarded request, which is 1 MiB.

use bytes::Bytes;
use metadata::controller::{
    AlterConfigsRequest, AlterConfigsResults, AlterReassignmentsRequest, BrokerRegistrationRequest,
    CandidateReport, ControllerError, CreatePartitionsRequest, CreateTopicsRequest, DeletableTopic,
    DeletedTopic, ElectLeadersRequest, ElectedTopics, Heartbeat, HeartbeatAnswer, IsrChange,
    ProducerIdBlock, ReassignedTopics,
};
use model::{BrokerEpoch, BrokerId, Offset, PartitionEpoch};
use quorum::ReplicaKey;
use serde::{Deserialize, Serialize};

use crate::refusal::MetadataRefusal;
use crate::reports::SizeReport;
use crate::request::{
    CreatedPartitions, CreatedTopics, DescribeQuorum, QuorumDescribed, UnregisterBroker,
};

/// A question to the controller.
pub(crate) trait ControllerCall: Sized {
    /// What it decides.
    type Decided;

    fn into_request(self) -> ControllerRequest;

    /// The answer to this question; another one's is as good as none.
    fn decided(answer: ControllerAnswer) -> Result<Self::Decided, MetadataRefusal>;
}

macro_rules! controller_calls {
    ($($(#[$doc:meta])* $name:ident: $question:ty => $decided:ty;)*) => {
        /// What the controller is asked.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub enum ControllerRequest {
            $($(#[$doc])* $name($question),)*
        }

        /// What it answers.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub enum ControllerAnswer {
            $($(#[$doc])* $name(Result<$decided, MetadataRefusal>),)*
        }

        impl ControllerRequest {
            /// The answer that says no.
            pub(crate) fn refused(&self, why: MetadataRefusal) -> ControllerAnswer {
                match self {
                    $(ControllerRequest::$name(_) => ControllerAnswer::$name(Err(why)),)*
                }
            }
        }

        $(impl ControllerCall for $question {
            type Decided = $decided;

            fn into_request(self) -> ControllerRequest {
                ControllerRequest::$name(self)
            }

            fn decided(answer: ControllerAnswer) -> Result<$decided, MetadataRefusal> {
                match answer {
                    ControllerAnswer::$name(decided) => decided,
                    other => {
                        tracing::warn!(?other, "the controller has answered another question");
                        Err(MetadataRefusal::NotController)
                    }
                }
            }
        })*
    };
}

controller_calls! {
    CreateTopics: CreateTopicsRequest => CreatedTopics;
    DeleteTopics: Vec<DeletableTopic> => Vec<DeletedTopic>;
    CreatePartitions: CreatePartitionsRequest => CreatedPartitions;
    AlterConfigs: AlterConfigsRequest => AlterConfigsResults;
    ElectLeaders: ElectLeadersRequest => ElectedTopics;
    AlterReassignments: AlterReassignmentsRequest => ReassignedTopics;
    UnregisterBroker: UnregisterBroker => Result<(), ControllerError>;
    AllocateProducerIds: ProducerIdsFor => ProducerIdBlock;
    DescribeQuorum: DescribeQuorum => QuorumDescribed;
    /// A process becomes a broker of the cluster.
    Register: BrokerRegistrationRequest => BrokerEpoch;
    /// A broker is alive.
    Heartbeat: Heartbeat => Result<HeartbeatAnswer, ControllerError>;
    /// Leaders propose in-sync sets. Accepted: the version of the partition from then on.
    AlterPartitions: Vec<IsrChange> => Vec<Result<PartitionEpoch, ControllerError>>;
    /// What a suspect has of partitions that nobody leads.
    ReportCandidates: CandidateReport => ();
    /// How large partitions are.
    ReportSizes: SizeReport => ();
}

impl ControllerRequest {
    /// Whether clients ask for it, who are to see what follows. What brokers ask for themselves must not wait for the metadata log:
    /// one that is not registered does not get it.
    pub(crate) fn is_of_clients(&self) -> bool {
        match self {
            ControllerRequest::Register(_)
            | ControllerRequest::Heartbeat(_)
            | ControllerRequest::ReportCandidates(_)
            | ControllerRequest::ReportSizes(_) => false,
            ControllerRequest::CreateTopics(_)
            | ControllerRequest::DeleteTopics(_)
            | ControllerRequest::CreatePartitions(_)
            | ControllerRequest::AlterConfigs(_)
            | ControllerRequest::ElectLeaders(_)
            | ControllerRequest::AlterReassignments(_)
            | ControllerRequest::UnregisterBroker(_)
            | ControllerRequest::AllocateProducerIds(_)
            | ControllerRequest::AlterPartitions(_)
            | ControllerRequest::DescribeQuorum(_) => true,
        }
    }

    /// Whether it may be asked again when nobody knows what became of it: twice is the same as once, or is refused.
    pub(crate) fn may_be_repeated(&self) -> bool {
        match self {
            ControllerRequest::AllocateProducerIds(_)
            | ControllerRequest::DescribeQuorum(_)
            | ControllerRequest::Register(_)
            | ControllerRequest::Heartbeat(_)
            | ControllerRequest::AlterPartitions(_)
            | ControllerRequest::ReportCandidates(_)
            | ControllerRequest::ReportSizes(_) => true,
            ControllerRequest::CreateTopics(_)
            | ControllerRequest::DeleteTopics(_)
            | ControllerRequest::CreatePartitions(_)
            | ControllerRequest::AlterConfigs(_)
            | ControllerRequest::ElectLeaders(_)
            | ControllerRequest::AlterReassignments(_)
            | ControllerRequest::UnregisterBroker(_) => false,
        }
    }
}

/// Asking for a block of producer ids, as a registered broker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ProducerIdsFor {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
}

/// What a broker answers that was asked for a decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ForwardAnswer {
    /// It is the controller, and has decided. Up to this end of the metadata log the decision can be seen.
    Decided(Offset, ControllerAnswer),
    /// It is not. Maybe it knows who is.
    NotController(Option<Controller>),
}

/// Who leads the metadata log, and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    pub key: ReplicaKey,
    /// Host and port; empty if only the number is known.
    pub addresses: Vec<(String, u16)>,
}

/// Bytes that mean nothing here.
#[derive(Debug, thiserror::Error)]
#[error("not a message between brokers: {0}")]
pub struct NotACall(#[from] serde_json::Error);

pub(crate) fn encode<T: Serialize>(message: &T) -> Bytes {
    let text = serde_json::to_vec(message);
    text.expect("plain values have a text").into()
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, NotACall> {
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of a request and of its answer arrives, lists and choices among them.
    #[test]
    fn what_is_encoded_is_decoded() {
        let request = DeletableTopic {
            name: Some("t".to_owned()),
            topic_id: model::TopicId([7; 16]),
        };
        let request = vec![request].into_request();
        let bytes = encode(&request);
        let decoded: ControllerRequest = decode(&bytes).unwrap();
        assert_eq!(format!("{decoded:?}"), format!("{request:?}"));
        for why in [
            MetadataRefusal::NotController,
            MetadataRefusal::Busy("x".to_owned()),
        ] {
            let answer = ForwardAnswer::Decided(Offset(7), request.refused(why));
            let decoded: ForwardAnswer = decode(&encode(&answer)).unwrap();
            assert_eq!(format!("{decoded:?}"), format!("{answer:?}"));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [
            &b""[..],
            b"{",
            b"{\"Unknown\":[]}",
            b"{\"DeleteTopics\":7}",
            &[0xff; 40],
        ] {
            assert!(decode::<ControllerRequest>(bytes).is_err());
        }
        let deep = [b'['; 100_000];
        assert!(decode::<ControllerRequest>(&deep).is_err());
    }
}
