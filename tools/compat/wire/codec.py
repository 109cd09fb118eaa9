"""Encodes and decodes Kafka messages from the schema lines of schemas.txt.

Pure. A message is a dict of field name to value; a missing field takes its default.
Encoding checks nothing beyond the types, so that wrong requests can be made on purpose;
decoding is strict: it raises `Malformed` for bytes that are missing or left over.
"""

import dataclasses
import pathlib
import re
import struct
from dataclasses import dataclass, field

SCHEMAS = pathlib.Path(__file__).resolve().parent / "schemas.txt"
ANY_VERSION = 32767
INTEGERS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q", "float64": ">d"}


class Malformed(Exception):
    """The bytes are not the message that the schema describes."""


@dataclass
class Field:
    name: str
    type: str
    versions: tuple
    nullable: tuple | None
    default: object
    tag: int | None
    tag_versions: tuple | None
    fields: list = field(default_factory=list)


@dataclass
class Api:
    key: int
    name: str
    versions: tuple
    flexible_from: int
    request: list
    response: list

    def flexible(self, version):
        return version >= self.flexible_from


def within(version, span):
    return span is not None and span[0] <= version <= span[1]


def span_of(text):
    if text == "none":
        return (ANY_VERSION, -1)
    if text.endswith("+"):
        return (int(text[:-1]), ANY_VERSION)
    low, _, high = text.partition("-")
    return (int(low), int(high or low))


def field_of(line):
    words = re.split(r"\s{2,}", line.strip())
    name, kind = words[0].split(": ")
    made = Field(name, kind, span_of(words[1]), None, None, None, None)
    default = None
    for word in words[2:]:
        if word.startswith("null "):
            made.nullable = span_of(word[5:])
        elif word.startswith("= "):
            default = word[2:].strip('"')
        elif word.startswith("tag "):
            number, versions = word[4:].split()
            made.tag, made.tag_versions = int(number), span_of(versions)
    made.default = default_of(kind, default)
    return made


def default_of(kind, text):
    if text == "null":
        return None
    if kind in INTEGERS:
        return float(text or 0) if kind == "float64" else int(text or "0", 0)
    if kind == "bool":
        return text == "true"
    if kind.startswith("[]"):
        return []
    return {"string": text or "", "bytes": b"", "records": b"", "uuid": bytes(16)}.get(kind, {})


def load(path=SCHEMAS):
    """Reads the schema file; returns API name -> Api."""
    apis = {}
    api = part = None
    stack = []
    for line in path.read_text().splitlines():
        if line.startswith("== "):
            key, name, versions, flexible = re.match(r"== (\d+) (\w+)  versions (\S+)  flexible (\S+)", line).groups()
            api = Api(int(key), name, span_of(versions), span_of(flexible)[0], [], [])
            apis[name] = api
        elif line.startswith("-- "):
            part = api.request if line == "-- request" else api.response
            stack = []
        elif line.startswith("  ") and part is not None:
            depth = (len(line) - len(line.lstrip())) // 2 - 1
            made = field_of(line)
            del stack[depth:]
            (stack[-1].fields if stack else part).append(made)
            stack.append(made)
    return apis


APIS = load()
BY_KEY = {api.key: api for api in APIS.values()}


def unsigned_varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value):
    return unsigned_varint((value << 1) ^ (value >> 63) if value < 0 else value << 1)


def as_it_is(length, limit):
    """The length that gets written for `length`; `limit` is the largest that fits the field."""
    return length


length_written = as_it_is  # replaced by programs that write wrong lengths on purpose


def length_bytes(length, flexible, wide):
    if flexible:
        return unsigned_varint(max(length_written(length, 0xFFFFFFFE) + 1, 0))
    limit = 0x7FFFFFFF if wide else 0x7FFF
    return struct.pack(">i" if wide else ">h", max(-limit - 1, min(limit, length_written(length, limit))))


def sized(content, flexible, wide):
    """A string (16-bit length) or byte field (32-bit length, `wide`); None is null."""
    return length_bytes(-1, flexible, wide) if content is None else length_bytes(len(content), flexible, wide) + content


def element(array):
    """The field of an array's elements: a nullable array has elements that are not."""
    return dataclasses.replace(array, nullable=None)


def encode_value(kind, one, value, version, flexible):
    if kind in INTEGERS:
        return struct.pack(INTEGERS[kind], value)
    if kind == "bool":
        return struct.pack(">b", bool(value))
    if kind == "uuid":
        return value
    if kind == "string":
        return sized(value.encode() if isinstance(value, str) else value, flexible, False)
    if kind in ("bytes", "records"):
        return sized(value, flexible, True)
    if kind.startswith("[]"):
        if value is None:
            return length_bytes(-1, flexible, True)
        return length_bytes(len(value), flexible, True) + b"".join(encode_value(kind[2:], element(one), each, version, flexible) for each in value)
    if value is None:
        return b"\xff"
    marker = b"\1" if within(version, one.nullable) else b""
    return marker + encode(one.fields, value, version, flexible)


def encode(fields, message, version, flexible):
    """A struct's fields in order, then its tagged ones."""
    unknown = set(message) - {one.name for one in fields}
    if unknown:
        raise KeyError(f"no such fields: {sorted(unknown)}")
    out = []
    tagged = {}
    for one in fields:
        value = message.get(one.name, one.default)
        if flexible and within(version, one.tag_versions):
            if one.name in message:
                tagged[one.tag] = encode_value(one.type, one, value, version, flexible)
        elif within(version, one.versions):
            out.append(encode_value(one.type, one, value, version, flexible))
    if flexible:
        out.append(unsigned_varint(max(length_written(len(tagged), 0xFFFFFFFF), 0)))
        for tag, content in sorted(tagged.items()):
            out.append(unsigned_varint(tag) + unsigned_varint(len(content)) + content)
    return b"".join(out)


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise Malformed(f"{count} bytes wanted at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind):
        shape = INTEGERS[kind]
        return struct.unpack(shape, self.take(struct.calcsize(shape)))[0]

    def unsigned_varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise Malformed("endless varint")

    def varint(self):
        value = self.unsigned_varint()
        return (value >> 1) ^ -(value & 1)

    def length(self, flexible, wide):
        if flexible:
            return self.unsigned_varint() - 1
        return self.number("int32" if wide else "int16")

    def skip_tags(self):
        for _ in range(self.unsigned_varint()):
            self.unsigned_varint()
            self.take(self.unsigned_varint())

    def done(self):
        return self.at == len(self.data)


def decode_value(kind, one, reader, version, flexible):
    if kind in INTEGERS:
        return reader.number(kind)
    if kind == "bool":
        return reader.take(1) != b"\0"
    if kind == "uuid":
        return bytes(reader.take(16))
    if kind in ("string", "bytes", "records"):
        length = reader.length(flexible, kind != "string")
        if length < 0:
            return None
        content = bytes(reader.take(length))
        return content.decode() if kind == "string" else content
    if kind.startswith("[]"):
        count = reader.length(flexible, True)
        if count < 0:
            return None
        return [decode_value(kind[2:], element(one), reader, version, flexible) for _ in range(count)]
    if within(version, one.nullable) and reader.number("int8") < 0:
        return None
    return decode(one.fields, reader, version, flexible)


def decode(fields, reader, version, flexible):
    message = {}
    tagged = {}
    for one in fields:
        if flexible and within(version, one.tag_versions):
            tagged[one.tag] = one
            message[one.name] = one.default
        elif within(version, one.versions):
            message[one.name] = decode_value(one.type, one, reader, version, flexible)
    if flexible:
        for _ in range(reader.unsigned_varint()):
            tag = reader.unsigned_varint()
            content = Reader(reader.take(reader.unsigned_varint()))
            if tag in tagged:
                one = tagged[tag]
                message[one.name] = decode_value(one.type, one, content, version, flexible)
    return message


def request_frame(api, version, correlation, body, client_id=b"compat"):
    """A whole request without its length prefix; `body` is a message or raw bytes."""
    flexible = api.flexible(version)
    head = struct.pack(">hhi", api.key, version, correlation) + sized(client_id, False, False)
    if flexible:
        head += b"\0"
    return head + (encode(api.request, body, version, flexible) if isinstance(body, dict) else body)


def decode_response(api, version, payload):
    """Returns (correlation id, message)."""
    reader = Reader(payload)
    correlation = reader.number("int32")
    flexible = api.flexible(version)
    if flexible and api.name != "ApiVersions":
        reader.skip_tags()
    message = decode(api.response, reader, version, flexible)
    if not reader.done():
        raise Malformed(f"{api.name} v{version}: {len(payload) - reader.at} bytes left over")
    return correlation, message
