"""One blocking connection to a broker.

Owns the socket and the correlation ids. Answers come in the order of the requests, as
the protocol promises; an answer with another correlation id is an error.
"""

import socket
import struct

from wire import codec

FRAME_BYTES_MAX = 256 * 1024 * 1024


class Closed(Exception):
    """The broker ended the connection."""


class Silent(Exception):
    """No answer within the time given."""


def address_of(bootstrap):
    host, _, port = bootstrap.rpartition(":")
    return host.strip("[]"), int(port)


class Connection:
    def __init__(self, bootstrap, timeout_s=15.0):
        self.socket = socket.create_connection(address_of(bootstrap), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, name, version, body):
        api = codec.APIS[name]
        self.correlation += 1
        self.send_frame(codec.request_frame(api, version, self.correlation, body))
        return self.correlation

    def send_frame(self, frame):
        try:
            self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        except TimeoutError:
            raise Silent() from None
        except OSError as error:
            raise Closed(str(error)) from None

    def receive_exactly(self, count):
        parts = []
        while count:
            try:
                part = self.socket.recv(min(count, 1 << 20))
            except TimeoutError:
                raise Silent() from None
            except OSError as error:
                raise Closed(str(error)) from None
            if not part:
                raise Closed("end of stream")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def receive_frame(self):
        (length,) = struct.unpack(">i", self.receive_exactly(4))
        if not 0 <= length <= FRAME_BYTES_MAX:
            raise codec.Malformed(f"answer of {length} bytes")
        return self.receive_exactly(length)

    def receive(self, name, version, wanted):
        correlation, message = codec.decode_response(codec.APIS[name], version, self.receive_frame())
        if correlation != wanted:
            raise codec.Malformed(f"answer to {correlation}, not to {wanted}")
        return message

    def call(self, name, version, body):
        return self.receive(name, version, self.send(name, version, body))
