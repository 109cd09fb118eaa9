//! The registry of APIs: keys, version ranges, and the enums over all requests and responses.
//!
//! Adding an API is one line in `apis!` and one file in `messages/`.
//! Invariant: what is advertised is what Apache Kafka 4.3.1 advertises for the same API, and it is implemented.

use std::fmt;

use crate::error::{DecodeError, EncodeError};
use crate::messages::*;
use crate::reader::Reader;
use crate::sample::Rng;
use crate::wire::Wire;
use crate::writer::Writer;

/// Versions from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// Lowest.
    pub min: i16,
    /// Highest.
    pub max: i16,
}

impl VersionRange {
    /// Whether `version` is one of them.
    pub const fn contains(self, version: i16) -> bool {
        version >= self.min && version <= self.max
    }

    /// All of them, ascending.
    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }
}

/// One API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Its key.
    pub key: ApiKey,
    /// Kafka's name.
    pub name: &'static str,
    /// What the codec reads and writes; other versions are refused.
    pub versions: VersionRange,
    /// What ApiVersions says, if the broker serves it. May begin below `versions`: Produce is advertised from 0,
    /// because librdkafka looks for old versions to learn which codecs a broker has (KAFKA-18659).
    pub advertised: Option<VersionRange>,
    /// First version with compact lengths and tagged fields (KIP-482); `i16::MAX` if there is none.
    pub flexible_from: i16,
}

impl Api {
    /// Whether messages and the request header of this version are flexible.
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    /// Whether the response header ends with tagged fields. Never for ApiVersions: its reader does not know the
    /// broker's versions yet (KIP-511).
    pub fn is_response_header_flexible(&self, version: i16) -> bool {
        self.is_flexible(version) && self.key != ApiKey::ApiVersions
    }
}

/// A request or a response of one API.
pub trait Message: Wire {
    /// Which one.
    const API: &'static Api;

    /// Reads the body. Bytes behind it are left in the reader.
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        if !Self::API.versions.contains(version) {
            return Err(DecodeError::UnsupportedVersion(version));
        }
        reader.version = version;
        reader.flexible = Self::API.is_flexible(version);
        Self::decode_wire(reader)
    }

    /// Writes the body; what this version cannot express makes `Writer::finish` fail.
    fn encode(&self, writer: &mut Writer, version: i16) {
        if !Self::API.versions.contains(version) {
            return writer.fail(EncodeError::UnsupportedVersion(version));
        }
        writer.version = version;
        writer.flexible = Self::API.is_flexible(version);
        self.encode_wire(writer);
    }
}

macro_rules! apis {
    ($(
        $name:ident = $key:literal, $request:ident, $response:ident, versions $min:literal - $max:literal,
        flexible $flexible:expr $(, advertised $advertised_min:literal - $advertised_max:literal)?;
    )*) => {
        /// An API that the codec knows, by its number on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {$(
            #[doc = concat!("Key ", stringify!($key), ".")]
            $name = $key,
        )*}

        /// Every API, ascending by key.
        pub const APIS: &[Api] = &[$(*<$request as Message>::API,)*];

        impl ApiKey {
            /// The API of a number seen on the wire.
            pub const fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// Its line in the registry.
            pub const fn api(self) -> &'static Api {
                match self {
                    $(ApiKey::$name => <$request as Message>::API,)*
                }
            }
        }

        $(
            impl Message for $request {
                const API: &'static Api = &Api {
                    key: ApiKey::$name,
                    name: stringify!($name),
                    versions: VersionRange { min: $min, max: $max },
                    advertised: advertised!($($advertised_min, $advertised_max)?),
                    flexible_from: $flexible,
                };
            }

            impl Message for $response {
                const API: &'static Api = <$request as Message>::API;
            }

            impl From<$request> for Request {
                fn from(request: $request) -> Request {
                    Request::$name(request)
                }
            }

            impl From<$response> for Response {
                fn from(response: $response) -> Response {
                    Response::$name(response)
                }
            }
        )*

        messages! { "A request of any API." Request $($name $request)* }
        messages! { "A response of any API." Response $($name $response)* }
    };
}

macro_rules! advertised {
    () => {
        None
    };
    ($min:literal, $max:literal) => {
        Some(VersionRange {
            min: $min,
            max: $max,
        })
    };
}

macro_rules! messages {
    ($doc:literal $enum:ident $($name:ident $message:ident)*) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $enum {$(
            #[doc = concat!("[`", stringify!($message), "`]")]
            $name($message),
        )*}

        impl $enum {
            /// Which API it is of.
            pub const fn key(&self) -> ApiKey {
                match self {
                    $($enum::$name(_) => ApiKey::$name,)*
                }
            }

            /// Reads the body of an API. Bytes behind it are left in the reader.
            pub fn decode(key: ApiKey, reader: &mut Reader<'_>, version: i16) -> Result<$enum, DecodeError> {
                Ok(match key {
                    $(ApiKey::$name => $enum::$name(<$message as Message>::decode(reader, version)?),)*
                })
            }

            /// Writes the body; what this version cannot express makes `Writer::finish` fail.
            pub fn encode(&self, writer: &mut Writer, version: i16) {
                match self {
                    $($enum::$name(message) => Message::encode(message, writer, version),)*
                }
            }

            /// A random message that `version` can express; for tests and the fuzzer.
            pub fn sample(key: ApiKey, rng: &mut Rng, version: i16) -> $enum {
                match key {
                    $(ApiKey::$name => $enum::$name(Wire::sample(rng, version)),)*
                }
            }
        }
    };
}

/// `flexible` of an API without flexible versions.
const NEVER: i16 = i16::MAX;

apis! {
    Produce = 0, ProduceRequest, ProduceResponse, versions 3-13, flexible 9, advertised 0-13;
    Fetch = 1, FetchRequest, FetchResponse, versions 4-18, flexible 12, advertised 4-18;
    ListOffsets = 2, ListOffsetsRequest, ListOffsetsResponse, versions 1-11, flexible 6, advertised 1-11;
    Metadata = 3, MetadataRequest, MetadataResponse, versions 0-13, flexible 9, advertised 0-13;
    OffsetCommit = 8, OffsetCommitRequest, OffsetCommitResponse, versions 2-10, flexible 8, advertised 2-10;
    OffsetFetch = 9, OffsetFetchRequest, OffsetFetchResponse, versions 1-10, flexible 6, advertised 1-10;
    FindCoordinator = 10, FindCoordinatorRequest, FindCoordinatorResponse, versions 0-6, flexible 3, advertised 0-6;
    JoinGroup = 11, JoinGroupRequest, JoinGroupResponse, versions 0-9, flexible 6, advertised 0-9;
    Heartbeat = 12, HeartbeatRequest, HeartbeatResponse, versions 0-4, flexible 4, advertised 0-4;
    LeaveGroup = 13, LeaveGroupRequest, LeaveGroupResponse, versions 0-5, flexible 4, advertised 0-5;
    SyncGroup = 14, SyncGroupRequest, SyncGroupResponse, versions 0-5, flexible 4, advertised 0-5;
    DescribeGroups = 15, DescribeGroupsRequest, DescribeGroupsResponse, versions 0-6, flexible 5, advertised 0-6;
    ListGroups = 16, ListGroupsRequest, ListGroupsResponse, versions 0-5, flexible 3, advertised 0-5;
    SaslHandshake = 17, SaslHandshakeRequest, SaslHandshakeResponse, versions 0-1, flexible NEVER;
    ApiVersions = 18, ApiVersionsRequest, ApiVersionsResponse, versions 0-4, flexible 3, advertised 0-4;
    CreateTopics = 19, CreateTopicsRequest, CreateTopicsResponse, versions 2-7, flexible 5, advertised 2-7;
    DeleteTopics = 20, DeleteTopicsRequest, DeleteTopicsResponse, versions 1-6, flexible 4, advertised 1-6;
    DeleteRecords = 21, DeleteRecordsRequest, DeleteRecordsResponse, versions 0-2, flexible 2, advertised 0-2;
    InitProducerId = 22, InitProducerIdRequest, InitProducerIdResponse, versions 0-5, flexible 2, advertised 0-5;
    OffsetForLeaderEpoch = 23, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, versions 2-4,
        flexible 4, advertised 2-4;
    DescribeConfigs = 32, DescribeConfigsRequest, DescribeConfigsResponse, versions 1-4, flexible 4, advertised 1-4;
    AlterConfigs = 33, AlterConfigsRequest, AlterConfigsResponse, versions 0-2, flexible 2, advertised 0-2;
    DescribeLogDirs = 35, DescribeLogDirsRequest, DescribeLogDirsResponse, versions 1-5, flexible 2, advertised 1-5;
    CreatePartitions = 37, CreatePartitionsRequest, CreatePartitionsResponse, versions 0-3,
        flexible 2, advertised 0-3;
    DeleteGroups = 42, DeleteGroupsRequest, DeleteGroupsResponse, versions 0-2, flexible 2, advertised 0-2;
    ElectLeaders = 43, ElectLeadersRequest, ElectLeadersResponse, versions 0-2, flexible 2, advertised 0-2;
    IncrementalAlterConfigs = 44, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, versions 0-1,
        flexible 1, advertised 0-1;
    AlterPartitionReassignments = 45, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
        versions 0-1, flexible 0, advertised 0-1;
    ListPartitionReassignments = 46, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
        versions 0-0, flexible 0, advertised 0-0;
    DescribeQuorum = 55, DescribeQuorumRequest, DescribeQuorumResponse, versions 0-2, flexible 0, advertised 0-2;
    DescribeCluster = 60, DescribeClusterRequest, DescribeClusterResponse, versions 0-2, flexible 0, advertised 0-2;
    UnregisterBroker = 64, UnregisterBrokerRequest, UnregisterBrokerResponse, versions 0-0, flexible 0, advertised 0-0;
    DescribeTopicPartitions = 75, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, versions 0-0,
        flexible 0, advertised 0-0;
    AddRaftVoter = 80, AddRaftVoterRequest, AddRaftVoterResponse, versions 0-1, flexible 0, advertised 0-1;
    RemoveRaftVoter = 81, RemoveRaftVoterRequest, RemoveRaftVoterResponse, versions 0-0, flexible 0, advertised 0-0;
}

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.api().name)
    }
}

/// The key table of an ApiVersions response: what is advertised, ascending by key.
pub fn advertised_api_versions() -> Vec<api_versions::ApiVersion> {
    APIS.iter()
        .filter_map(|api| {
            let range = api.advertised?;
            Some(api_versions::ApiVersion {
                api_key: api.key.code(),
                min_version: range.min,
                max_version: range.max,
            })
        })
        .collect()
}
