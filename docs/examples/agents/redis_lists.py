"""
Redis lists as queues: the three commands this example needs.

The wire format is short, and without a client library the example has nothing to
install. A real system would use redis-py, which makes the same system calls.
"""

from __future__ import annotations

import socket

from tracekit import Kind

PUSH = Kind("db.query", system="redis", query="rpush")


class RedisLists:
    """
    A connection to a Redis server on this machine.

    Raises:
        ConnectionError: there is no server, or it has gone; from any method.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")

    def push(self, key: str, value: str) -> None:
        """Append *value* to the list *key*."""
        with PUSH():
            self._call("RPUSH", key, value)

    def length(self, key: str) -> int:
        """Return how many values the list *key* has."""
        answer = self._call("LLEN", key)
        return answer if isinstance(answer, int) else 0

    def pop(self, key: str, timeout_s: int) -> bytes | None:
        """Take the first value of the list *key*; None if none came in time."""
        answer = self._call("BLPOP", key, str(timeout_s))
        return answer[1] if isinstance(answer, list) else None

    def _call(self, *words: str) -> int | bytes | list[bytes] | None:
        parts = [word.encode() for word in words]
        body = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%s" % (len(parts), body))
        return self._read()

    def _read(self) -> int | bytes | list[bytes] | None:
        """Return one value of the protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/."""
        line = self._lines.readline()
        if not line:
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ConnectionError(f"redis said {rest.decode()}")
        if kind == b"+":
            return rest
        number = int(rest)
        if kind == b":" or number < 0:
            return number if kind == b":" else None
        if kind == b"$":
            return self._lines.read(number + 2)[:-2]
        return [value for value in (self._read() for _ in range(number)) if isinstance(value, bytes)]
