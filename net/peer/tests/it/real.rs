//! Three brokers over real sockets of this machine.
//!
//! Where io_uring is not available the test says so on standard error and passes.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{BrokerId, ShardId};
use peer::{
    BookEntry, Local, PeerEvent, PeerNetwork, ProbeError, Purpose, Remote, Reply, RequestHandler,
    Settings, resolve_literal,
};
use quorum::{DirectoryId, ReplicaKey};
use runtime::{Io, Listener as _, Signal};
use uring::{UringIo, UringOptions};

const BROKERS: i32 = 3;
const MESSAGES: u64 = 2_000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

struct Echo;

impl RequestHandler for Echo {
    fn handle(&self, _from: Remote, request: Bytes, reply: Reply) {
        assert!(reply.answer(request));
    }
}

pub(crate) fn is_available() -> bool {
    let available = uring::available();
    if let Err(error) = &available {
        // Past the harness, which captures what the print macros write.
        let line = format!("SKIPPED: {error}\n");
        io::stderr().write_all(line.as_bytes()).unwrap();
    }
    available.is_ok()
}

fn on_executor<Main: Future<Output = ()> + 'static>(make: impl FnOnce(UringIo) -> Main) {
    if is_available() {
        uring::block_on(None, UringOptions::default(), make).unwrap();
    }
}

fn key(node: i32) -> ReplicaKey {
    ReplicaKey {
        broker: BrokerId(node),
        directory: DirectoryId([node as u8; 16]),
    }
}

fn network(io: &UringIo, node: i32) -> PeerNetwork<UringIo> {
    let local = Local {
        cluster: "real".to_owned(),
        key: key(node),
        shard: ShardId(0),
    };
    let resolve = Rc::new(resolve_literal);
    let made = PeerNetwork::new(
        io.clone(),
        local,
        Settings::default(),
        resolve,
        Signal::new(),
    );
    made.unwrap()
}

pub(crate) async fn within(io: &UringIo, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = io.now().plus(PATIENCE);
    while !holds() {
        assert!(io.now() < deadline, "{what} does not happen");
        io.sleep(Duration::from_millis(2)).await;
    }
}

/// Takes what has come: numbers in order, from each sender.
fn take(network: &PeerNetwork<UringIo>, next: &mut BTreeMap<BrokerId, u64>) -> bool {
    while let Some(received) = network.take_message() {
        let from = received.from.identity;
        assert_eq!(from.key, key(from.node().0));
        let expected = next.entry(from.node()).or_default();
        assert_eq!(received.payload[..8], expected.to_be_bytes());
        *expected += 1;
    }
    next.values().filter(|count| **count == MESSAGES).count() == (BROKERS - 1) as usize
}

async fn exchange(io: &UringIo, networks: &[PeerNetwork<UringIo>]) {
    for number in 0..MESSAGES {
        for (from, network) in (1..).zip(networks) {
            for to in (1..=BROKERS).filter(|to| *to != from) {
                // Now and then one that does not fit into a socket.
                let size = if number % 500 == 7 { 3 << 20 } else { 200 };
                let mut payload = vec![0; size];
                payload[..8].copy_from_slice(&number.to_be_bytes());
                let payload = Bytes::from(payload);
                while network
                    .send(BrokerId(to), Purpose::Raft, payload.clone())
                    .is_err()
                {
                    io.sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }
}

async fn talk(io: UringIo) {
    let networks: Vec<_> = (1..=BROKERS).map(|node| network(&io, node)).collect();
    let mut book = BTreeMap::new();
    for (node, network) in (1..).zip(&networks) {
        network.serve_requests(Echo);
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = io.listen(any, false).await.unwrap();
        let address = listener.local_addr().unwrap();
        network.listen(listener);
        let entry = BookEntry {
            addresses: vec![(address.ip().to_string(), address.port())],
            directory: Some(key(node).directory),
        };
        book.insert(BrokerId(node), entry);
    }
    for network in &networks {
        network.set_book(book.clone()).unwrap();
    }
    let began = io.now();
    let (sending_io, sending) = (io.clone(), networks.clone());
    io.spawn(runtime::TaskClass::Foreground, async move {
        exchange(&sending_io, &sending).await;
    });
    for network in &networks {
        let mut next = BTreeMap::new();
        within(&io, "all messages", || take(network, &mut next)).await;
    }
    let took = io.now().since(began);
    let count = MESSAGES * u64::from((BROKERS * (BROKERS - 1)).unsigned_abs());
    println!("{count} messages in {took:?}");
    let answer = networks[0].call(
        BrokerId(2),
        Purpose::Forward,
        Bytes::from_static(b"x"),
        PATIENCE,
    );
    assert_eq!(answer.await.unwrap(), "x");
    let found = networks[1].probe(BrokerId(3)).await.unwrap();
    assert_eq!(found.key, key(3));
    // The third shuts down; nobody listens where the fourth would be.
    networks[2].close(PATIENCE).await;
    let gone = PeerEvent::Unreachable(BrokerId(3).into(), Purpose::Raft);
    within(&io, "an unreachable broker", || {
        while let Some(event) = networks[0].take_event() {
            if event == gone {
                return true;
            }
        }
        false
    })
    .await;
    let nobody = io
        .listen("127.0.0.1:0".parse().unwrap(), false)
        .await
        .unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let entry = BookEntry {
        addresses: vec![(address.ip().to_string(), address.port())],
        directory: None,
    };
    networks[0]
        .set_book(BTreeMap::from([(BrokerId(4), entry)]))
        .unwrap();
    let found = networks[0].probe(BrokerId(4)).await;
    assert_eq!(found, Err(ProbeError::NoProcess));
    for network in &networks[..2] {
        network.close(PATIENCE).await;
        assert_eq!(network.accepted(), 0);
    }
}

#[test]
fn three_brokers_talk_over_sockets() {
    on_executor(talk);
}
