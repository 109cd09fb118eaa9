//! Doing the handshake, on either side.
//!
//! The keeper bounds its time: it ends the connection, and with it the reads here.

use bytes::{Bytes, BytesMut};
use model::BrokerId;
use runtime::{Io, Stream};

use crate::admission::{Admission, House};
use crate::connection::{Connection, End, Remote};
use crate::context::Context;
use crate::handshake::{
    BODY_BYTES_MAX, ENVELOPE_BYTES, Expected, HandshakeError, Hello, Refusal, VERSIONS,
    decode_answer, encode_answer, take_body,
};
use crate::identity::Target;
use crate::purpose::Purpose;
use crate::settings::PlantedFault;

/// The connecting side. Gives what came behind the handshake.
pub(crate) async fn ask<I: Io>(
    context: &Context<I>,
    connection: &Connection<I>,
    target: Target,
    purpose: Purpose,
) -> Result<BytesMut, End> {
    let hello = Hello {
        versions: VERSIONS,
        purpose: purpose.code(),
        source_shard: context.local.shard,
        target_shard: target.shard,
        from: context.identity(),
        to: Expected {
            node: target.node,
            directory: context.book.directory(target.node),
        },
        cluster: context.cluster.borrow().clone(),
    };
    let stream = &connection.stream;
    stream.write_all(&mut vec![hello.encode()]).await?;
    let mut buffer = BytesMut::new();
    let body = read_body(stream, &mut buffer).await?;
    let welcome = decode_answer(&body)?.map_err(End::Refused)?;
    if !context
        .settings
        .is_planted(PlantedFault::DirectoryUnchecked)
    {
        hello.check(&welcome)?;
    }
    let remote = Remote {
        identity: welcome.identity,
        shard: target.shard,
        purpose,
    };
    connection.greeted(remote, context.io.now());
    context.is_well(target.node);
    Ok(buffer)
}

/// What a side that was connected to has heard.
pub(crate) struct Heard {
    pub(crate) hello: Result<Hello, Refusal>,
    /// What came behind it: who is sure to be welcome need not wait.
    pub(crate) rest: BytesMut,
}

/// Waits for the hello on a connection that was accepted.
pub(crate) async fn hear<S: Stream>(stream: &S) -> Result<Heard, End> {
    let mut rest = BytesMut::new();
    let body = read_body(stream, &mut rest).await?;
    let hello = match Hello::decode(&body) {
        Ok(hello) => Ok(hello),
        Err(HandshakeError::Versions(_)) => Err(Refusal::Version(VERSIONS)),
        Err(_) => Err(Refusal::Malformed),
    };
    Ok(Heard { hello, rest })
}

/// Says why not.
pub(crate) async fn refuse<S: Stream>(stream: &S, refusal: Refusal, node: Option<BrokerId>) -> End {
    let words = encode_answer(&Err(refusal.clone()));
    match stream.write_all(&mut vec![words]).await {
        Ok(()) => End::Refuses(refusal, node),
        Err(error) => error.into(),
    }
}

/// Whether a hello is let in here, or goes to another shard, which it does not do twice.
pub(crate) fn decide<I: Io>(
    context: &Context<I>,
    hello: &Hello,
    may_go_on: bool,
) -> Result<Admission, Refusal> {
    let (accepted, greeting) = context.table.accepted();
    let served = context.served();
    let cluster = context.cluster.borrow();
    let service = Purpose::from_code(hello.purpose).and_then(|purpose| context.service(purpose));
    let objection = service.and_then(|service| service.objection(hello, context.io.now()));
    let house = House {
        cluster: &cluster,
        identity: context.identity(),
        shard: context.local.shard,
        hands_over: may_go_on && context.hands_over(),
        served: &served,
        caller_directory: context.book.directory(hello.from.node()),
        is_closing: context.is_closing.get(),
        is_full: accepted - greeting >= context.settings.accepted_max,
        objection,
        planted: context.settings.planted,
    };
    house.admit(hello)
}

async fn read_body<S: Stream>(stream: &S, buffer: &mut BytesMut) -> Result<Bytes, End> {
    loop {
        if let Some(body) = take_body(buffer)? {
            return Ok(body);
        }
        buffer.reserve(ENVELOPE_BYTES + BODY_BYTES_MAX);
        if stream.read(buffer).await? == 0 {
            return Err(HandshakeError::Torn.into());
        }
    }
}
