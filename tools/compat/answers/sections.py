"""How each section of rows.txt asks, and what it takes from the answer.

A section is a function (broker, arguments) -> plain values that compare with the row's
JSON. It owns no expectation. A broker that closes the connection or stays silent is
reported by the caller as "closed" or "silent".
"""

import os
import struct
import time

from wire import batch, codec

NUM_PARTITIONS = "num.partitions"
FETCH_WAIT_MS = 500


def api_versions(broker, row):
    version = row["version"]
    api = codec.APIS["ApiVersions"]
    known = 0 <= version <= 4
    body = {"ClientSoftwareName": row.get("name", "compat"), "ClientSoftwareVersion": "1"} if known else b""
    broker.connection.send_frame(codec.request_frame(api, version, 7, body))
    payload = broker.connection.receive_frame()
    answered = version if known else 0
    _, message = codec.decode_response(api, answered, payload)
    keys = [[one["ApiKey"], one["MinVersion"], one["MaxVersion"]] for one in message["ApiKeys"]]
    return [f"answer v{answered}", message["ErrorCode"], keys if len(keys) == 1 or not known else "many"]


def unknown_requests(broker, row):
    key, version = row
    frame = struct.pack(">hhi", key, version, 1) + struct.pack(">h", 1) + b"c" + bytes(8)
    broker.connection.send_frame(frame)
    return broker.connection.receive_frame().hex()


def create_topics(broker, row):
    by_hand = "assignments" in row
    topic = {
        "Name": row.get("name", f"{broker.missing}-{os.urandom(4).hex()}"),
        "NumPartitions": row.get("partitions", -1 if by_hand else 1),
        "ReplicationFactor": row.get("replicas", -1 if by_hand else 1),
        "Assignments": [
            {"PartitionIndex": index, "BrokerIds": [broker.node if id == 1 else id for id in ids]}
            for index, ids in row.get("assignments", [])
        ],
        "Configs": [dict(zip(("Name", "Value"), row["config"]))] if "config" in row else [],
    }
    body = {"Topics": [topic] * row.get("times", 1), "timeoutMs": 10000, "validateOnly": "config" in row}
    return [one["ErrorCode"] for one in broker.call("CreateTopics", 5, body)["Topics"]]


def delete_topics(broker, row):
    answer = broker.call("DeleteTopics", 3, {"TopicNames": row, "TimeoutMs": 10000})
    return [[one["Name"], one["ErrorCode"]] for one in answer["Responses"]]


def create_partitions(broker, row):
    assignments = row.get("assignments")
    topic = {
        "Name": row.get("topic", broker.topic),
        "Count": row["count"],
        "Assignments": None if assignments is None else [{"BrokerIds": ids} for ids in assignments],
    }
    answer = broker.call("CreatePartitions", 1, {"Topics": [topic], "TimeoutMs": 10000, "ValidateOnly": False})
    return answer["Results"][0]["ErrorCode"]


def metadata(broker, row):
    time.sleep(row.get("wait", 0))
    version = row.get("version", 5)
    if "id" in row:
        topic_id = os.urandom(16) if row["id"] == "random" else bytes(16)
        topics = [{"TopicId": topic_id, "Name": row["name"]}]
    else:
        topics = None if row["names"] is None else [{"Name": name} for name in row["names"]]
    answer = broker.call("Metadata", version, {"Topics": topics, "AllowAutoTopicCreation": row.get("auto", False)})
    if version == 0:
        return "some topics" if answer["Topics"] else "no topics"
    found = [[one["Name"], one["ErrorCode"], len(one["Partitions"])] for one in answer["Topics"]]
    for one in found:
        if one[2] and one[2] == broker.num_partitions:
            one[2] = NUM_PARTITIONS if one[0].startswith("auto-") else one[2]
    return found


def records_of(row):
    """The record bytes that a produce row describes."""
    if "records" in row:
        return None if row["records"] is None else bytes.fromhex(row["records"])
    if "zeros" in row:
        return bytes(row["zeros"])
    stamp = row.get("timestamp", int(time.time() * 1000) + row.get("ahead_ms", 0))
    pairs = [(b"k", b"v" * row.get("value_bytes", 1)), (row.get("second_key", "l") and b"l", b"w")]
    changes = dict(row.get("batch", {}))
    if "payload" in changes:
        changes["payload"] = bytes.fromhex(changes["payload"])
    if "plain_attributes" in row:
        plain = b"".join(batch.record(i, key, value) for i, (key, value) in enumerate(pairs))
        changes |= {"payload": plain, "attributes": row["plain_attributes"]}
    made = batch.build(pairs, stamp, **changes)
    if "old_magic" in row:
        made = old_message(row["old_magic"], stamp)
    bend = row.get("bend")
    if bend == "crc":
        made = made[: batch.CRC_AT] + bytes([made[batch.CRC_AT] ^ 1]) + made[batch.CRC_AT + 1 :]
    return {"twice": made * 2, "tail": made + b"\0\0\0", "cut": made[:-5]}.get(bend, made)


def old_message(magic, stamp):
    """One message of the formats before record batches."""
    covered = struct.pack(">bb", magic, 0) + (struct.pack(">q", stamp) if magic else b"")
    covered += struct.pack(">i", 1) + b"k" + struct.pack(">i", 1) + b"v"
    message = struct.pack(">I", batch.zlib.crc32(covered)) + covered
    return struct.pack(">qi", 0, len(message)) + message


def produce_once(broker, version, row, records):
    partition = {"Index": row.get("partition", 0), "Records": records}
    topic = {"Name": row.get("topic", broker.produced), "PartitionData": [partition]}
    answer = broker.call("Produce", version, {"Acks": row.get("acks", -1), "TimeoutMs": 5000, "TopicData": [topic]})
    return answer["Responses"][0]["PartitionResponses"][0]


def produce(broker, row):
    if "records" in row and row["records"] is None:
        broker.connection.socket.settimeout(4)
    one = produce_once(broker, 8, row, records_of(row))
    errors = [[each["BatchIndex"], each["BatchIndexErrorMessage"]] for each in one["RecordErrors"]]
    return [one["ErrorCode"], one["BaseOffset"], one["LogAppendTimeMs"], one["LogStartOffset"], errors, one["ErrorMessage"]]


def produce_idempotent(broker, row):
    producer_id, epoch, sequence = row
    stamp = int(time.time() * 1000)
    records = batch.build([(b"k", b"v")], stamp, producer_id=producer_id, producer_epoch=epoch, sequence=sequence)
    one = produce_once(broker, 7, {"topic": broker.sequenced}, records)
    return [one["ErrorCode"], one["BaseOffset"]]


def fetch(broker, row):
    partition = {
        "Partition": row.get("partition", 0),
        "FetchOffset": row.get("offset", 0),
        "PartitionMaxBytes": row.get("bytes_max", 1 << 20),
    }
    body = {
        "MaxWaitMs": FETCH_WAIT_MS,
        "MinBytes": 1,
        "MaxBytes": row.get("bytes_max", 1 << 20),
        "IsolationLevel": row.get("isolation", 0),
        "Topics": [{"Topic": row.get("topic", broker.topic), "Partitions": [partition]}],
    }
    one = broker.call("Fetch", 4, body)["Responses"][0]["Partitions"][0]
    return [one["ErrorCode"], one["HighWatermark"], one["LastStableOffset"], "some" if one["Records"] else "none"]


def fetch_session(broker, row):
    partition = {"Partition": 0, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20}
    body = {"MaxWaitMs": FETCH_WAIT_MS, "MinBytes": 1, "MaxBytes": 1 << 20}
    if "id" in row:
        body["Topics"] = [{"TopicId": os.urandom(16), "Partitions": [partition]}]
    else:
        body |= {"SessionId": row["session"], "SessionEpoch": row["epoch"]}
    answer = broker.call("Fetch", 13, body)
    errors = [one["ErrorCode"] for topic in answer["Responses"] for one in topic["Partitions"]]
    return [answer["ErrorCode"], answer["SessionId"], errors]


def list_offsets(broker, row):
    version, timestamp, more, topic = (row + [{}, broker.empty][len(row) - 2 :])[:4]
    partition = {"PartitionIndex": 0, "CurrentLeaderEpoch": -1, "Timestamp": timestamp} | more
    body = {"ReplicaId": -1, "IsolationLevel": 0, "Topics": [{"Name": topic, "Partitions": [partition]}], "TimeoutMs": 5000}
    one = broker.call("ListOffsets", version, body)["Topics"][0]["Partitions"][0]
    return [one["ErrorCode"], one["Timestamp"], one["Offset"], one["LeaderEpoch"]]


def delete_records(broker, row):
    topic, partition, offset = row
    body = {"Topics": [{"Name": topic, "Partitions": [{"PartitionIndex": partition, "Offset": offset}]}], "TimeoutMs": 5000}
    one = broker.call("DeleteRecords", 1, body)["Topics"][0]["Partitions"][0]
    return [one["PartitionIndex"], one["LowWatermark"], one["ErrorCode"]]


def find_coordinator(broker, row):
    key, kind = row
    for _ in range(50):
        one = broker.call("FindCoordinator", 1, {"Key": key, "KeyType": kind})
        if one["ErrorCode"] != 15:  # COORDINATOR_NOT_AVAILABLE: its topic is being created
            break
        time.sleep(0.2)
    return [one["ErrorCode"], one["ErrorMessage"], one["NodeId"], one["Host"], one["Port"]]


def group_errors(broker, row):
    name, version, body = row
    return broker.call(name, version, body)["ErrorCode"]


def join_group(broker, row):
    body = {
        "GroupId": broker.group,
        "SessionTimeoutMs": 10000,
        "RebalanceTimeoutMs": 10000,
        "ProtocolType": "consumer",
        "Protocols": [{"Name": "range", "Metadata": b"\0\1\0\0\0\0\xff\xff\xff\xff"}],
    } | row
    one = broker.call("JoinGroup", 5, body)
    return [one["ErrorCode"], one["GenerationId"], one["ProtocolName"] or "", one["Leader"], one["MemberId"]]


def offset_commit(broker, row):
    partitions = [
        {
            "PartitionIndex": partition,
            "CommittedOffset": row.get("offset", 1),
            "CommittedMetadata": "m" * row.get("metadata_bytes", 0),
        }
        for partition in row.get("partitions", [0])
    ]
    body = {
        "GroupId": row.get("group", broker.group),
        "GenerationIdOrMemberEpoch": row.get("GenerationIdOrMemberEpoch", -1),
        "MemberId": row.get("MemberId", ""),
        "Topics": [{"Name": row.get("topic", broker.topic), "Partitions": partitions}],
    }
    answer = broker.call("OffsetCommit", 7, body)
    return sorted([one["PartitionIndex"], one["ErrorCode"]] for topic in answer["Topics"] for one in topic["Partitions"])


def offset_fetch(broker, row):
    topics = [{"Name": row.get("topic", broker.topic), "PartitionIndexes": [0]}]
    if row.get("version", 5) == 9:
        group = {"GroupId": row["group"], "MemberId": row.get("MemberId"), "MemberEpoch": row.get("MemberEpoch", -1)}
        one = broker.call("OffsetFetch", 9, {"Groups": [group | {"Topics": None}]})["Groups"][0]
        return [f"{len(one['Topics'])} topics", one["ErrorCode"]]
    answer = broker.call("OffsetFetch", 5, {"GroupId": row["group"], "Topics": None if row.get("all") else topics})
    found = [
        [topic["Name"], one["PartitionIndex"], one["CommittedOffset"], one["Metadata"], one["ErrorCode"]]
        for topic in answer["Topics"]
        for one in topic["Partitions"]
    ]
    return [answer["ErrorCode"], found]


def describe_groups(broker, row):
    version, group = row
    one = broker.call("DescribeGroups", version, {"Groups": [group]})["Groups"][0]
    return [one["ErrorCode"], one.get("ErrorMessage"), *(one[name] for name in ("GroupId", "GroupState", "ProtocolType", "ProtocolData"))]


def delete_groups(broker, row):
    answer = broker.call("DeleteGroups", 1, {"GroupsNames": row})
    return [[one["GroupId"], one["ErrorCode"]] for one in answer["Results"]]


def offset_delete(broker, row):
    topics = [{"Name": row["topic"], "Partitions": [{"PartitionIndex": row["partition"]}]}]
    answer = broker.call("OffsetDelete", 0, {"GroupId": row["group"], "Topics": topics})
    found = [
        [topic["Name"], [[one["PartitionIndex"], one["ErrorCode"]] for one in topic["Partitions"]]]
        for topic in answer["Topics"]
    ]
    return [answer["ErrorCode"], found]


def init_producer_id(broker, row):
    transactional_id, timeout = row
    one = broker.call("InitProducerId", 1, {"TransactionalId": transactional_id, "TransactionTimeoutMs": timeout})
    return [one["ErrorCode"], one["ProducerId"], one["ProducerEpoch"]]


def describe_configs(broker, row):
    resource = {"ResourceType": row["type"], "ResourceName": row["name"], "ConfigurationKeys": row.get("keys")}
    one = broker.call("DescribeConfigs", 1, {"Resources": [resource], "IncludeSynonyms": False})["Results"][0]
    return [one["ErrorCode"], one["ErrorMessage"] or "", bool(one["Configs"])]


def alter_configs_incrementally(broker, row):
    configs = [dict(zip(("Name", "ConfigOperation", "Value"), one)) for one in row["configs"]]
    resource = {"ResourceType": row.get("type", 2), "ResourceName": row.get("name", broker.topic), "Configs": configs}
    body = {"Resources": [resource] * row.get("times", 1), "ValidateOnly": row.get("validate", False)}
    return [one["ErrorCode"] for one in broker.call("IncrementalAlterConfigs", 0, body)["Responses"]]


def elect_leaders(broker, row):
    topic = {"Topic": row.get("topic", broker.topic), "Partitions": [0]}
    body = {"ElectionType": row["kind"], "TopicPartitions": [topic], "TimeoutMs": 5000}
    answer = broker.call("ElectLeaders", 1, body)
    found = [
        [topic["Topic"], [[one["PartitionId"], one["ErrorCode"], one["ErrorMessage"]] for one in topic["PartitionResult"]]]
        for topic in answer["ReplicaElectionResults"]
    ]
    return [answer["ErrorCode"], found]


def offset_for_leader_epoch(broker, row):
    row = dict(row)
    topic = row.pop("topic", broker.topic)
    partition = {"Partition": 0, "CurrentLeaderEpoch": -1} | row
    body = {"ReplicaId": -1, "Topics": [{"Topic": topic, "Partitions": [partition]}]}
    one = broker.call("OffsetForLeaderEpoch", 3, body)["Topics"][0]["Partitions"][0]
    return [one["ErrorCode"], one["LeaderEpoch"], one["EndOffset"]]


API_OF = {
    api_versions: "ApiVersions", create_topics: "CreateTopics", delete_topics: "DeleteTopics",
    create_partitions: "CreatePartitions", metadata: "Metadata", produce: "Produce", produce_idempotent: "Produce",
    fetch: "Fetch", fetch_session: "Fetch", list_offsets: "ListOffsets", delete_records: "DeleteRecords",
    find_coordinator: "FindCoordinator", join_group: "JoinGroup", offset_commit: "OffsetCommit",
    offset_fetch: "OffsetFetch", describe_groups: "DescribeGroups", delete_groups: "DeleteGroups",
    offset_delete: "OffsetDelete", init_producer_id: "InitProducerId", describe_configs: "DescribeConfigs",
    offset_for_leader_epoch: "OffsetForLeaderEpoch", alter_configs_incrementally: "IncrementalAlterConfigs",
    elect_leaders: "ElectLeaders",
}
SECTIONS = {one.__name__: one for one in [*API_OF, unknown_requests, group_errors]}
