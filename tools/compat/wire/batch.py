"""Record batches, version 2: builds them (also wrong ones) and reads them back.

Pure. The CRC is Castagnoli over everything behind it; `build` computes it last, so a
caller can bend any field and still have a batch whose CRC is right.
"""

import struct
import zlib

from wire import codec
from wire.codec import Malformed, Reader, varint

HEADER_BYTES = 61
CRC_AT = 17
CRC_COVERS_FROM = 21
GZIP = 1
LOG_APPEND_TIME = 8
TRANSACTIONAL = 16
CONTROL = 32


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    table = TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def record(delta, key, value, headers=(), timestamp_delta=0):
    def piece(content):
        length = codec.length_written(-1 if content is None else len(content), 0x7FFFFFFF)
        return varint(length) + (content or b"")

    count = codec.length_written(len(headers), 0x7FFFFFFF)
    body = b"\0" + varint(timestamp_delta) + varint(delta) + piece(key) + piece(value) + varint(count)
    for name, content in headers:
        body += piece(name) + piece(content)
    return varint(codec.length_written(len(body), 0x7FFFFFFF)) + body


def build(records, timestamp, *, base_offset=0, magic=2, attributes=0, count=None, last_offset_delta=None,
          max_timestamp=None, producer_id=-1, producer_epoch=-1, sequence=-1, payload=None, leader_epoch=-1):
    """`records`: (key, value) pairs. `payload` stands in for their encoding."""
    if payload is None:
        payload = b"".join(record(i, key, value) for i, (key, value) in enumerate(records))
        if attributes & 7 == GZIP:
            payload = zlib.compress(payload, wbits=31)
    count = codec.length_written(len(records), 0x7FFFFFFF) if count is None else count
    last = len(records) - 1 if last_offset_delta is None else last_offset_delta
    latest = timestamp if max_timestamp is None else max_timestamp
    covered = struct.pack(">hiqqqhii", attributes, last, timestamp, latest, producer_id, producer_epoch, sequence, count)
    covered += payload
    length = codec.length_written(4 + 1 + 4 + len(covered), 0x7FFFFFFF)
    return struct.pack(">qiibI", base_offset, length, leader_epoch, magic, crc32c(covered)) + covered


def parse(data, check_crc=True):
    """Yields (base offset, leader epoch, crc is right, [(offset, timestamp, key, value)]) for each whole batch."""
    at = 0
    while at + HEADER_BYTES <= len(data):
        base, length, epoch, magic, crc = struct.unpack_from(">qiibI", data, at)
        end = at + 12 + length
        if magic != 2 or length < HEADER_BYTES - 12:
            raise Malformed(f"batch with magic {magic} and length {length}")
        if end > len(data):
            return
        covered = data[at + CRC_COVERS_FROM : end]
        attributes, _, first, _, _, _, _, count = struct.unpack_from(">hiqqqhii", covered)
        payload = covered[HEADER_BYTES - CRC_COVERS_FROM :]
        if attributes & 7 == GZIP:
            payload = zlib.decompress(payload, wbits=47)
        elif attributes & 7:
            raise Malformed(f"codec {attributes & 7} is not for this reader")
        yield base, epoch, not check_crc or crc32c(covered) == crc, parse_records(payload, base, first, count)
        at = end


def parse_records(payload, base, first, count):
    reader = Reader(payload)
    found = []
    for _ in range(count):
        one = Reader(reader.take(reader.varint()))
        one.take(1)
        timestamp = first + one.varint()
        offset = base + one.varint()
        parts = []
        for _ in range(2):
            length = one.varint()
            parts.append(None if length < 0 else bytes(one.take(length)))
        found.append((offset, timestamp, *parts))
    return found
