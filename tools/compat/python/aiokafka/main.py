"""aiokafka plays the scenario."""

import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import scenario as shared

CLIENT = "aiokafka"
POLL_MS = 200


async def wait_for(play, what, condition):
    for _ in range(int(shared.WAIT_S * 10)):
        if await condition():
            play.checks += 1
            return
        await asyncio.sleep(0.1)
    raise shared.Failed(f"{what}: not within {shared.WAIT_S:.0f} s")


async def create_topic(play, admin):
    new = NewTopic(play.topic, shared.PARTITIONS, 1, topic_configs=shared.TOPIC_CONFIG)
    answer = await admin.create_topics([new])
    play.check("creation", [topic[1] for topic in answer.topic_errors], [0])

    async def complete():
        (found,) = await admin.describe_topics([play.topic])
        return len(found["partitions"]) == shared.PARTITIONS and found["error_code"] == 0

    await wait_for(play, "topic has its partitions", complete)


async def produce(play, codec):
    producer = AIOKafkaProducer(
        bootstrap_servers=play.bootstrap,
        acks="all",
        linger_ms=20,
        max_request_size=shared.REQUEST_BYTES_MAX,
        enable_idempotence=codec == "idempotent",
        compression_type=None if codec in ("none", "idempotent") else codec,
    )
    await producer.start()
    try:
        sent = []
        for record in play.of_codec(codec):
            future = await producer.send(
                play.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                partition=record.partition,
                timestamp_ms=record.timestamp,
            )
            sent.append((record, future))
        await producer.flush()
        for record, future in sent:
            outcome = await future
            play.check_produced(record, outcome.partition, outcome.offset)
    finally:
        await producer.stop()


def consumer_of(play, *topics, group=None):
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=play.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=shared.REQUEST_BYTES_MAX,
        check_crcs=True,
    )


async def read(consumer, count, seen):
    taken = 0
    idle_ms = 0
    while taken < count:
        polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=min(100, count - taken))
        idle_ms = 0 if polled else idle_ms + POLL_MS
        if idle_ms > shared.WAIT_S * 1000:
            raise shared.Failed(f"only {taken} of {count} records came")
        for place, messages in polled.items():
            for message in messages:
                one = shared.Seen(
                    message.offset, message.timestamp, message.key, message.value, list(message.headers)
                )
                seen.setdefault(place.partition, []).append(one)
                taken += 1
    return seen


async def read_assigned(play):
    consumer = consumer_of(play)
    await consumer.start()
    try:
        places = {partition: TopicPartition(play.topic, partition) for partition in range(shared.PARTITIONS)}
        consumer.assign(list(places.values()))
        await consumer.seek_to_beginning()
        play.compare("assign", await read(consumer, len(play.records), {}))
        starts = await consumer.beginning_offsets(list(places.values()))
        ends = await consumer.end_offsets(list(places.values()))
        for partition, end in play.end_offsets().items():
            place = places[partition]
            play.check(f"ends of partition {partition}", (starts[place], ends[place]), (0, end))
            for stamp, wanted in play.timestamps_to_look_up(partition):
                found = (await consumer.offsets_for_times({place: stamp}))[place]
                play.check(f"offset for time {stamp}", found and found.offset, wanted)
    finally:
        await consumer.stop()


async def read_in_group(play):
    first = consumer_of(play, play.topic, group=play.group)
    await first.start()
    try:
        seen = await read(first, len(play.records) // 2, {})
        committed = {partition: len(ones) for partition, ones in seen.items()}
        await first.commit({TopicPartition(play.topic, p): offset for p, offset in committed.items()})
    finally:
        await first.stop()

    second = consumer_of(play, play.topic, group=play.group)
    await second.start()
    try:
        for partition, offset in committed.items():
            found = await second.committed(TopicPartition(play.topic, partition))
            play.check(f"committed offset of {partition}", found, offset)
        rest = await read(second, len(play.records) - sum(committed.values()), {})
        play.compare("group restart", rest, committed)
        play.compare("group", {p: seen.get(p, []) + rest.get(p, []) for p in range(shared.PARTITIONS)})
    finally:
        await second.stop()


async def delete_topic(play, admin):
    await admin.delete_topics([play.topic])

    async def gone():
        return play.topic not in await admin.list_topics()

    await wait_for(play, "topic is gone", gone)


async def run(given):
    play = shared.Scenario(CLIENT, given.bootstrap, given.smoke, both_null=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=play.bootstrap)
    await admin.start()
    try:
        await create_topic(play, admin)
        for codec in play.codecs + ["idempotent"]:
            await produce(play, codec)
        await read_assigned(play)
        await read_in_group(play)
        await delete_topic(play, admin)
    finally:
        await admin.close()
    return play


shared.finish(CLIENT, lambda given: asyncio.run(run(given)))
