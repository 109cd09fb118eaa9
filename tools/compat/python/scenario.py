"""The scenario that every client plays, as the three Python programs share it.

Owns the records (deterministic: the same index always gives the same bytes), the
count of checks and the closing line. It knows no client: a program produces
`Scenario.records`, reads them back as `Seen`, and hands both to `compare`.
Invariant: record `i` has timestamp `first_timestamp + 1000 * i`, so timestamps rise
within every partition and each one names exactly one offset.
"""

import argparse
import random
import sys
import time
import traceback
from dataclasses import dataclass, field

PARTITIONS = 3
TOPIC_CONFIG = {"max.message.bytes": "4194304", "retention.ms": "-1"}
REQUEST_BYTES_MAX = 4 * 1024 * 1024
TIMESTAMP_STEP_MS = 1000
IDEMPOTENT_PER_PARTITION = 50
WAIT_S = 60.0
ALL_CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@dataclass(frozen=True)
class Record:
    index: int
    codec: str
    partition: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list


class Failed(Exception):
    """A check that did not hold; the text says which."""


def payload(seed, size):
    """Half random, half repeated: neither free nor impossible to compress."""
    random_half = random.Random(seed).randbytes((size + 1) // 2)
    return (random_half + b"ringlog " * (size // 8 + 1))[:size]


def shapes(smoke):
    every_byte = bytes(range(256))
    headers = [("h", b"v"), ("h", b"second"), ("empty", b""), ("binary", every_byte)]
    found = [
        (b"k", 1, []),
        (every_byte, 1024, []),
        (b"big", 100 * 1024, []),
        (None, 10, []),
        (b"tombstone", None, []),
        (b"", 0, []),
        (None, None, []),
        (b"headers", 20, headers),
        (b"null header", 20, [("null", None)]),
        ("schlüssel".encode(), 300, [("größe", "weiß".encode())]),
    ]
    return found if smoke else found + [(b"huge", 1024 * 1024, [])]


class Scenario:
    def __init__(self, client, bootstrap, smoke, both_null=True, null_headers=True):
        """`both_null`, `null_headers`: whether the client lets null key with null value, and null header values, through."""
        self.client = client
        self.bootstrap = bootstrap
        self.smoke = smoke
        self.codecs = ALL_CODECS
        self.null_headers = null_headers
        self.checks = 0
        suffix = f"{random.SystemRandom().getrandbits(40):010x}"
        self.topic = f"compat-{client}-{suffix}"
        self.group = f"compat-group-{client}-{suffix}"
        self.first_timestamp = int(time.time() * 1000) - 3_600_000
        self.records = []
        for codec in self.codecs:
            for key, size, headers in shapes(smoke):
                if both_null or (key, size) != (None, None):
                    self._add(codec, key, size, headers)
        for number in range(IDEMPOTENT_PER_PARTITION * PARTITIONS):
            self._add("idempotent", b"sequence", 100 + number, [])

    def _add(self, codec, key, size, headers):
        index = len(self.records)
        value = None if size is None else payload(index, size)
        if not self.null_headers:
            headers = [(name, value) for name, value in headers if value is not None]
        stamp = self.first_timestamp + index * TIMESTAMP_STEP_MS
        self.records.append(Record(index, codec, index % PARTITIONS, stamp, key, value, headers))

    def of_codec(self, codec):
        return [record for record in self.records if record.codec == codec]

    def of_partition(self, partition):
        return [record for record in self.records if record.partition == partition]

    def check(self, what, got, wanted):
        self.checks += 1
        if got != wanted:
            raise Failed(f"{what}: got {short(got)}, wanted {short(wanted)}")

    def check_produced(self, record, partition, offset):
        """Every record must land where it was sent, at the next offset."""
        place = self.of_partition(record.partition).index(record)
        self.check(f"{record.codec} record {record.index} offset", (partition, offset), (record.partition, place))

    def compare(self, how, seen, first=None):
        """`seen`: partition -> [Seen] in the order read; `first`: partition -> first offset."""
        for partition in range(PARTITIONS):
            start = (first or {}).get(partition, 0)
            wanted = self.of_partition(partition)[start:]
            got = seen.get(partition, [])
            self.check(f"{how}: records of partition {partition}", len(got), len(wanted))
            for place, (record, one) in enumerate(zip(wanted, got)):
                name = f"{how}: partition {partition} offset {start + place} ({record.codec})"
                self.check(f"{name} offset", one.offset, start + place)
                self.check(f"{name} timestamp", one.timestamp, record.timestamp)
                self.check(f"{name} key", one.key, record.key)
                self.check(f"{name} value", one.value, record.value)
                self.check(f"{name} headers", list(one.headers), list(record.headers))

    def timestamps_to_look_up(self, partition):
        """(timestamp, offset or None when nothing is that young)."""
        records = self.of_partition(partition)
        middle = len(records) // 2
        last = len(records) - 1
        return [
            (self.first_timestamp - 5000, 0),
            (records[middle].timestamp, middle),
            (records[middle].timestamp - 1, middle),
            (records[last].timestamp, last),
            (records[last].timestamp + 1, None),
        ]

    def end_offsets(self):
        return {partition: len(self.of_partition(partition)) for partition in range(PARTITIONS)}

    def wait_for(self, what, condition):
        """Repeats `condition` until it is true; metadata follows an admin answer with a delay."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {WAIT_S:.0f} s")
            time.sleep(0.1)
        self.checks += 1


def short(value):
    if isinstance(value, bytes) and len(value) > 40:
        return f"{len(value)} bytes {value[:16].hex()}..."
    return repr(value)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--smoke", action="store_true", help="leave out the largest records")
    return parser.parse_args()


def finish(client, play):
    """Runs `play(scenario_arguments)`, prints the one closing line, exits."""
    try:
        scenario = play(arguments())
        print(f"PASS {client} {scenario.checks} checks")
    except Failed as failed:
        print(f"FAIL {client} {failed}")
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        print(f"FAIL {client} {type(error).__name__}: {error}")
        sys.exit(1)
