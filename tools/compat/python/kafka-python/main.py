"""kafka-python plays the scenario."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata, TopicPartition

import scenario as shared

CLIENT = "kafka-python"
POLL_MS = 200


def create_topic(play, admin):
    new = NewTopic(
        name=play.topic, num_partitions=shared.PARTITIONS, replication_factor=1, topic_configs=shared.TOPIC_CONFIG
    )
    admin.create_topics([new])
    play.wait_for("topic is listed", lambda: play.topic in admin.list_topics())
    (described,) = admin.describe_topics([play.topic])
    play.check("partitions of the new topic", len(described["partitions"]), shared.PARTITIONS)


def produce(play, codec):
    producer = KafkaProducer(
        bootstrap_servers=play.bootstrap,
        acks="all",
        linger_ms=20,
        max_request_size=shared.REQUEST_BYTES_MAX,
        enable_idempotence=codec == "idempotent",
        compression_type=None if codec in ("none", "idempotent") else codec,
    )
    sent = []
    for record in play.of_codec(codec):
        future = producer.send(
            play.topic,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            partition=record.partition,
            timestamp_ms=record.timestamp,
        )
        sent.append((record, future))
    producer.flush(shared.WAIT_S)
    for record, future in sent:
        outcome = future.get(shared.WAIT_S)
        play.check_produced(record, outcome.partition, outcome.offset)
    producer.close()


def consumer_of(play, group=None):
    return KafkaConsumer(
        bootstrap_servers=play.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=shared.REQUEST_BYTES_MAX,
        check_crcs=True,
    )


def read(consumer, count, seen):
    taken = 0
    idle_ms = 0
    while taken < count:
        polled = consumer.poll(timeout_ms=POLL_MS, max_records=min(100, count - taken))
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


def read_assigned(play):
    consumer = consumer_of(play)
    places = {partition: TopicPartition(play.topic, partition) for partition in range(shared.PARTITIONS)}
    consumer.assign(list(places.values()))
    consumer.seek_to_beginning()
    play.compare("assign", read(consumer, len(play.records), {}))
    starts = consumer.beginning_offsets(list(places.values()))
    ends = consumer.end_offsets(list(places.values()))
    for partition, end in play.end_offsets().items():
        play.check(f"ends of partition {partition}", (starts[places[partition]], ends[places[partition]]), (0, end))
        for stamp, wanted in play.timestamps_to_look_up(partition):
            found = consumer.offsets_for_times({places[partition]: stamp})[places[partition]]
            play.check(f"offset for time {stamp}", found and found.offset, wanted)
    consumer.close()


def read_in_group(play):
    first = consumer_of(play, play.group)
    first.subscribe([play.topic])
    seen = read(first, len(play.records) // 2, {})
    committed = {partition: len(ones) for partition, ones in seen.items()}
    first.commit({TopicPartition(play.topic, p): OffsetAndMetadata(offset, "", -1) for p, offset in committed.items()})
    first.close()

    second = consumer_of(play, play.group)
    for partition, offset in committed.items():
        found = second.committed(TopicPartition(play.topic, partition))
        play.check(f"committed offset of {partition}", found, offset)
    second.subscribe([play.topic])
    rest = read(second, len(play.records) - sum(committed.values()), {})
    play.compare("group restart", rest, committed)
    play.compare("group", {p: seen.get(p, []) + rest.get(p, []) for p in range(shared.PARTITIONS)})
    second.close()


def delete_topic(play, admin):
    admin.delete_topics([play.topic])
    play.wait_for("topic is gone", lambda: play.topic not in admin.list_topics())


def main(given):
    play = shared.Scenario(CLIENT, given.bootstrap, given.smoke, both_null=False, null_headers=False)
    admin = KafkaAdminClient(bootstrap_servers=play.bootstrap)
    create_topic(play, admin)
    for codec in play.codecs + ["idempotent"]:
        produce(play, codec)
    read_assigned(play)
    read_in_group(play)
    delete_topic(play, admin)
    admin.close()
    return play


shared.finish(CLIENT, main)
