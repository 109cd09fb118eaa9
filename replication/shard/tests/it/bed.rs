//! One broker on node 0 of a simulation.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use metadata::controller::BrokerRegistrationRequest;
use metadata::{BrokerEndpoint, Uuid};
use model::config::BrokerConfig;
use model::{BrokerId, ShardId};
use runtime::mailbox;
use runtime::sim::{SimIo, Simulation};
use shard::{Shard, ShardOptions, boot};
use storage::StorageOptions;

pub(crate) type Broker = Vec<Rc<Shard<SimIo>>>;

/// The broker, or why a shard of it gave up.
pub(crate) type Outcome = Rc<RefCell<Result<Broker, String>>>;

/// Boots all shards of node 0.
pub(crate) fn start(simulation: &Simulation) -> Broker {
    try_start(simulation, |_| {}).unwrap()
}

/// Boots all shards of node 0, or tells why the first that gave up did.
pub(crate) fn try_start(
    simulation: &Simulation,
    configure: impl Fn(&mut ShardOptions),
) -> Result<Broker, String> {
    let (done, outcome) = begin(simulation, configure);
    simulation.run_until(|| done.get());
    outcome.replace(Ok(Broker::new()))
}

/// Begins to boot all shards of node 0. The first value becomes true when they have started or one gave up.
pub(crate) fn begin(
    simulation: &Simulation,
    configure: impl Fn(&mut ShardOptions),
) -> (Rc<Cell<bool>>, Outcome) {
    let ios = simulation.ios(0);
    let count = ios.len();
    let (senders, inboxes): (Vec<_>, Vec<_>) = ios.iter().map(|_| mailbox(64)).unzip();
    let done = Rc::new(Cell::new(false));
    let outcome = Rc::new(RefCell::new(Ok(Broker::new())));
    for ((index, io), inbox) in ios.into_iter().enumerate().zip(inboxes) {
        let (done, outcome, senders) = (done.clone(), outcome.clone(), senders.clone());
        let mut options = options(ShardId(u16::try_from(index).unwrap()));
        configure(&mut options);
        simulation.spawn(0, index, async move {
            let booted = boot(io, options, inbox, senders, |_| {}).await;
            let mut outcome = outcome.borrow_mut();
            match (booted, &mut *outcome) {
                (Ok(booted), Ok(shards)) => {
                    shards.push(booted.shard);
                    shards.sort_by_key(|shard| shard.id());
                    done.set(shards.len() == count);
                }
                (Ok(_), Err(_)) => {}
                (Err(error), _) => {
                    *outcome = Err(error.to_string());
                    done.set(true);
                }
            }
        });
    }
    (done, outcome)
}

pub(crate) fn options(shard: ShardId) -> ShardOptions {
    let registration = BrokerRegistrationRequest {
        cluster_id: "cluster".into(),
        broker_id: BrokerId(1),
        endpoints: vec![BrokerEndpoint {
            name: "PLAINTEXT".into(),
            host: "localhost".into(),
            port: 9092,
            security_protocol: 0,
        }],
        ..BrokerRegistrationRequest::default()
    };
    ShardOptions {
        shard,
        broker: BrokerId(1),
        cluster_id: Arc::from("cluster"),
        directory_id: Uuid([5; 16]),
        registration: Arc::new(registration),
        voters: Arc::default(),
        founds: true,
        config: Arc::new(BrokerConfig::defaults().unwrap()),
        storage: StorageOptions {
            directory: "/data".into(),
            shard,
            ..StorageOptions::default()
        },
    }
}
