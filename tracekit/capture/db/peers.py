"""Who is called, as people write it: `127.0.0.1:5432`, `[::1]:5432`, the path of a Unix socket or of a file."""

from __future__ import annotations

import socket

from tracekit.capture import wire
from tracekit.capture.readings import comm_text

_MAPPED = bytes(10) + b"\xff\xff"
"""An IPv4 address in an IPv6 one (RFC 4291): a socket of either family reaches the same server."""


def peer_text(raw: bytes) -> str:
    """
    Return a struct peer in words, "" if it has no address.

    Paths and names of sockets are any bytes that somebody chose: they are as unsafe as names of processes.
    """
    family, port, address = wire.PEER.unpack(raw)
    if family == socket.AF_INET:
        return f"{socket.inet_ntop(socket.AF_INET, address[:4])}:{port}"
    if family == socket.AF_INET6:
        if address.startswith(_MAPPED):
            return f"{socket.inet_ntop(socket.AF_INET, address[12:16])}:{port}"
        return f"[{socket.inet_ntop(socket.AF_INET6, address[:16])}]:{port}"
    if family == socket.AF_UNIX and address[0] == 0:
        return _abstract(address[1:].rstrip(b"\0"))
    return comm_text(address)


def _abstract(name: bytes) -> str:
    """Return the name of a socket that has no file, as ss(8) shows it."""
    return "@" + name.replace(b"\0", b"@").decode("utf-8", "backslashreplace") if name else ""
