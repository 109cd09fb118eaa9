"""Valid requests of every API in schemas.txt, and the same ones with one length bent.

Pure. A sample fills every field, so that every length field is there; names are those of
a topic and a group made for the purpose, never those of the well-behaved client.
"""

import time

from wire import batch, codec

BENDS = [
    ("0", lambda length, limit: 0),
    ("-1", lambda length, limit: -1),
    ("max", lambda length, limit: limit),
    ("one more", lambda length, limit: length + 1),
    ("one less", lambda length, limit: length - 1),
]
NUMBERS = {"Acks": -1, "timeoutMs": 100, "TimeoutMs": 100, "MaxWaitMs": 1, "SessionTimeoutMs": 10000, "ReplicaId": -1,
           "BrokerId": 4711}
DELETE_TOPICS = 20
REPLICA_STATE = {"ReplicaId": -1, "ReplicaEpoch": -1}


def sample_of(fields, version, topic):
    return {one.name: value_for(one, one.type, version, topic) for one in fields if codec.within(version, one.versions)}


def value_for(one, kind, version, topic):
    if one.name == "ReplicaState":
        return REPLICA_STATE
    if one.name in ("validateOnly", "ValidateOnly"):
        return True
    if kind.startswith("[]"):
        return [value_for(one, kind[2:], version, topic)]
    if kind in codec.INTEGERS:
        return NUMBERS.get(one.name, 1)
    if kind == "records":
        return batch.build([(b"key", b"value")] * 2, int(time.time() * 1000))
    if kind == "string":
        return None if one.name == "TransactionalId" else topic
    if kind == "bytes":
        return b"\0\1\0\0\0\0\0\0\0\0"
    return {"bool": True, "uuid": bytes(16)}.get(kind) if kind in ("bool", "uuid") else sample_of(one.fields, version, topic)


def build(api, version, topic):
    return codec.request_frame(api, version, 1, sample_of(api.request, version, topic))


def bent(api, version, topic):
    """Yields (what was bent, frame) for every length field of one request and every bend."""
    count = [0]

    def counting(length, limit):
        count[0] += 1
        return length

    try:
        codec.length_written = counting
        build(api, version, topic)
        for number in range(count[0]):
            for name, bend in BENDS:
                seen = [0]

                def bending(length, limit, number=number, bend=bend, seen=seen):
                    seen[0] += 1
                    return bend(length, limit) if seen[0] - 1 == number else length

                codec.length_written = bending
                yield f"{api.name} v{version} length {number}: {name}", build(api, version, topic)
    finally:
        codec.length_written = codec.as_it_is


def all_bent(advertised, topic):
    """Every API of the schemas at its lowest and highest version that the broker takes; deletion of `topic` comes last."""
    frames = []
    for key, (low, high) in sorted(advertised.items(), key=lambda one: (one[0] == DELETE_TOPICS, one)):
        api = codec.BY_KEY.get(key)
        if api is None:
            continue
        low, high = max(low, api.versions[0]), min(high, api.versions[1])
        for version in sorted({low, high}):
            frames += list(bent(api, version, topic))
    return frames


def bomb(inflated_bytes):
    """A gzip batch of one record of zeros, a thousand times larger than it looks."""
    return batch.build([(b"k", bytes(inflated_bytes))], int(time.time() * 1000), attributes=batch.GZIP)
