"""At which ports databases listen: where a protocol is expected before a byte of it was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.bpf import syscall
from tracekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULTS = ((5432, "postgresql"), (6432, "postgresql"), (3306, "mysql"), (6379, "redis"), (27017, "mongodb"))
"""6432 is PgBouncer's."""
SYSTEMS = ("postgresql", "mysql", "redis", "mongodb")
"""Those that listen anywhere."""
MOST = 64
"""MAX_PORTS of bpf/dialogue.bpf.h."""


def write(descriptor: int, ports: Iterable[tuple[int, str]]) -> None:
    """Fill the map of ports; of one port given twice the last system counts. Raises UsageError if they are too many."""
    expected = dict((*DEFAULTS, *ports))
    if len(expected) > MOST:
        raise UsageError(f"cannot expect databases at {len(expected)} ports: {MOST} are the most", "fewer --db-port")
    for port, system in expected.items():
        syscall.map_update(descriptor, port.to_bytes(2, "little"), bytes([wire.DB_SYSTEMS.index(system)]))
