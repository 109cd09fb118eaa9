"""The attacks. Each takes the target and a deadline, works in small bursts, and returns counts.

Owns no judgement. An attack sleeps between bursts: the well-behaved client shares the
machine, and what is measured is the broker, not the attacker's appetite for CPU.
"""

import collections
import random
import socket
import struct
import time

from hostile import samples
from wire import codec
from wire.connection import address_of

BURST = 20
PAUSE_S = 0.01
ANSWER_S = 0.02
IDLE_CONNECTIONS = 1000
SLOW_READERS = 20
FETCHES_EACH = 200
BOMB_BYTES = 64 << 20
GIB = 1 << 30


class Target:
    """`topic` has something to read; `doomed` is there for requests that may delete it."""

    def __init__(self, bootstrap, topic, doomed, advertised, seed):
        self.address = address_of(bootstrap)
        self.topic = topic
        self.doomed = doomed
        self.advertised = advertised
        self.random = random.Random(seed)
        self.counts = collections.Counter()

    def connect(self):
        made = socket.create_connection(self.address, timeout=10)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.counts["connections"] += 1
        return made

    def send(self, connection, data, wait_s=ANSWER_S):
        """Sends, waits a moment, notes what the broker did."""
        try:
            connection.settimeout(5)
            connection.sendall(data)
            connection.settimeout(wait_s)
            self.counts["answered" if connection.recv(65536) else "closed"] += 1
        except TimeoutError:
            self.counts["silent"] += 1
        except OSError:
            self.counts["closed"] += 1

    def once(self, data, wait_s=ANSWER_S):
        with self.connect() as connection:
            self.send(connection, data, wait_s)


def framed(frame):
    return struct.pack(">i", len(frame)) + frame


def until(deadline, work):
    """Bursts of `work()` with pauses, to the deadline."""
    while time.monotonic() < deadline:
        for _ in range(BURST):
            if time.monotonic() >= deadline:
                return
            work()
        time.sleep(PAUSE_S)


def garbage(target, deadline):
    until(deadline, lambda: target.once(target.random.randbytes(target.random.choice([1, 3, 4, 5, 100, 4096]))))


def garbage_bodies(target, deadline):
    """A right length and a right header, then noise."""

    def work():
        key = target.random.choice(sorted(target.advertised))
        version = target.random.randint(*target.advertised[key])
        head = struct.pack(">hhih", key, version, 1, -1)
        target.once(framed(head + target.random.randbytes(target.random.randint(0, 300))))

    until(deadline, work)


def length_prefixes(target, deadline):
    def work():
        length = target.random.choice([GIB, 0x7FFFFFFF, -1, -0x80000000, 0, 1, 7, 100 << 20, (100 << 20) + 1])
        target.once(struct.pack(">i", length) + target.random.randbytes(16))

    until(deadline, work)


def claimed_bodies(target, deadline):
    """Many connections announce the largest request and then send a little of it."""
    held = []
    for _ in range(100):
        connection = target.connect()
        head = struct.pack(">hhih", 0, 8, 1, -1)
        connection.sendall(struct.pack(">i", 100 << 20) + head + bytes(64 << 10))
        held.append(connection)
    hold(target, held, deadline)


def bent_lengths(target, deadline):
    """Every length field of every request at 0, -1, max, one more and one less; to the end, whatever the deadline."""
    frames = samples.all_bent(target.advertised, target.doomed)
    for number, (_, frame) in enumerate(frames):
        target.once(framed(frame))
        if number % BURST == 0:
            time.sleep(PAUSE_S)


def half_requests(target, deadline):
    whole = framed(samples.build(codec.APIS["Produce"], 8, target.topic))

    def work():
        connection = target.connect()
        connection.sendall(whole[: target.random.randint(1, len(whole) - 1)])
        if target.random.random() < 0.5:  # reset instead of an orderly end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    until(deadline, work)


def dribble(target, deadline):
    """A request that arrives byte by byte."""
    whole = framed(samples.build(codec.APIS["Metadata"], 5, target.topic))
    held = [(target.connect(), iter(whole)) for _ in range(50)]
    while time.monotonic() < deadline:
        for connection, rest in held:
            byte = next(rest, None)
            if byte is not None:
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    target.counts["closed"] += 1
        time.sleep(0.02)
    for connection, _ in held:
        target.send(connection, b"")
        connection.close()


def slow_readers(target, deadline):
    """Sends many fetches and reads none of the answers."""
    partition = {"Partition": 0, "FetchOffset": 0, "PartitionMaxBytes": 4 << 20}
    body = {"MaxWaitMs": 1, "MinBytes": 1, "MaxBytes": 4 << 20, "Topics": [{"Topic": target.topic, "Partitions": [partition]}]}
    frame = framed(codec.request_frame(codec.APIS["Fetch"], 4, 1, body))
    held = []
    for _ in range(SLOW_READERS):
        connection = target.connect()
        connection.setblocking(False)
        try:
            connection.send(frame * FETCHES_EACH)
        except OSError:
            target.counts["closed"] += 1
        held.append(connection)
    hold(target, held, deadline)


def idle_connections(target, deadline):
    held = []
    for number in range(IDLE_CONNECTIONS):
        connection = target.connect()
        if number % 2:
            target.send(connection, framed(codec.request_frame(codec.APIS["ApiVersions"], 0, 1, b"")), 1)
        held.append(connection)
    hold(target, held, deadline)


def unknown_requests(target, deadline):
    def work():
        key = target.random.choice([target.random.randint(-32768, 32767), *target.advertised])
        version = target.random.choice([-32768, -1, 0, 1, 14, 99, 32767])
        target.once(framed(struct.pack(">hhih", key, version, 1, -1) + bytes(8)))

    until(deadline, work)


def bombs(target, deadline):
    """Compressed batches that inflate a thousandfold."""
    partition = {"Index": 0, "Records": samples.bomb(BOMB_BYTES)}
    body = {"Acks": 1, "TimeoutMs": 100, "TopicData": [{"Name": target.topic, "PartitionData": [partition]}]}
    frame = framed(codec.request_frame(codec.APIS["Produce"], 8, 1, body))
    while time.monotonic() < deadline:
        target.once(frame, 5)
        time.sleep(0.1)


def hold(target, held, deadline):
    while time.monotonic() < deadline:
        time.sleep(0.05)
    for connection in held:
        connection.close()


ATTACKS = [
    garbage, garbage_bodies, length_prefixes, claimed_bodies, bent_lengths, half_requests, dribble, slow_readers,
    idle_connections, unknown_requests, bombs,
]
