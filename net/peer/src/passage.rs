//! A connection on its way to the shard that its hello names.
//!
//! It crosses threads and belongs to nobody meanwhile: dropping it ends the connection. It has all that the other shard must
//! know to decide about the connection as if it had accepted it: the hello, which nobody has answered, what was read behind
//! it, and since when the connection is there.

use bytes::BytesMut;
use model::{MonotonicTime, ShardId};
use runtime::Io;

use crate::handshake::Hello;
use crate::identity::PeerIdentity;

/// A connection for another shard of this broker.
pub struct Passage<I: Io> {
    body: Box<Body<I>>,
}

pub(crate) struct Body<I: Io> {
    pub(crate) detached: I::Detached,
    pub(crate) hello: Hello,
    /// What the reads of the hello brought behind it.
    pub(crate) rest: BytesMut,
    /// When it was accepted. The time for its handshake goes on.
    pub(crate) began_at: MonotonicTime,
}

impl<I: Io> Passage<I> {
    pub(crate) fn new(body: Body<I>) -> Passage<I> {
        Passage {
            body: Box::new(body),
        }
    }

    pub(crate) fn into_body(self) -> Body<I> {
        *self.body
    }

    /// The shard that it is for.
    pub fn shard(&self) -> ShardId {
        self.body.hello.target_shard
    }

    /// Who says that it connects. Nothing of it was checked by that shard.
    pub fn from(&self) -> PeerIdentity {
        self.body.hello.from
    }
}

/// Why a connection did not go to another shard, and the connection, so that its other side can be told.
pub enum HandBack<I: Io> {
    /// This broker has no such shard.
    NoShard(Passage<I>),
    /// Too many are on their way there.
    Full(Passage<I>),
}
