//! The network between the nodes: listeners, connections, delays, cuts and resets.
//!
//! A connection is two pipes. A pipe is FIFO: chunks fly with a seeded delay, then wait to be read; the bytes sent and
//! not yet read are bounded by a window. As under TCP, what meets a cut or a dead machine is retransmitted: it waits
//! and goes on when the path heals. Invariant: bytes arrive in order, each once, or the connection is reset.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::task::Waker;

use bytes::Bytes;

use super::clock::Event;
use super::completion::Slot;
use super::detached::Detachments;
use super::paths::Paths;
use super::trace::Step;
use super::world::{Power, World};

/// Connections that wait to be accepted on one listener.
const BACKLOG_MAX: usize = 1024;

/// How long a connect over a dead path waits before it fails, in nanoseconds, and how long before it is tried again for
/// the first time (RFC 6298); every further wait is twice as long.
const CONNECT_TIMEOUT: u64 = 20_000_000_000;
const CONNECT_RETRY_FIRST: u64 = 1_000_000_000;

/// First port given to those who ask for port 0, and to outgoing connections.
const EPHEMERAL_PORT: u16 = 32_768;

/// Bounds of the window of one pipe, in bytes.
const WINDOW_MIN: u64 = 2 * 1024;
const WINDOW_MAX: u64 = 256 * 1024;

pub(crate) type Link = Rc<RefCell<Connection>>;

/// One end of a connection.
pub(crate) struct End {
    pub(crate) node: usize,
    incarnation: u64,
    pub(crate) address: SocketAddr,
    /// This end has called shutdown, or is gone.
    pub(crate) is_shut: bool,
    pub(crate) is_reset: bool,
}

/// What flies in a pipe.
pub(crate) enum Chunk {
    Data(Bytes),
    /// The sender has finished.
    Finish,
    /// The connection is gone.
    Reset,
}

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Pipe {
    flying: VecDeque<(u64, Chunk)>,
    pub(crate) arrived: VecDeque<Bytes>,
    /// Bytes sent and not acknowledged as read.
    pub(crate) outstanding: usize,
    pub(crate) window: usize,
    /// Bytes read whose acknowledgement cannot get through.
    unreturned: usize,
    is_finishing: bool,
    pub(crate) is_finished: bool,
    last_arrival: u64,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    pub(crate) is_writing: bool,
}

/// A connection. `pipes[side]` is written by end `side` and read by the other.
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) ends: [End; 2],
    pub(crate) pipes: [Pipe; 2],
}

impl Connection {
    /// Wakes whoever reads or writes at an end.
    pub(crate) fn wake(&mut self, side: usize) {
        for waker in [
            self.pipes[1 - side].reader.take(),
            self.pipes[side].writer.take(),
        ]
        .into_iter()
        .flatten()
        {
            waker.wake();
        }
    }
}

/// What happens on the network at a time.
pub(crate) enum NetworkEvent {
    /// The first chunk in the pipe of `side` may arrive.
    Arrive { link: Link, side: usize },
    /// A request to connect arrives at its target.
    Connect(ConnectRequest),
    /// The answer to it arrives back.
    Connected {
        slot: Rc<ConnectSlot>,
        result: io::Result<Link>,
    },
}

pub(crate) type ConnectSlot = Slot<io::Result<Link>>;

pub(crate) struct ConnectRequest {
    from: usize,
    incarnation: u64,
    to: usize,
    target: SocketAddr,
    slot: Rc<ConnectSlot>,
    /// World time at which it is given up, and the wait before the next try.
    deadline: u64,
    retry: u64,
}

/// A listening socket.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) backlog: VecDeque<Link>,
    pub(crate) waiter: Option<Waker>,
    shared: bool,
    id: u64,
}

pub(crate) type ListeningRef = Rc<RefCell<Listening>>;

/// The network of one simulation.
pub(crate) struct Network {
    listeners: RefCell<BTreeMap<(usize, u16), Vec<ListeningRef>>>,
    links: RefCell<BTreeMap<u64, Weak<RefCell<Connection>>>>,
    next_id: Cell<u64>,
    next_port: Cell<u16>,
    pub(crate) paths: Paths,
    pub(crate) detachments: Detachments,
}

/// The address of a node.
pub(crate) fn ip(node: usize) -> IpAddr {
    let number = u32::try_from(node + 1).expect("few nodes");
    IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + number))
}

/// The node that an address means when `from` uses it.
fn node_of(world: &World, from: usize, address: IpAddr) -> Option<usize> {
    if address.is_loopback() || address.is_unspecified() {
        return Some(from);
    }
    (0..world.nodes()).find(|node| ip(*node) == address)
}

impl Network {
    pub(crate) fn new() -> Network {
        Network {
            listeners: RefCell::new(BTreeMap::new()),
            links: RefCell::new(BTreeMap::new()),
            next_id: Cell::new(1),
            next_port: Cell::new(EPHEMERAL_PORT),
            paths: Paths::new(),
            detachments: Detachments::default(),
        }
    }

    fn id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    fn port(&self) -> u16 {
        let port = self.next_port.get();
        let next = port.checked_add(1).unwrap_or(EPHEMERAL_PORT);
        self.next_port.set(next);
        port
    }

    /// Live connections.
    fn live(&self) -> Vec<Link> {
        let mut links = self.links.borrow_mut();
        links.retain(|_, link| link.strong_count() > 0);
        links.values().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn listen(
        &self,
        node: usize,
        mut address: SocketAddr,
        shared: bool,
    ) -> io::Result<ListeningRef> {
        let mut listeners = self.listeners.borrow_mut();
        while address.port() == 0 {
            let port = self.port();
            if !listeners.contains_key(&(node, port)) {
                address.set_port(port);
            }
        }
        let group = listeners.entry((node, address.port())).or_default();
        let is_taken = |other: &ListeningRef| !(shared && other.borrow().shared);
        if group.iter().any(is_taken) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listening = Rc::new(RefCell::new(Listening {
            address,
            backlog: VecDeque::new(),
            waiter: None,
            shared,
            id: self.id(),
        }));
        group.push(Rc::clone(&listening));
        Ok(listening)
    }

    /// Ends a listener; returns the connections that nobody accepted.
    fn unlisten(&self, node: usize, listening: &ListeningRef) -> VecDeque<Link> {
        let (id, port) = {
            let listening = listening.borrow();
            (listening.id, listening.address.port())
        };
        let mut listeners = self.listeners.borrow_mut();
        if let Some(group) = listeners.get_mut(&(node, port)) {
            group.retain(|other| other.borrow().id != id);
            if group.is_empty() {
                listeners.remove(&(node, port));
            }
        }
        std::mem::take(&mut listening.borrow_mut().backlog)
    }
}

/// Closes a listener, and what it has not accepted.
pub(crate) fn close_listener(world: &World, node: usize, listening: &ListeningRef) {
    for link in world.network.unlisten(node, listening) {
        abort(world, &link, 1);
    }
}

fn delay(world: &World, from: usize, to: usize) -> u64 {
    let random = &world.random.network;
    world.network.paths.transit(random, from, to)
}

/// Starts to connect; the result arrives in the slot.
pub(crate) fn connect(
    world: &World,
    from: usize,
    incarnation: u64,
    target: SocketAddr,
) -> Rc<ConnectSlot> {
    let slot = Slot::new();
    let event = match node_of(world, from, target.ip()) {
        Some(to) => NetworkEvent::Connect(ConnectRequest {
            from,
            incarnation,
            to,
            target,
            slot: Rc::clone(&slot),
            deadline: world.clock.nanos() + CONNECT_TIMEOUT,
            retry: CONNECT_RETRY_FIRST,
        }),
        None => NetworkEvent::Connected {
            slot: Rc::clone(&slot),
            result: Err(io::ErrorKind::HostUnreachable.into()),
        },
    };
    let to = node_of(world, from, target.ip()).unwrap_or(usize::MAX);
    let nanos = delay(world, from, to);
    world.clock.schedule_in(nanos, Event::Network(event));
    slot
}

pub(crate) fn handle(world: &World, event: NetworkEvent) {
    match event {
        NetworkEvent::Arrive { link, side } => arrive(world, &link, side),
        NetworkEvent::Connect(request) => answer_connect(world, request),
        NetworkEvent::Connected { slot, result } => slot.complete(result),
    }
}

fn answer_connect(world: &World, request: ConnectRequest) {
    let (from, to) = (request.from, request.to);
    let paths = &world.network.paths;
    let is_dark = world.node(to).power.get() == Power::Off
        || paths.is_cut(from, to)
        || paths.is_cut(to, from);
    let now = world.clock.nanos();
    if is_dark && now < request.deadline && world.is_alive(from, request.incarnation) {
        // Whoever answers by then is heard.
        let at = request.deadline.min(now + request.retry);
        let again = ConnectRequest {
            retry: request.retry * 2,
            ..request
        };
        let event = Event::Network(NetworkEvent::Connect(again));
        return world.clock.schedule_at(at, event);
    }
    let (nanos, result) = if is_dark {
        (0, Err(io::ErrorKind::TimedOut.into()))
    } else {
        let result = if world.is_alive(from, request.incarnation) {
            establish(world, from, to, request.target)
        } else {
            Err(io::ErrorKind::NotConnected.into())
        };
        (delay(world, to, from), result)
    };
    let slot = request.slot;
    world.trace(
        Step::Connect,
        "connect",
        [from as u64, to as u64, u64::from(result.is_ok())],
    );
    let event = NetworkEvent::Connected { slot, result };
    world.clock.schedule_in(nanos, Event::Network(event));
}

fn establish(world: &World, from: usize, to: usize, target: SocketAddr) -> io::Result<Link> {
    let network = &world.network;
    let random = &world.random.network;
    let listening = {
        let listeners = network.listeners.borrow();
        let group = listeners.get(&(to, target.port()));
        let group = group.ok_or(io::ErrorKind::ConnectionRefused)?;
        Rc::clone(&group[random.index(group.len())])
    };
    if listening.borrow().backlog.len() >= BACKLOG_MAX {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let end = |node: usize, address| End {
        node,
        incarnation: world.node(node).incarnation.get(),
        address,
        is_shut: false,
        is_reset: false,
    };
    let pipe = || Pipe {
        window: random.between(WINDOW_MIN, WINDOW_MAX) as usize,
        ..Pipe::default()
    };
    let is_local = target.ip().is_loopback() || target.ip().is_unspecified();
    let local_ip = if is_local { target.ip() } else { ip(from) };
    let id = network.id();
    let link = Rc::new(RefCell::new(Connection {
        id,
        ends: [
            end(from, SocketAddr::new(local_ip, network.port())),
            end(to, target),
        ],
        pipes: [pipe(), pipe()],
    }));
    network.links.borrow_mut().insert(id, Rc::downgrade(&link));
    let mut listening = listening.borrow_mut();
    listening.backlog.push_back(Rc::clone(&link));
    if let Some(waiter) = listening.waiter.take() {
        waiter.wake();
    }
    Ok(link)
}

/// Puts a chunk into the pipe of `side`.
pub(crate) fn send(world: &World, link: &Link, side: usize, chunk: Chunk) {
    let mut connection = link.borrow_mut();
    let len = match &chunk {
        Chunk::Data(data) => data.len(),
        Chunk::Finish | Chunk::Reset => 0,
    };
    world.trace(Step::Send, "send", [connection.id, side as u64, len as u64]);
    let nanos = delay(
        world,
        connection.ends[side].node,
        connection.ends[1 - side].node,
    );
    let pipe = &mut connection.pipes[side];
    pipe.outstanding += len;
    pipe.last_arrival = pipe.last_arrival.max(world.clock.nanos() + nanos);
    let at = pipe.last_arrival;
    pipe.flying.push_back((at, chunk));
    let event = NetworkEvent::Arrive {
        link: Rc::clone(link),
        side,
    };
    world.clock.schedule_at(at, Event::Network(event));
}

/// Ends the sending direction of an end, and its reading.
pub(crate) fn shut(world: &World, link: &Link, side: usize) {
    let finishes = {
        let mut connection = link.borrow_mut();
        connection.ends[side].is_shut = true;
        connection.wake(side);
        let is_reset = connection.ends[side].is_reset;
        let pipe = &mut connection.pipes[side];
        !std::mem::replace(&mut pipe.is_finishing, true) && !is_reset
    };
    if finishes {
        send(world, link, side, Chunk::Finish);
    }
}

/// Ends a connection from one side with a reset.
pub(crate) fn abort(world: &World, link: &Link, side: usize) {
    {
        let mut connection = link.borrow_mut();
        if connection.ends[side].is_reset {
            return;
        }
        connection.ends[side].is_reset = true;
        connection.wake(side);
    }
    send(world, link, side, Chunk::Reset);
}

/// Delivers what has had time to arrive in the pipe of `side`, if the path is open.
fn arrive(world: &World, link: &Link, side: usize) {
    let mut answers_with_reset = false;
    {
        let mut connection = link.borrow_mut();
        let connection = &mut *connection;
        let (from, to) = (connection.ends[side].node, connection.ends[1 - side].node);
        if world.network.paths.is_cut(from, to) || world.node(to).power.get() == Power::Off {
            return;
        }
        let is_gone = !world.is_alive(to, connection.ends[1 - side].incarnation);
        let now = world.clock.nanos();
        while let Some((_, chunk)) = connection.pipes[side]
            .flying
            .pop_front_if(|(at, _)| *at <= now)
        {
            let end = &mut connection.ends[1 - side];
            world.trace(Step::Arrive, "arrive", [connection.id, side as u64, 0]);
            match chunk {
                Chunk::Reset => {
                    end.is_reset = true;
                    connection.wake(1 - side);
                }
                _ if end.is_reset => {}
                _ if is_gone => answers_with_reset = true,
                Chunk::Data(_) if end.is_shut => answers_with_reset = true,
                Chunk::Data(data) => connection.pipes[side].arrived.push_back(data),
                Chunk::Finish => connection.pipes[side].is_finished = true,
            }
            if let Some(reader) = connection.pipes[side].reader.take() {
                reader.wake();
            }
        }
    }
    if answers_with_reset {
        abort(world, link, 1 - side);
    }
}

/// Tells the writer that `len` bytes of the pipe of `side` were read.
pub(crate) fn acknowledge(world: &World, connection: &mut Connection, side: usize, len: usize) {
    let (writer, reader) = (connection.ends[side].node, connection.ends[1 - side].node);
    let pipe = &mut connection.pipes[side];
    if world.network.paths.is_cut(reader, writer) {
        pipe.unreturned += len;
        return;
    }
    pipe.outstanding -= len + std::mem::take(&mut pipe.unreturned);
    if let Some(waker) = pipe.writer.take() {
        waker.wake();
    }
}

/// Retransmits over every path that is open (again): after a heal, and after a restart, when what peers still send to
/// the node's earlier life is answered with a reset.
pub(crate) fn resume(world: &World) {
    for link in world.network.live() {
        for side in [0, 1] {
            let (waits, from, to) = {
                let mut connection = link.borrow_mut();
                acknowledge(world, &mut connection, side, 0);
                let [near, far] = [side, 1 - side].map(|side| connection.ends[side].node);
                (!connection.pipes[side].flying.is_empty(), near, far)
            };
            if waits {
                let nanos = delay(world, from, to);
                let event = NetworkEvent::Arrive {
                    link: Rc::clone(&link),
                    side,
                };
                world.clock.schedule_in(nanos, Event::Network(event));
            }
        }
    }
}

/// Stops delivery from one node to another.
pub(crate) fn cut(world: &World, from: usize, to: usize) {
    world.trace(Step::Cut, "cut", [from as u64, to as u64, 0]);
    world.network.paths.cut(from, to);
}

/// Undoes [`cut`].
pub(crate) fn heal(world: &World, from: usize, to: usize) {
    world.trace(Step::Heal, "heal", [from as u64, to as u64, 0]);
    world.network.paths.heal(from, to);
    resume(world);
}

/// Undoes every cut.
pub(crate) fn heal_all(world: &World) {
    world.trace(Step::Heal, "heal all", [0, 0, 0]);
    world.network.paths.heal_all();
    resume(world);
}

/// Resets every connection between two nodes.
pub(crate) fn reset_between(world: &World, a: usize, b: usize) {
    for link in world.network.live() {
        let nodes = link.borrow().ends.each_ref().map(|end| end.node);
        if nodes == [a, b] || nodes == [b, a] {
            abort(world, &link, 0);
            abort(world, &link, 1);
        }
    }
}

/// A node's process ended. With `Power::Killed` its kernel resets the connections, with `Power::Off` the peers hear
/// nothing.
pub(crate) fn node_stopped(world: &World, node: usize, power: Power) {
    let groups: Vec<ListeningRef> = {
        let mut listeners = world.network.listeners.borrow_mut();
        let of_node = listeners.range((node, 0)..=(node, u16::MAX));
        let keys: Vec<(usize, u16)> = of_node.map(|(key, _)| *key).collect();
        keys.iter()
            .filter_map(|key| listeners.remove(key))
            .flatten()
            .collect()
    };
    for listening in groups {
        listening.borrow_mut().backlog.clear();
    }
    for link in world.network.live() {
        for side in [0, 1] {
            let is_here = link.borrow().ends[side].node == node;
            if !is_here {
                continue;
            }
            if power == Power::Killed {
                abort(world, &link, side);
            } else {
                let mut connection = link.borrow_mut();
                // What it had sent and was still on its way is gone with the machine.
                connection.pipes[side].flying.clear();
            }
        }
    }
}
