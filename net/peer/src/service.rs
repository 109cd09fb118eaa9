//! Who serves the connections that others make.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use model::MonotonicTime;
use runtime::Io;

use crate::connection::{End, Receiver};
use crate::handshake::{Hello, Refusal};
use crate::purpose::Purpose;

/// A connection being served.
pub type Serving = Pin<Box<dyn Future<Output = End>>>;

/// Serves connections of one purpose.
pub trait Service<I: Io> {
    /// Reads a connection whose handshake is done until it ends, and says why it did. The network closes it then; one that
    /// broke the rules takes no other with it.
    fn serve(self: Rc<Self>, receiver: Receiver<I>) -> Serving;

    /// Why it does not want a connection now that is welcome otherwise. Nothing comes between this and [`Service::serve`].
    fn objection(&self, _hello: &Hello, _now: MonotonicTime) -> Option<Refusal> {
        None
    }
}

/// Serves probes: it is enough that they are answered.
pub(crate) struct Probes;

impl<I: Io> Service<I> for Probes {
    fn serve(self: Rc<Self>, mut receiver: Receiver<I>) -> Serving {
        Box::pin(async move {
            match receiver.next().await {
                Ok(inbound) => inbound.misplaced(Purpose::Probe),
                Err(end) => end,
            }
        })
    }
}
