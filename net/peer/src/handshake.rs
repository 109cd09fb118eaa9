//! What two brokers say to each other before anything else: who they are, whom they mean, and what for.
//!
//! Pure. The side that connects sends a [`Hello`], the other answers with a [`Welcome`] or a [`Refusal`], and a refusal says
//! why to the other side, too. All three travel in one envelope that never changes between versions:
//! `magic "RLPB" | length u16 | checksum u32 | body`, big-endian; the checksum (CRC-32C) covers the body.
//!
//! | hello      | bytes                                                                                   |
//! |------------|-----------------------------------------------------------------------------------------|
//! | versions   | `least u8, greatest u8`: what the sender speaks; these two never move                   |
//! | purpose    | `u8`                                                                                    |
//! | shards     | `source u16, target u16`                                                                |
//! | sender     | `node i32, directory 16 bytes, epoch i64`                                               |
//! | expected   | `node i32, has_directory u8, directory 16 bytes` (zeros if it has none)                 |
//! | cluster    | `length u8, UTF-8`                                                                      |
//!
//! An answer begins with a status: 1, then `version u8` and the answering side as the sender above; or 2, then a reason
//! `u8` and what belongs to it ([`Refusal`]).
//!
//! Invariant: what is decoded was checked field by field, and nothing is allocated for it but a cluster's name.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::primitives::{PrimitiveError, Reader};
use model::{BrokerEpoch, BrokerId, ShardId};
use quorum::{DirectoryId, ReplicaKey};

use crate::identity::PeerIdentity;

/// The first bytes of every connection between brokers, in both directions.
pub const MAGIC: [u8; 4] = *b"RLPB";
/// The versions of the protocol that this broker speaks.
pub const VERSIONS: Versions = Versions {
    least: 1,
    greatest: 1,
};
/// Longest name of a cluster.
pub const CLUSTER_BYTES_MAX: usize = 255;
/// Longest body: a hello with the longest name, and room for later versions.
pub const BODY_BYTES_MAX: usize = 512;
/// Bytes before the body.
pub const ENVELOPE_BYTES: usize = 10;

const WELCOME: u8 = 1;
const REFUSED: u8 = 2;

/// A range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub least: u8,
    /// The newest.
    pub greatest: u8,
}

impl Versions {
    /// The newest that both know.
    pub fn common(self, other: Versions) -> Option<u8> {
        let newest = self.greatest.min(other.greatest);
        (newest >= self.least && newest >= other.least).then_some(newest)
    }
}

/// Whom the connecting side means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The broker.
    pub node: BrokerId,
    /// Its directory, if it is known which.
    pub directory: Option<DirectoryId>,
}

/// The connecting side's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it speaks.
    pub versions: Versions,
    /// What the connection is for: a number, because the other side may know purposes that this one does not.
    pub purpose: u8,
    /// The shard that connects.
    pub source_shard: ShardId,
    /// The shard that is wanted.
    pub target_shard: ShardId,
    /// Who connects.
    pub from: PeerIdentity,
    /// Who is wanted.
    pub to: Expected,
    /// The cluster of the connecting side.
    pub cluster: String,
}

/// The other side agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// What both speak from here on.
    pub version: u8,
    /// Who it is.
    pub identity: PeerIdentity,
}

/// Why a connection is refused. It travels to the other side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it belongs to the cluster {0:?}")]
    Cluster(String),
    #[error("it is broker {0}")]
    Node(BrokerId),
    #[error("its directory is {0:?}")]
    Directory(DirectoryId),
    #[error("it knows the caller with the directory {0:?}")]
    CallerDirectory(DirectoryId),
    #[error("it speaks versions {} to {}", .0.least, .0.greatest)]
    Version(Versions),
    #[error("it serves no connections of purpose {0}")]
    Purpose(u8),
    #[error("shard {0} cannot be reached there")]
    Shard(ShardId),
    #[error("it is the caller itself")]
    Oneself,
    #[error("it has the caller's number and another directory, {0:?}")]
    DuplicateNode(DirectoryId),
    #[error("it is shutting down")]
    ShuttingDown,
    #[error("it has too many connections")]
    TooManyConnections,
    #[error("it does not understand the handshake")]
    Malformed,
    #[error("its own connection to the caller is on the way")]
    Crossed,
    /// A reason of a later version.
    #[error("a reason that is not known here ({0})")]
    Unknown(u8),
}

/// Why bytes are no handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("no broker of Ringlog speaks there")]
    Magic,
    #[error("a handshake of {0} bytes is too long")]
    TooLong(u16),
    #[error("the checksum of a handshake differs")]
    Checksum,
    #[error("a field: {0}")]
    Field(#[from] PrimitiveError),
    #[error("a field has a value that means nothing")]
    Value,
    #[error("bytes behind the handshake")]
    Trailing,
    /// What is behind the versions cannot be read.
    #[error("versions {} to {} are not spoken here", .0.least, .0.greatest)]
    Versions(Versions),
    #[error("the connection ends inside the handshake")]
    Torn,
    /// Somebody answered that was not asked.
    #[error("another broker, directory or version answered than was asked")]
    Unexpected,
}

/// Takes a handshake's body off the front of what has come; `None` if it is not whole yet.
pub fn take_body(buffer: &mut BytesMut) -> Result<Option<Bytes>, HandshakeError> {
    let seen = buffer.len().min(MAGIC.len());
    if buffer[..seen] != MAGIC[..seen] {
        return Err(HandshakeError::Magic);
    }
    let Some(envelope) = buffer.first_chunk::<ENVELOPE_BYTES>() else {
        return Ok(None);
    };
    let mut reader = Reader::new(&envelope[MAGIC.len()..]);
    let (length, checksum) = (reader.u16()?, reader.u32()?);
    if usize::from(length) > BODY_BYTES_MAX {
        return Err(HandshakeError::TooLong(length));
    }
    if buffer.len() < ENVELOPE_BYTES + usize::from(length) {
        return Ok(None);
    }
    buffer.advance(ENVELOPE_BYTES);
    let body = buffer.split_to(usize::from(length)).freeze();
    if crc32c::crc32c(&body) != checksum {
        return Err(HandshakeError::Checksum);
    }
    Ok(Some(body))
}

fn envelope(body: &[u8]) -> Bytes {
    assert!(body.len() <= BODY_BYTES_MAX, "a handshake fits its bound");
    let mut bytes = BytesMut::with_capacity(ENVELOPE_BYTES + body.len());
    bytes.put_slice(&MAGIC);
    bytes.put_u16(u16::try_from(body.len()).expect("BODY_BYTES_MAX"));
    bytes.put_u32(crc32c::crc32c(body));
    bytes.put_slice(body);
    bytes.freeze()
}

fn put_identity(out: &mut BytesMut, identity: PeerIdentity) {
    out.put_i32(identity.key.broker.0);
    out.put_slice(&identity.key.directory.0);
    out.put_i64(identity.epoch.0);
}

fn read_identity(reader: &mut Reader<'_>) -> Result<PeerIdentity, HandshakeError> {
    Ok(PeerIdentity {
        key: ReplicaKey {
            broker: BrokerId(reader.i32()?),
            directory: DirectoryId(reader.array()?),
        },
        epoch: BrokerEpoch(reader.i64()?),
    })
}

fn put_cluster(out: &mut BytesMut, cluster: &str) {
    let length = u8::try_from(cluster.len()).expect("CLUSTER_BYTES_MAX");
    out.put_u8(length);
    out.put_slice(cluster.as_bytes());
}

fn read_cluster(reader: &mut Reader<'_>) -> Result<String, HandshakeError> {
    let length = usize::from(reader.u8()?);
    let name = std::str::from_utf8(reader.take(length)?).map_err(|_| HandshakeError::Value)?;
    if name.is_empty() {
        return Err(HandshakeError::Value);
    }
    Ok(name.to_owned())
}

impl Hello {
    /// Its bytes, envelope included.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(BODY_BYTES_MAX);
        body.put_slice(&[self.versions.least, self.versions.greatest, self.purpose]);
        body.put_u16(self.source_shard.0);
        body.put_u16(self.target_shard.0);
        put_identity(&mut body, self.from);
        body.put_i32(self.to.node.0);
        body.put_u8(u8::from(self.to.directory.is_some()));
        body.put_slice(&self.to.directory.unwrap_or_default().0);
        put_cluster(&mut body, &self.cluster);
        envelope(&body)
    }

    /// Reads it from a body.
    pub fn decode(body: &[u8]) -> Result<Hello, HandshakeError> {
        let mut reader = Reader::new(body);
        let versions = Versions {
            least: reader.u8()?,
            greatest: reader.u8()?,
        };
        if VERSIONS.common(versions).is_none() {
            return Err(HandshakeError::Versions(versions));
        }
        let purpose = reader.u8()?;
        let (source_shard, target_shard) = (ShardId(reader.u16()?), ShardId(reader.u16()?));
        let from = read_identity(&mut reader)?;
        let node = BrokerId(reader.i32()?);
        let has_directory = reader.u8()?;
        let directory = DirectoryId(reader.array()?);
        let directory = match (has_directory, directory == DirectoryId::default()) {
            (0, true) => None,
            (1, _) => Some(directory),
            _ => return Err(HandshakeError::Value),
        };
        let cluster = read_cluster(&mut reader)?;
        if !reader.is_empty() {
            return Err(HandshakeError::Trailing);
        }
        Ok(Hello {
            versions,
            purpose,
            source_shard,
            target_shard,
            from,
            to: Expected { node, directory },
            cluster,
        })
    }

    /// Whether whoever answered is who was asked.
    pub fn check(&self, welcome: &Welcome) -> Result<(), HandshakeError> {
        let key = welcome.identity.key;
        let is_expected = self.versions.common(VERSIONS) == Some(welcome.version)
            && key.broker == self.to.node
            && self
                .to
                .directory
                .is_none_or(|wanted| wanted == key.directory);
        if is_expected {
            Ok(())
        } else {
            Err(HandshakeError::Unexpected)
        }
    }
}

impl Refusal {
    /// The number of the reason.
    pub fn code(&self) -> u8 {
        match self {
            Refusal::Cluster(_) => 1,
            Refusal::Node(_) => 2,
            Refusal::Directory(_) => 3,
            Refusal::CallerDirectory(_) => 4,
            Refusal::Version(_) => 5,
            Refusal::Purpose(_) => 6,
            Refusal::Shard(_) => 7,
            Refusal::Oneself => 8,
            Refusal::DuplicateNode(_) => 9,
            Refusal::ShuttingDown => 10,
            Refusal::TooManyConnections => 11,
            Refusal::Malformed => 12,
            Refusal::Crossed => 13,
            Refusal::Unknown(code) => *code,
        }
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u8(self.code());
        match self {
            Refusal::Cluster(name) => put_cluster(out, name),
            Refusal::Node(node) => out.put_i32(node.0),
            Refusal::Directory(directory)
            | Refusal::CallerDirectory(directory)
            | Refusal::DuplicateNode(directory) => out.put_slice(&directory.0),
            Refusal::Version(versions) => out.put_slice(&[versions.least, versions.greatest]),
            Refusal::Purpose(purpose) => out.put_u8(*purpose),
            Refusal::Shard(shard) => out.put_u16(shard.0),
            Refusal::Oneself
            | Refusal::ShuttingDown
            | Refusal::TooManyConnections
            | Refusal::Malformed
            | Refusal::Crossed
            | Refusal::Unknown(_) => {}
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Refusal, HandshakeError> {
        Ok(match reader.u8()? {
            1 => Refusal::Cluster(read_cluster(reader)?),
            2 => Refusal::Node(BrokerId(reader.i32()?)),
            3 => Refusal::Directory(DirectoryId(reader.array()?)),
            4 => Refusal::CallerDirectory(DirectoryId(reader.array()?)),
            5 => Refusal::Version(Versions {
                least: reader.u8()?,
                greatest: reader.u8()?,
            }),
            6 => Refusal::Purpose(reader.u8()?),
            7 => Refusal::Shard(ShardId(reader.u16()?)),
            8 => Refusal::Oneself,
            9 => Refusal::DuplicateNode(DirectoryId(reader.array()?)),
            10 => Refusal::ShuttingDown,
            11 => Refusal::TooManyConnections,
            12 => Refusal::Malformed,
            13 => Refusal::Crossed,
            other => {
                // What belongs to a reason of a later version is that version's business.
                reader.take(reader.remaining())?;
                Refusal::Unknown(other)
            }
        })
    }
}

/// The bytes of an answer to a hello, envelope included.
pub fn encode_answer(answer: &Result<Welcome, Refusal>) -> Bytes {
    let mut body = BytesMut::with_capacity(BODY_BYTES_MAX);
    match answer {
        Ok(welcome) => {
            body.put_slice(&[WELCOME, welcome.version]);
            put_identity(&mut body, welcome.identity);
        }
        Err(refusal) => {
            body.put_u8(REFUSED);
            refusal.put(&mut body);
        }
    }
    envelope(&body)
}

/// Reads an answer from a body.
pub fn decode_answer(body: &[u8]) -> Result<Result<Welcome, Refusal>, HandshakeError> {
    let mut reader = Reader::new(body);
    let answer = match reader.u8()? {
        WELCOME => Ok(Welcome {
            version: reader.u8()?,
            identity: read_identity(&mut reader)?,
        }),
        REFUSED => Err(Refusal::read(&mut reader)?),
        _ => return Err(HandshakeError::Value),
    };
    if !reader.is_empty() {
        return Err(HandshakeError::Trailing);
    }
    Ok(answer)
}
