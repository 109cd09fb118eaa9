//! What all parts of one network share.
//!
//! One shard. It holds parts, each of which owns its state.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use model::{BrokerEpoch, BrokerId};
use runtime::{Counter, Io, Signal};

use crate::book::{Book, Resolve};
use crate::events::Events;
use crate::identity::{Local, PeerIdentity};
use crate::keeper::Table;
use crate::passage::{HandBack, Passage};
use crate::pauses::Pauses;
use crate::purpose::Purpose;
use crate::service::Service;
use crate::settings::Settings;
use crate::told::Told;

/// What a network has counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections whose handshake succeeded, in either direction.
    pub greeted: Counter,
    /// Connections that this side refused.
    pub refused: Counter,
    /// Connections that were closed unanswered: too many had not shown who they are, or too long ago.
    pub turned_away: Counter,
    /// Connections that ended because the other side broke the protocol.
    pub broken: Counter,
    /// Attempts to connect that failed.
    pub failed: Counter,
    /// Connections that went from this shard to another one.
    pub handed_over: Counter,
    /// Connections that came to this shard from another one.
    pub taken_over: Counter,
}

/// Brings connections to other shards.
pub(crate) type HandOver<I> = Box<dyn Fn(Passage<I>) -> Result<(), HandBack<I>>>;

pub(crate) struct Context<I: Io> {
    pub(crate) io: I,
    pub(crate) local: Local,
    /// The name in handshakes, which may be learned later than the rest.
    pub(crate) cluster: RefCell<String>,
    pub(crate) epoch: Cell<BrokerEpoch>,
    pub(crate) settings: Settings,
    pub(crate) resolve: Resolve,
    pub(crate) book: Book,
    pub(crate) table: Table<I>,
    pub(crate) events: Events,
    pub(crate) pauses: Pauses,
    pub(crate) told: Told,
    pub(crate) counters: Counters,
    /// Attempts to connect that have not ended, abandoned ones too.
    pub(crate) attempts: Cell<usize>,
    pub(crate) is_closing: Cell<bool>,
    hand_over: OnceCell<HandOver<I>>,
    services: RefCell<BTreeMap<Purpose, Rc<dyn Service<I>>>>,
}

impl<I: Io> Context<I> {
    pub(crate) fn new(
        io: I,
        local: Local,
        settings: Settings,
        resolve: Resolve,
        wake: Rc<Signal>,
    ) -> Rc<Context<I>> {
        Rc::new(Context {
            io,
            cluster: RefCell::new(local.cluster.clone()),
            local,
            epoch: Cell::new(BrokerEpoch(-1)),
            settings,
            resolve,
            book: Book::default(),
            table: Table::new(),
            events: Events::new(wake),
            pauses: Pauses::default(),
            told: Told::default(),
            counters: Counters::default(),
            attempts: Cell::new(0),
            is_closing: Cell::new(false),
            hand_over: OnceCell::new(),
            services: RefCell::default(),
        })
    }

    /// This broker, as a handshake shows it.
    pub(crate) fn identity(&self) -> PeerIdentity {
        PeerIdentity {
            key: self.local.key,
            epoch: self.epoch.get(),
        }
    }

    pub(crate) fn serve(&self, purpose: Purpose, service: Rc<dyn Service<I>>) {
        let other = self.services.borrow_mut().insert(purpose, service);
        assert!(other.is_none(), "two services of one purpose");
    }

    pub(crate) fn service(&self, purpose: Purpose) -> Option<Rc<dyn Service<I>>> {
        self.services.borrow().get(&purpose).cloned()
    }

    pub(crate) fn served(&self) -> Vec<Purpose> {
        self.services.borrow().keys().copied().collect()
    }

    pub(crate) fn hand_over_by(&self, way: HandOver<I>) {
        let other = self.hand_over.set(way);
        assert!(other.is_ok(), "two ways to the other shards");
    }

    pub(crate) fn hands_over(&self) -> bool {
        self.hand_over.get().is_some()
    }

    pub(crate) fn hand_over(&self, passage: Passage<I>) -> Result<(), HandBack<I>> {
        let way = self.hand_over.get();
        way.expect("only then is a connection taken apart")(passage)
    }

    /// A handshake with that broker has succeeded.
    pub(crate) fn is_well(&self, node: BrokerId) {
        self.counters.greeted.increment();
        self.told.forget(node);
    }
}
