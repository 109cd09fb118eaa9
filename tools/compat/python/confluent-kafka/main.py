"""confluent-kafka (librdkafka) plays the scenario."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import scenario as shared

CLIENT = "confluent-kafka"
IDLE_POLL_S = 0.2


def create_topic(play, admin):
    new = NewTopic(play.topic, num_partitions=shared.PARTITIONS, replication_factor=1, config=shared.TOPIC_CONFIG)
    admin.create_topics([new])[play.topic].result(shared.WAIT_S)
    play.wait_for("topic is listed", lambda: play.topic in admin.list_topics(timeout=10).topics)
    described = admin.list_topics(play.topic, timeout=10).topics[play.topic]
    play.check("partitions of the new topic", len(described.partitions), shared.PARTITIONS)


def produce(play, codec):
    config = {
        "bootstrap.servers": play.bootstrap,
        "acks": "all",
        "message.max.bytes": shared.REQUEST_BYTES_MAX,
        "linger.ms": 20,
    }
    if codec == "idempotent":
        config["enable.idempotence"] = True
    else:
        config["compression.type"] = codec
    producer = Producer(config)
    delivered = {}

    for record in play.of_codec(codec):

        def done(error, message, record=record):
            delivered[record.index] = error or (message.partition(), message.offset())

        producer.produce(
            play.topic,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            partition=record.partition,
            timestamp=record.timestamp,
            on_delivery=done,
        )
        producer.poll(0)
    play.check(f"{codec}: left in the queue", producer.flush(shared.WAIT_S), 0)
    for record in play.of_codec(codec):
        outcome = delivered[record.index]
        if not isinstance(outcome, tuple):
            raise shared.Failed(f"{codec} record {record.index}: {outcome}")
        play.check_produced(record, *outcome)


def consumer_of(play, group):
    return Consumer(
        {
            "bootstrap.servers": play.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": shared.REQUEST_BYTES_MAX,
            "check.crcs": True,
        }
    )


def read(consumer, count, seen):
    """Polls until `count` records have come; returns how many there are of each partition."""
    idle = 0.0
    taken = 0
    while taken < count:
        message = consumer.poll(IDLE_POLL_S)
        if message is None:
            idle += IDLE_POLL_S
            if idle > shared.WAIT_S:
                raise shared.Failed(f"only {taken} of {count} records came")
            continue
        if message.error():
            raise KafkaException(message.error())
        one = shared.Seen(
            message.offset(), message.timestamp()[1], message.key(), message.value(), message.headers() or []
        )
        seen.setdefault(message.partition(), []).append(one)
        taken += 1
    return seen


def read_assigned(play):
    consumer = consumer_of(play, play.group + "-unused")
    consumer.assign([TopicPartition(play.topic, p, OFFSET_BEGINNING) for p in range(shared.PARTITIONS)])
    play.compare("assign", read(consumer, len(play.records), {}))
    consumer.close()


def look_up_offsets(play):
    """A consumer of its own: on one that fetches, each question waits behind a long poll."""
    consumer = consumer_of(play, play.group + "-unused")
    for partition, end in play.end_offsets().items():
        watermarks = consumer.get_watermark_offsets(TopicPartition(play.topic, partition), timeout=10)
        play.check(f"watermarks of partition {partition}", watermarks, (0, end))
        for stamp, wanted in play.timestamps_to_look_up(partition):
            (found,) = consumer.offsets_for_times([TopicPartition(play.topic, partition, stamp)], timeout=10)
            play.check(f"offset for time {stamp}", found.offset, -1 if wanted is None else wanted)
    consumer.close()


def read_in_group(play):
    first = consumer_of(play, play.group)
    first.subscribe([play.topic])
    seen = read(first, len(play.records) // 2, {})
    committed = {partition: len(ones) for partition, ones in seen.items()}
    offsets = [TopicPartition(play.topic, p, offset) for p, offset in committed.items()]
    first.commit(offsets=offsets, asynchronous=False)
    first.close()

    second = consumer_of(play, play.group)
    asked = [TopicPartition(play.topic, p) for p in committed]
    for answer in second.committed(asked, timeout=10):
        play.check(f"committed offset of {answer.partition}", answer.offset, committed[answer.partition])
    second.subscribe([play.topic])
    rest = read(second, len(play.records) - sum(committed.values()), {})
    play.compare("group restart", rest, committed)
    play.compare("group", {p: seen.get(p, []) + rest.get(p, []) for p in range(shared.PARTITIONS)})
    second.close()


def delete_topic(play, admin):
    admin.delete_topics([play.topic])[play.topic].result(shared.WAIT_S)
    play.wait_for("topic is gone", lambda: play.topic not in admin.list_topics(timeout=10).topics)


def main(given):
    play = shared.Scenario(CLIENT, given.bootstrap, given.smoke)
    admin = AdminClient({"bootstrap.servers": play.bootstrap})
    create_topic(play, admin)
    for codec in play.codecs + ["idempotent"]:
        produce(play, codec)
    read_assigned(play)
    look_up_offsets(play)
    read_in_group(play)
    delete_topic(play, admin)
    return play


shared.finish(CLIENT, main)
