"""Decides whether a log that was read back agrees with what its broker acknowledged.

Pure. A record's identity is `producer.sequence`; its value follows from the identity, so
nothing but identities is kept. Rules: offsets dense from 0; every record was sent, to
this partition, once; a producer's records stand in the order in which it sent them; an
acknowledged record stands at its acknowledged offset; what was read once never changes.
"""

import hashlib

PROBLEMS_MAX = 20
SMALL_BYTES = 100
LARGE_ONE_IN = 256
LARGE_BYTES = 32 * 1024


def identity_of(producer, sequence):
    return b"%d.%d" % (producer, sequence)


def value_of(identity):
    """SMALL_BYTES to SMALL_BYTES + 255, and now and then LARGE_BYTES."""
    digest = hashlib.sha256(identity).digest()
    size = LARGE_BYTES if digest[0] * 256 + digest[1] < 65536 // LARGE_ONE_IN else SMALL_BYTES + digest[2]
    return (digest * (size // len(digest) + 1))[:size]


class Judge:
    def __init__(self, partitions):
        self.sent = {}  # identity -> partition
        self.acked = {partition: {} for partition in range(partitions)}  # offset -> identity
        self.unverified = {partition: [] for partition in range(partitions)}  # offsets acknowledged since the last look
        self.log = {partition: [] for partition in range(partitions)}  # identities by offset, as read
        self.place = {}  # identity -> offset, as read
        self.last = {}  # (partition, producer) -> highest sequence read
        self.problems = []

    def complain(self, kind, text):
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append((kind, text))

    def send(self, identity, partition):
        self.sent[identity] = partition

    def acknowledge(self, partition, base_offset, identities):
        for offset, identity in enumerate(identities, base_offset):
            before = self.acked[partition].setdefault(offset, identity)
            if before != identity:
                self.complain("conflict", f"offset {offset} of partition {partition} acknowledged twice: {before}, {identity}")
            self.unverified[partition].append(offset)

    def read(self, partition, first, records):
        """`records`: (offset, key, value) in the order read, from offset `first` on."""
        known = self.log[partition]
        expected = first
        for offset, identity, value in records:
            where = f"partition {partition} offset {offset} ({identity})"
            if offset != expected:
                self.complain("gap", f"{where}: offset {expected} was next")
                expected = offset
            expected += 1
            if value_of(identity) != value:
                self.complain("altered", f"{where}: other bytes than were sent")
            if offset < len(known):
                if known[offset] != identity:
                    self.complain("changed", f"{where}: was {known[offset]} before")
                continue
            if offset > len(known):
                known.extend([None] * (offset - len(known)))
            known.append(identity)
            self._judge_new(partition, offset, identity, where)

    def _judge_new(self, partition, offset, identity, where):
        if self.sent.get(identity) != partition:
            self.complain("invented", f"{where}: never sent to this partition")
            return
        if identity in self.place:
            self.complain("duplicate", f"{where}: also at offset {self.place[identity]}")
            return
        self.place[identity] = offset
        producer, sequence = (int(part) for part in identity.split(b"."))
        if self.last.get((partition, producer), -1) > sequence:
            self.complain("reordered", f"{where}: behind {self.last[(partition, producer)]}")
        self.last[(partition, producer)] = max(sequence, self.last.get((partition, producer), -1))

    def verify(self, partition, end_offset, everything=False):
        """After all up to `end_offset` has been read: is each acknowledged record in its place?"""
        known = self.log[partition]
        if end_offset != len(known):
            self.complain("end", f"partition {partition} ends at {end_offset}, {len(known)} were read")
        acked = self.acked[partition]
        for offset in list(acked) if everything else self.unverified[partition]:
            identity = acked[offset]
            if offset >= len(known) or offset >= end_offset:
                self.complain("lost", f"partition {partition} offset {offset} ({identity}) was acknowledged")
            elif known[offset] != identity:
                self.complain("displaced", f"partition {partition} offset {offset}: {known[offset]}, acknowledged {identity}")
        self.unverified[partition] = []


def planted():
    """Feeds the judge logs with one known fault each; returns [(fault, caught, what it said)]."""

    def clean(partitions=2, records=200):
        judge = Judge(partitions)
        logs = {partition: [] for partition in range(partitions)}
        for sequence in range(records):
            identity = identity_of(sequence % 3, sequence)
            partition = sequence % partitions
            judge.send(identity, partition)
            if sequence % 10 < 7:
                judge.acknowledge(partition, len(logs[partition]), [identity])
            logs[partition].append((len(logs[partition]), identity, value_of(identity)))
        return judge, logs

    def renumbered(records):
        return [(offset, identity, value) for offset, (_, identity, value) in enumerate(records)]

    def lose_tail(log):
        return log[:-10]

    def lose_middle(log):
        return renumbered(log[:40] + log[41:])

    def gap(log):
        return log[:40] + log[41:]

    def duplicate(log):
        return renumbered(log[:50] + [log[30]] + log[50:])

    def duplicate_at_end(log):
        return renumbered(log + [log[-1]])

    def reorder(log):
        swapped = list(log)
        near = next(i for i in range(30, 99) if log[i][1].split(b".")[0] == log[i + 3][1].split(b".")[0])
        swapped[near], swapped[near + 3] = log[near + 3], log[near]
        return renumbered(swapped)

    def alter(log):
        offset, identity, value = log[60]
        return log[:60] + [(offset, identity, value[:-1] + b"?")] + log[61:]

    def invent(log):
        return renumbered(log + [(0, b"9.9", value_of(b"9.9"))])

    faults = [
        (lambda log: log, None), (lose_tail, "lost"), (lose_middle, "displaced"), (gap, "gap"), (duplicate, "duplicate"),
        (duplicate_at_end, "duplicate"), (reorder, "reordered"), (alter, "altered"), (invent, "invented"),
    ]
    outcome = []
    for fault, kind in faults:
        judge, logs = clean()
        logs[0] = fault(logs[0])
        for partition, records in logs.items():
            judge.read(partition, 0, records)
            judge.verify(partition, len(records))
        kinds = {found for found, _ in judge.problems}
        name = "nothing" if kind is None else fault.__name__
        outcome.append((name, kind in kinds if kind else not kinds, sorted(kinds)))
    judge, logs = clean()
    judge.read(0, 0, logs[0])
    judge.read(0, 90, renumbered(logs[0])[89:90])
    judge.read(0, 0, [(0, logs[0][1][1], logs[0][1][2])])
    kinds = {found for found, _ in judge.problems}
    outcome.append(("change_what_was_read", "changed" in kinds, sorted(kinds)))
    return outcome
