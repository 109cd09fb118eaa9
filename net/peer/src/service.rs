//! Who serves the connections that others make.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use runtime::Io;

use crate::connection::{End, Inbound, Receiver};
use crate::frame::FrameError;
use crate::purpose::{Kind, Purpose};

/// A connection being served.
pub type Serving = Pin<Box<dyn Future<Output = End>>>;

/// Serves connections of one purpose.
pub trait Service<I: Io> {
    /// Reads a connection whose handshake is done until it ends, and says why it did. The network closes it then; one that
    /// broke the rules takes no other with it.
    fn serve(self: Rc<Self>, receiver: Receiver<I>) -> Serving;
}

/// Serves probes: it is enough that they are answered.
pub(crate) struct Probes;

impl<I: Io> Service<I> for Probes {
    fn serve(self: Rc<Self>, mut receiver: Receiver<I>) -> Serving {
        Box::pin(async move {
            match receiver.next().await {
                Ok(inbound) => misplaced(&inbound, Purpose::Probe),
                Err(end) => end,
            }
        })
    }
}

/// What a service says of a frame that its purpose lets through and that it does not serve.
pub(crate) fn misplaced(inbound: &Inbound, purpose: Purpose) -> End {
    let kind = match inbound {
        Inbound::Message(_) => Kind::Message,
        Inbound::Request(..) => Kind::Request,
        Inbound::Answer(..) => Kind::Answer,
    };
    FrameError::Misplaced { kind, purpose }.into()
}
