//! Doing the handshake, on either side.
//!
//! The keeper bounds its time: it ends the connection, and with it the reads here.

use bytes::{Bytes, BytesMut};
use runtime::{Io, Stream};

use crate::admission::House;
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

/// The side that was connected to. Gives what came behind the hello, too: who is sure to be welcome need not wait.
pub(crate) async fn answer<I: Io>(
    context: &Context<I>,
    connection: &Connection<I>,
) -> Result<(Remote, BytesMut), End> {
    let stream = &connection.stream;
    let mut buffer = BytesMut::new();
    let body = read_body(stream, &mut buffer).await?;
    let decided = match Hello::decode(&body) {
        Ok(hello) => admit(context, &hello).map_err(|refusal| (refusal, Some(hello.from.node()))),
        Err(HandshakeError::Versions(_)) => Err((Refusal::Version(VERSIONS), None)),
        Err(_) => Err((Refusal::Malformed, None)),
    };
    let (remote, welcome) = match decided {
        Ok(decided) => decided,
        Err((refusal, node)) => {
            let words = encode_answer(&Err(refusal.clone()));
            stream.write_all(&mut vec![words]).await?;
            return Err(End::Refuses(refusal, node));
        }
    };
    stream.write_all(&mut vec![welcome]).await?;
    connection.greeted(remote, context.io.now());
    context.is_well(remote.identity.node());
    Ok((remote, buffer))
}

fn admit<I: Io>(context: &Context<I>, hello: &Hello) -> Result<(Remote, Bytes), Refusal> {
    let (accepted, greeting) = context.table.accepted();
    let served = context.served();
    let cluster = context.cluster.borrow();
    let house = House {
        cluster: &cluster,
        identity: context.identity(),
        shard: context.local.shard,
        served: &served,
        caller_directory: context.book.directory(hello.from.node()),
        is_closing: context.is_closing.get(),
        is_full: accepted - greeting >= context.settings.accepted_max,
        planted: context.settings.planted,
    };
    let (purpose, welcome) = house.admit(hello)?;
    let remote = Remote {
        identity: hello.from,
        shard: hello.source_shard,
        purpose,
    };
    Ok((remote, encode_answer(&Ok(welcome))))
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
