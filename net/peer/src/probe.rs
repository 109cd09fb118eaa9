//! Asking once whether a broker is there.

use std::rc::Rc;

use runtime::Io;

use crate::connection::{Connection, End, Side};
use crate::context::Context;
use crate::dial::{DialError, dial};
use crate::greeting;
use crate::handshake::Refusal;
use crate::identity::{PeerIdentity, Target};
use crate::outbox::Outbox;
use crate::purpose::Purpose;

/// What a probe found instead of the broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The address book does not have it.
    #[error("its address is not known")]
    Unknown,
    /// Nobody listens at any of its addresses: its process is gone.
    #[error("every address refuses connections")]
    NoProcess,
    /// It says no.
    #[error("it refuses: {0}")]
    Refused(Refusal),
    /// It cannot be reached, or says nothing. It may live all the same.
    #[error("it does not answer")]
    NoAnswer,
}

pub(crate) async fn probe<I: Io>(
    context: &Rc<Context<I>>,
    target: Target,
) -> Result<PeerIdentity, ProbeError> {
    let entry = context.book.get(target.node).ok_or(ProbeError::Unknown)?;
    let stream = match dial(context, &entry).await {
        Ok(stream) => stream,
        Err(DialError::Refused) => return Err(ProbeError::NoProcess),
        Err(DialError::NoAddress(_) | DialError::Failed { .. }) => {
            return Err(ProbeError::NoAnswer);
        }
    };
    let outbox = Outbox::new(&context.settings);
    let connection = Connection::new(stream, Side::Dialled, outbox, context.io.now());
    let place = context.table.add(connection.clone());
    let greeted = greeting::ask(context, &connection, target, Purpose::Probe).await;
    let end = connection.ended(greeted.err().unwrap_or(End::Closing));
    context.table.remove(place);
    match (connection.remote(), end) {
        (Some(remote), _) => Ok(remote.identity),
        (None, End::Refused(refusal)) => Err(ProbeError::Refused(refusal)),
        (None, _) => Err(ProbeError::NoAnswer),
    }
}
