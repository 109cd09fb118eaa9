//! Where other brokers can be reached, and who of them may know the controller.
//!
//! On shard 0. Registered brokers are in the image; before a broker has one it knows those that it was started with, and
//! what they tell it. Bound: one learned address list, and the seeds of the configuration.

use std::cell::{Cell, RefCell};

use metadata::{BrokerRegistration, MetadataImage};
use model::BrokerId;
use quorum::{DirectoryId, ReplicaKey};

use crate::controller_call::Controller;
use crate::outgoing::PeerAddress;

/// The name in a registration under which a broker listens for other brokers. No listener of clients has it.
pub const PEER_LISTENER: &str = "PEER";

/// Brokers beside those of the image.
#[derive(Default)]
pub(crate) struct Contacts {
    /// Who may know the controller: of the configuration.
    seeds: RefCell<Vec<BrokerId>>,
    /// The controller, as another broker has named it.
    learned: RefCell<Option<Controller>>,
    /// Whose turn it is to be asked.
    turn: Cell<usize>,
}

impl Contacts {
    pub(crate) fn set_seeds(&self, seeds: Vec<BrokerId>) {
        *self.seeds.borrow_mut() = seeds;
    }

    /// Whether it is news.
    pub(crate) fn learn(&self, controller: Controller) -> bool {
        let news = Some(controller);
        let mut learned = self.learned.borrow_mut();
        let is_news = *learned != news;
        *learned = news;
        is_news
    }

    /// Somebody who may know the controller: all take turns.
    pub(crate) fn any(&self, image: &MetadataImage, me: BrokerId) -> Option<BrokerId> {
        let seeds = self.seeds.borrow();
        let registered = image.brokers().map(|broker| broker.id);
        let registered = registered.filter(|broker| !seeds.contains(broker));
        let others: Vec<BrokerId> = seeds.iter().copied().chain(registered).collect();
        let others: Vec<BrokerId> = others.into_iter().filter(|broker| *broker != me).collect();
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        others.get(turn.checked_rem(others.len())?).copied()
    }

    /// All addresses that are known, of each broker the newest.
    pub(crate) fn addresses(&self, image: &MetadataImage) -> Vec<PeerAddress> {
        let registered = image.brokers().filter_map(|broker| {
            let key = replica_key(broker)?;
            let addresses = peer_addresses(broker);
            (!addresses.is_empty()).then_some(PeerAddress { key, addresses })
        });
        let mut all: Vec<PeerAddress> = registered.collect();
        if let Some(learned) = &*self.learned.borrow()
            && !learned.addresses.is_empty()
        {
            let is_it = |known: &&mut PeerAddress| known.key.broker == learned.key.broker;
            match all.iter_mut().find(is_it) {
                // It may have moved since this image.
                Some(known) => {
                    let news = learned.addresses.iter();
                    let news: Vec<_> = news
                        .filter(|one| !known.addresses.contains(one))
                        .cloned()
                        .collect();
                    known.addresses.extend(news);
                }
                None => all.push(PeerAddress {
                    key: learned.key,
                    addresses: learned.addresses.clone(),
                }),
            }
        }
        all
    }

    /// Whether an address of this broker is known.
    pub(crate) fn reach(&self, image: &MetadataImage, broker: BrokerId) -> bool {
        let learned = self.learned.borrow();
        let learned = learned
            .as_ref()
            .filter(|learned| !learned.addresses.is_empty());
        image.broker(broker).is_some()
            || self.seeds.borrow().contains(&broker)
            || learned.is_some_and(|learned| learned.key.broker == broker)
    }
}

/// Which replica of the metadata log a registered broker has.
pub(crate) fn replica_key(broker: &BrokerRegistration) -> Option<ReplicaKey> {
    let directory = broker.log_dirs.first()?;
    Some(ReplicaKey {
        broker: broker.id,
        directory: DirectoryId(directory.0),
    })
}

/// Where it listens for other brokers.
pub(crate) fn peer_addresses(broker: &BrokerRegistration) -> Vec<(String, u16)> {
    let endpoints = broker.endpoints.iter();
    let peers = endpoints.filter(|endpoint| endpoint.name == PEER_LISTENER);
    peers
        .map(|endpoint| (endpoint.host.clone(), endpoint.port))
        .collect()
}
