//! The network model: cuts, half-open connections, resets, refusals.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::sim::{Fault, FaultRule, SimIo, SimStream, Simulation};
use runtime::{Io, Listener, Stream, mailbox};

/// Node 0 listens; the connection from the client, and the node's end of it.
fn connected(simulation: &Simulation) -> (SimStream, SimStream) {
    let address = simulation.address(0, 9092);
    let accepted = Rc::new(RefCell::new(None));
    let (io, slot) = (simulation.io(0, 0), Rc::clone(&accepted));
    simulation.spawn(0, 0, async move {
        let listener = io.listen(address, false).await.unwrap();
        *slot.borrow_mut() = Some(listener.accept().await.unwrap());
        // Keep listening.
        listener.accept().await.unwrap();
    });
    simulation.run_for(Duration::from_millis(1));
    let client = simulation.io(simulation.client(), 0);
    let stream = simulation.block_on(simulation.client(), async {
        client.connect(address).await.unwrap()
    });
    simulation.run_until(|| accepted.borrow().is_some());
    let other = accepted.borrow_mut().take().unwrap();
    (stream, other)
}

type Received = Rc<RefCell<Vec<u8>>>;
type Ended = Rc<Cell<Option<Result<(), ErrorKind>>>>;

/// Reads a stream to its end in a task of its node.
fn drain(simulation: &Simulation, node: usize, stream: SimStream) -> (Received, Ended) {
    let (received, ended) = (Received::default(), Ended::default());
    let (bytes, end) = (Rc::clone(&received), Rc::clone(&ended));
    simulation.spawn(node, 0, async move {
        let mut buffer = BytesMut::with_capacity(4096);
        loop {
            buffer.clear();
            match stream.read(&mut buffer).await {
                Ok(0) => return end.set(Some(Ok(()))),
                Ok(_) => bytes.borrow_mut().extend_from_slice(&buffer),
                Err(error) => return end.set(Some(Err(error.kind()))),
            }
        }
    });
    (received, ended)
}

/// Sends in a task; the slot holds the outcome.
fn send(simulation: &Simulation, node: usize, stream: &SimStream, bytes: Vec<u8>) -> Ended {
    let ended = Ended::default();
    let (end, stream) = (Rc::clone(&ended), stream.clone());
    simulation.spawn(node, 0, async move {
        let mut slices = vec![Bytes::from(bytes)];
        let result = stream.write_all(&mut slices).await;
        end.set(Some(result.map_err(|error| error.kind())));
    });
    ended
}

#[test]
fn what_meets_a_cut_arrives_after_the_heal() {
    for seed in 0..30 {
        let simulation = Simulation::new(seed, 1, 1);
        let client = simulation.client();
        let (near, far) = connected(&simulation);
        let (received, ended) = drain(&simulation, 0, far);
        let bytes: Vec<u8> = (0..30_000_u32).map(|n| n as u8).collect();
        let sent = send(&simulation, client, &near, bytes.clone());
        simulation.run_for(Duration::from_micros(300));
        if seed % 2 == 0 {
            simulation.cut(0, client);
        } else {
            simulation.cut_one_way(client, 0);
        }
        simulation.run_for(Duration::from_secs(5));
        let before = received.borrow().len();
        simulation.run_for(Duration::from_secs(5));
        assert_eq!(received.borrow().len(), before, "nothing passes a cut");
        simulation.heal(0, client);
        simulation.run_until(|| received.borrow().len() == bytes.len());
        assert_eq!(*received.borrow(), bytes);
        assert_eq!(ended.get(), None);
        simulation.run_until(|| sent.get() == Some(Ok(())));
    }
}

#[test]
fn the_other_direction_of_a_one_way_cut_works() {
    let simulation = Simulation::new(3, 1, 1);
    let client = simulation.client();
    let (near, far) = connected(&simulation);
    simulation.cut_one_way(client, 0);
    let (received, _) = drain(&simulation, client, near);
    send(&simulation, 0, &far, vec![1; 100]);
    simulation.run_until(|| received.borrow().len() == 100);
    // Without acknowledgements the window fills.
    let stuck = send(&simulation, 0, &far, vec![1; 1 << 20]);
    simulation.run_for(Duration::from_secs(5));
    assert_eq!(stuck.get(), None);
    simulation.heal(0, client);
    simulation.run_until(|| stuck.get() == Some(Ok(())));
}

#[test]
fn a_killed_process_resets_its_connections_and_refuses_new_ones() {
    let simulation = Simulation::new(4, 1, 1);
    let client = simulation.client();
    let (near, far) = connected(&simulation);
    drain(&simulation, 0, far);
    let (_, ended) = drain(&simulation, client, near.clone());
    simulation.run_for(Duration::from_millis(10));
    simulation.kill(0);
    simulation.run_until(|| ended.get().is_some());
    assert_eq!(ended.get(), Some(Err(ErrorKind::ConnectionReset)));
    let io = simulation.io(client, 0);
    let address = simulation.address(0, 9092);
    let refused = simulation.block_on(client, async { io.connect(address).await.err() });
    assert_eq!(refused.unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_power_cut_leaves_half_open_connections() {
    let simulation = Simulation::new(5, 1, 1);
    let client = simulation.client();
    let (near, far) = connected(&simulation);
    drain(&simulation, 0, far);
    let (_, ended) = drain(&simulation, client, near.clone());
    simulation.power_cut(0);
    simulation.run_for(Duration::from_secs(60));
    assert_eq!(ended.get(), None, "nobody tells the peer");
    let io = simulation.io(client, 0);
    let address = simulation.address(0, 9092);
    let start = simulation.now();
    let timeout = simulation.block_on(client, async { io.connect(address).await.err() });
    assert_eq!(timeout.unwrap().kind(), ErrorKind::TimedOut);
    assert!(simulation.now().since(start) > Duration::from_secs(10));
    let written = send(&simulation, client, &near, vec![1; 1000]);
    simulation.run_until(|| written.get() == Some(Ok(())));
    simulation.run_for(Duration::from_secs(60));
    assert_eq!(ended.get(), None);
    simulation.restart(0);
    simulation.run_until(|| ended.get().is_some());
    assert_eq!(ended.get(), Some(Err(ErrorKind::ConnectionReset)));
}

#[test]
fn resets_strike_by_call_and_by_chance() {
    let simulation = Simulation::new(6, 1, 1);
    let client = simulation.client();
    let (near, far) = connected(&simulation);
    let (_, far_ended) = drain(&simulation, 0, far);
    let (_, near_ended) = drain(&simulation, client, near);
    simulation.run_for(Duration::from_millis(1));
    simulation.reset_connections(0, client);
    simulation.run_until(|| near_ended.get().is_some() && far_ended.get().is_some());
    assert_eq!(near_ended.get(), Some(Err(ErrorKind::ConnectionReset)));
    assert_eq!(far_ended.get(), Some(Err(ErrorKind::ConnectionReset)));

    let simulation = Simulation::new(7, 1, 1);
    let (near, far) = connected(&simulation);
    let rule = FaultRule::new(Fault::ConnectionReset).times(1);
    simulation.faults().add(rule);
    let (_, far_ended) = drain(&simulation, 0, far);
    let sent = send(&simulation, client, &near, vec![1; 10]);
    simulation.run_until(|| sent.get().is_some() && far_ended.get().is_some());
    assert_eq!(sent.get(), Some(Err(ErrorKind::ConnectionReset)));
}

#[test]
fn writing_to_an_end_that_was_shut_down_fails_in_the_end() {
    let simulation = Simulation::new(8, 1, 1);
    let client = simulation.client();
    let (near, far) = connected(&simulation);
    far.shutdown();
    simulation.run_for(Duration::from_millis(10));
    let first = send(&simulation, client, &near, vec![1; 10]);
    simulation.run_for(Duration::from_millis(10));
    assert_eq!(first.get(), Some(Ok(())), "the peer's kernel took it");
    let second = send(&simulation, client, &near, vec![1; 10]);
    simulation.run_until(|| second.get().is_some());
    assert!(matches!(second.get(), Some(Err(_))));
}

#[test]
fn addresses_belong_to_nodes() {
    let simulation = Simulation::new(9, 2, 1);
    let try_listen = |io: SimIo, address: SocketAddr, shared| {
        let node = io.node();
        simulation.block_on(node, async move { io.listen(address, shared).await })
    };
    let (first, second) = (simulation.io(0, 0), simulation.io(1, 0));
    let wildcard = SocketAddr::from(([0, 0, 0, 0], 9092));
    let held = try_listen(first.clone(), wildcard, false).unwrap();
    let again = try_listen(first.clone(), wildcard, true).err();
    assert_eq!(again.unwrap().kind(), ErrorKind::AddrInUse);
    try_listen(second.clone(), wildcard, false).unwrap();
    drop(held);
    try_listen(first, wildcard, false).unwrap();
    let nowhere = SocketAddr::from(([192, 168, 9, 9], 1));
    let error = simulation.block_on(1, async { second.connect(nowhere).await.err() });
    assert_eq!(error.unwrap().kind(), ErrorKind::HostUnreachable);
}

#[test]
fn a_connection_goes_from_shard_to_shard() {
    for seed in 0..20 {
        let simulation = Simulation::new(seed, 1, 2);
        let client = simulation.client();
        let address = simulation.address(0, 9092);
        let (sender, mut inbox) = mailbox(1);
        let [first, second] = [0, 1].map(|shard| simulation.io(0, shard));
        simulation.spawn(0, 0, async move {
            let listener = first.listen(address, false).await.unwrap();
            let stream = listener.accept().await.unwrap();
            let mut buffer = BytesMut::with_capacity(3);
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            let detached = first.detach(stream).unwrap();
            sender.send((detached, buffer.freeze())).await;
        });
        simulation.spawn(0, 1, async move {
            let (detached, first_part) = inbox.next().await;
            let stream = second.attach(detached).unwrap();
            let mut all = BytesMut::from(first_part);
            while all.len() < 1000 {
                all.reserve(100);
                assert!(stream.read(&mut all).await.unwrap() > 0);
            }
            stream.write_all(&mut vec![all.freeze()]).await.unwrap();
        });
        simulation.run_for(Duration::from_millis(1));
        let io = simulation.io(client, 0);
        let bytes: Bytes = (0..1000_u32).map(|n| n as u8).collect();
        let said = bytes.clone();
        let stream = simulation.block_on(client, async move {
            let stream = io.connect(address).await.unwrap();
            stream.write_all(&mut vec![said]).await.unwrap();
            stream
        });
        let (received, ended) = drain(&simulation, client, stream);
        simulation.run_until(|| ended.get().is_some());
        assert_eq!(*received.borrow(), bytes);
        assert_eq!(ended.get(), Some(Ok(())), "it ends with its last holder");
    }
}

#[test]
fn a_connection_on_its_way_dies_with_its_node() {
    for restarts in [false, true] {
        let simulation = Simulation::new(10, 1, 2);
        let client = simulation.client();
        let (near, far) = connected(&simulation);
        let (_, ended) = drain(&simulation, client, near);
        let detached = simulation.io(0, 0).detach(far).unwrap();
        simulation.run_for(Duration::from_secs(1));
        assert_eq!(ended.get(), None, "whoever holds it holds it open");
        simulation.kill(0);
        simulation.run_until(|| ended.get().is_some());
        assert_eq!(ended.get(), Some(Err(ErrorKind::ConnectionReset)));
        if restarts {
            simulation.restart(0);
            let attached = simulation.io(0, 1).attach(detached);
            assert_eq!(attached.err().unwrap().kind(), ErrorKind::NotConnected);
        } else {
            drop(detached);
        }
        simulation.run_for(Duration::from_secs(1));
    }
}
