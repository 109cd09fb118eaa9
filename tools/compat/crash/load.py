"""Producers that keep a few requests in flight and report every acknowledgement, and the reader.

Each producer is a thread with one connection and without idempotence: it never sends a
record twice, so a record is acknowledged, or it may be there once, or not at all.
"""

import collections
import random
import threading
import time

from crash.judge import identity_of, value_of
from wire import batch, codec
from wire.connection import Closed, Connection, Silent

IN_FLIGHT = 5
RECORDS_PER_BATCH_MAX = 12
FETCH_BYTES_MAX = 4 << 20


class Producer(threading.Thread):
    """`number` and `sequence` make the identities; `lock` guards the judge."""

    def __init__(self, number, sequence, seed, bootstrap, topic, partitions, acks, judge, lock):
        super().__init__(daemon=True)
        self.number, self.sequence, self.bootstrap = number, sequence, bootstrap
        self.topic, self.partitions, self.acks = topic, partitions, acks
        self.judge, self.lock = judge, lock
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.acknowledged = self.refused = 0
        self.problem = None

    def run(self):
        waiting = collections.deque()
        try:
            connection = Connection(self.bootstrap)
            while not self.stopping.is_set():
                while len(waiting) < IN_FLIGHT:
                    waiting.append(self.send(connection))
                self.receive(connection, *waiting.popleft())
        except (Closed, OSError):
            return  # the broker was killed: what is in flight may or may not be there
        except (Silent, codec.Malformed) as error:
            self.problem = f"producer {self.number}: {type(error).__name__} {error}"

    def send(self, connection):
        sent = {}
        for partition in self.random.sample(range(self.partitions), self.random.randint(1, min(3, self.partitions))):
            identities = []
            for _ in range(self.random.randint(1, RECORDS_PER_BATCH_MAX)):
                identities.append(identity_of(self.number, self.sequence))
                self.sequence += 1
            sent[partition] = identities
        with self.lock:
            for partition, identities in sent.items():
                for identity in identities:
                    self.judge.send(identity, partition)
        stamp = int(time.time() * 1000)
        data = [
            {"Index": partition, "Records": batch.build([(one, value_of(one)) for one in identities], stamp)}
            for partition, identities in sent.items()
        ]
        body = {"Acks": self.acks, "TimeoutMs": 10000, "TopicData": [{"Name": self.topic, "PartitionData": data}]}
        return connection.send("Produce", 8, body), sent

    def receive(self, connection, correlation, sent):
        answer = connection.receive("Produce", 8, correlation)
        for topic in answer["Responses"]:
            for one in topic["PartitionResponses"]:
                identities = sent[one["Index"]]
                if one["ErrorCode"] != 0:
                    self.refused += len(identities)
                    continue
                with self.lock:
                    self.judge.acknowledge(one["Index"], one["BaseOffset"], identities)
                self.acknowledged += len(identities)


def end_offset(connection, topic, partition):
    body = {"ReplicaId": -1, "Topics": [{"Name": topic, "Partitions": [{"PartitionIndex": partition, "Timestamp": -1}]}]}
    one = connection.call("ListOffsets", 4, body)["Topics"][0]["Partitions"][0]
    return one["Offset"] if one["ErrorCode"] == 0 else None


def read_range(connection, topic, partition, first, end, take):
    """Calls `take(first offset, [(offset, key, value)])` for each part of [first, end)."""
    at = first
    while at < end:
        asked = {"Partition": partition, "FetchOffset": at, "PartitionMaxBytes": FETCH_BYTES_MAX}
        body = {"MaxWaitMs": 1000, "MinBytes": 1, "MaxBytes": FETCH_BYTES_MAX, "Topics": [{"Topic": topic, "Partitions": [asked]}]}
        one = connection.call("Fetch", 4, body)["Responses"][0]["Partitions"][0]
        if one["ErrorCode"] != 0 or not one["Records"]:
            raise codec.Malformed(f"fetch of partition {partition} at {at}, end {end}: error {one['ErrorCode']}, no records")
        found = []
        for _, _, _, records in batch.parse(one["Records"], check_crc=False):
            found += [(offset, key, value) for offset, _, key, value in records if at <= offset < end]
        if not found:
            raise codec.Malformed(f"fetch of partition {partition} at {at} gave no whole batch from there on")
        take(at, found)
        at = found[-1][0] + 1
