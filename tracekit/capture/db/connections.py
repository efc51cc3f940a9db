"""Connections to databases as they are now, and the calls on them that wait for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import wire
from tracekit.capture.bpf import syscall
from tracekit.capture.db.words import system_of
from tracekit.records import Series, labels_of
from tracekit.waiting import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracekit.capture.db.words import Words

AT_A_TIME = 1024
"""Connections read by one system call."""
MOST_LEFT = 100
"""Kinds of calls under way that a recording names at its end, the oldest first."""


class Kind(NamedTuple):
    """What connections have in common, in numbers."""

    role: int
    peer: int
    operation: int
    """Of the call under way; 0: there is none."""
    about: int


class Calls(NamedTuple):
    """Connections of one kind: how many, on how many of them a call is under way, since when at the longest."""

    connections: int
    under_way: int
    since_ns: int
    """Of no call: later than any."""


class Connections:
    """
    Connections to databases, as they are now.

    Args:
        read: returns the values of the map of connections, in pieces.
        words: what their numbers are called. role: id of a process's name → role.
    """

    def __init__(self, read: Callable[[], Iterable[bytes]], words: Words, role: Callable[[int], str]) -> None:
        self._read = read
        self._words = words
        self._role = role
        self._known: set[Series] = set()

    def gauges(self, now_ns: int) -> dict[Series, float]:
        """
        Return how many are open, how many calls are under way, and the age of the oldest, ns.

        Those that exist to wait are apart, by operation: how old they are is no measure of anything else.
        What was there once is 0 from then on: that it is gone is a fact.
        """
        found = dict.fromkeys(self._known, 0.0)
        for kind, calls in kinds(self._read()).items():
            where = self._words.about(kind.about, kind.peer) | {"role": self._role(kind.role)}
            connected = _gauge("db.connections", where)
            found[connected] = found.get(connected, 0) + calls.connections
            whose = {name: where[name] for name in ("system", "role")}
            found = dict.fromkeys(_under_way(whose), 0.0) | found
            number, age = _under_way(whose | self._waiting(whose["system"], kind.operation))
            found[number] = found.get(number, 0) + calls.under_way
            found[age] = max(found.get(age, 0), now_ns - calls.since_ns)
        self._known |= found.keys()
        return found

    def _waiting(self, system: str, operation: int) -> dict[str, str]:
        name = self._words.name(operation)
        return {"operation": name} if (system, name) in OPERATIONS else {}

    def under_way(self, now_ns: int) -> list[dict[str, str | int]]:
        """
        Return the calls that wait for an answer: how many of a role, system, peer and operation, and the oldest's age.

        Keys: `role`, `system`, `peer`, `operation`, `calls`, `age_ns`; the oldest first.
        """
        waiting = [(kind, calls) for kind, calls in kinds(self._read()).items() if calls.under_way]
        waiting.sort(key=lambda item: item[1].since_ns)
        return [
            {
                "role": self._role(kind.role),
                **self._words.about(kind.about, kind.peer),
                "operation": self._words.name(kind.operation),
                "calls": calls.under_way,
                "age_ns": max(0, now_ns - calls.since_ns),
            }
            for kind, calls in waiting[:MOST_LEFT]
        ]


def reader(descriptor: int) -> Callable[[], Iterable[bytes]]:
    """Return what reads the map of connections, a u64 each to a struct connection."""
    return lambda: syscall.map_values(descriptor, 8, wire.CONNECTION.size, AT_A_TIME)


def kinds(pieces: Iterable[bytes]) -> dict[Kind, Calls]:
    """Count connections, struct connection after struct connection; they may be thousands."""
    found: dict[tuple[int, ...], list[int]] = {}
    for piece in pieces:
        for fields in wire.CONNECTION.iter_unpack(piece):
            begun, answered = fields[_START], fields[_LAST] and not fields[_REST]
            since = begun if begun and not answered else _NEVER
            kind = fields[_ROLE], fields[_PEER], 0 if since == _NEVER else fields[_OPERATION], fields[_ABOUT]
            calls = found.setdefault(kind, [0, 0, _NEVER])
            calls[0] += 1
            calls[1] += since != _NEVER
            calls[2] = min(calls[2], since)
    return {Kind(*kind): Calls(*calls) for kind, calls in found.items() if system_of(kind[3])}


_START, _LAST, _ROLE, _PEER, _OPERATION, _ABOUT, _REST = 0, 2, 16, 17, 18, 21, 23
_NEVER = (1 << 64) - 1


def _under_way(whose: dict[str, str]) -> tuple[Series, Series]:
    return _gauge("db.in_flight", whose), _gauge("db.in_flight.age", whose, "ns")


def _gauge(metric: str, labels: dict[str, str], unit: str = "count") -> Series:
    return Series(metric, labels_of(labels), "gauge", unit)
