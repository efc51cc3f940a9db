"""Connections as they are now: gauges of each tick, and what waits for an answer at the end."""

from __future__ import annotations

import pytest

from tests.unit.test_db_words import IPV4, POSTGRESQL, REDIS, peer
from tracekit.capture import wire
from tracekit.capture.db.connections import MOST_LEFT, Connections
from tracekit.capture.db.words import Words

NOW = 10_000
FREE = [5432, 6379]


def connection(start: int = 0, last: int = 0, role: int = 1, about: int = POSTGRESQL, **more: int) -> bytes:
    """A struct connection."""
    more = {"peer": 1, "operation": 1, "rest": 0} | more
    numbers = [start, 0, last, *[0] * 13, role, more["peer"], more["operation"], 0, 0, about, 0, more["rest"]]
    return wire.CONNECTION.pack(*numbers, 0, b"", *[0] * 8)


class Sockets:
    """The map of connections, which a test fills."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def read(self) -> list[bytes]:
        return self.pieces


@pytest.fixture
def sockets() -> Sockets:
    return Sockets()


@pytest.fixture
def connections(sockets: Sockets) -> Connections:
    peers = bytes(wire.PEER.size) + b"".join(peer(2, IPV4, port) for port in FREE)
    names = b"".join(word.ljust(wire.DB_NAME_LEN, b"\0") for word in (b"", b"SELECT", b"GET", b"BLPOP"))
    words = Words(
        peers.ljust(wire.PEER.size * wire.MAX_PEERS, b"\0"),
        names.ljust(wire.DB_NAME_LEN * wire.MAX_DB_NAMES, b"\0"),
    )
    return Connections(sockets.read, words, {1: "app", 2: "app", 3: "worker"}.__getitem__)


def gauges(connections: Connections) -> dict[str, float]:
    found = connections.gauges(NOW)
    return {" ".join((series.metric, *dict(series.labels).values())): value for series, value in found.items()}


def test_nothing_seen_is_no_gauge(sockets: Sockets, connections: Connections) -> None:
    """A program without a database has no rows of zeros."""
    sockets.pieces = [b""]

    assert connections.gauges(NOW) == {}


def test_connections_and_calls_are_counted_by_system_and_role(sockets: Sockets, connections: Connections) -> None:
    """In pieces as the kernel gives them; two names of one role are one series."""
    sockets.pieces = [
        connection() + connection(start=NOW - 70) + connection(start=NOW - 30, role=2),
        connection(start=NOW - 5, role=3, about=REDIS | wire.DB_TLS, peer=2, operation=2),
    ]

    assert gauges(connections) == {
        "db.connections 127.0.0.1:5432 app postgresql": 3,
        "db.in_flight app postgresql": 2,
        "db.in_flight.age app postgresql": 70,
        "db.connections 127.0.0.1:6379 worker redis": 1,
        "db.in_flight worker redis": 1,
        "db.in_flight.age worker redis": 5,
    }


def test_calls_that_exist_to_wait_are_apart(sockets: Sockets, connections: Connections) -> None:
    """Who waits for work for an hour does not hide a call that hangs, nor look like one; of Redis alone."""
    at = {"about": REDIS, "peer": 2}
    idle = [connection(start=NOW - 900, operation=3, **at), connection(start=NOW - 800, operation=3, **at)]
    sockets.pieces = [b"".join(idle), connection(start=NOW - 70, operation=3)]

    assert gauges(connections) == {
        "db.connections 127.0.0.1:6379 app redis": 2,
        "db.in_flight app redis": 0,
        "db.in_flight.age app redis": 0,
        "db.in_flight BLPOP app redis": 2,
        "db.in_flight.age BLPOP app redis": 900,
        "db.connections 127.0.0.1:5432 app postgresql": 1,
        "db.in_flight app postgresql": 1,
        "db.in_flight.age app postgresql": 70,
    }


def test_a_call_that_is_answered_is_not_in_flight(sockets: Sockets, connections: Connections) -> None:
    """Its end may be settled only when the next call begins; an answer of which more is announced is one."""
    sockets.pieces = [connection(start=NOW - 70, last=NOW - 10) + connection(start=NOW - 40, last=NOW - 10, rest=9)]

    found = gauges(connections)

    assert (found["db.in_flight app postgresql"], found["db.in_flight.age app postgresql"]) == (1, 40)


def test_what_has_gone_is_none(sockets: Sockets, connections: Connections) -> None:
    """A gauge that was there does not keep its last value: 0 is a fact."""
    sockets.pieces = [connection(start=NOW - 70)]
    before = gauges(connections)
    sockets.pieces = []

    after = gauges(connections)

    assert before.keys() == after.keys()
    assert (set(before.values()), set(after.values())) == ({1, 70}, {0})


def test_a_call_that_began_after_the_clock_was_read_has_no_age(sockets: Sockets, connections: Connections) -> None:
    """Never a negative one."""
    sockets.pieces = [connection(start=NOW + 5)]

    assert gauges(connections)["db.in_flight.age app postgresql"] == 0
    assert connections.under_way(NOW)[0]["age_ns"] == 0


def test_what_is_no_database_is_left_out(sockets: Sockets, connections: Connections) -> None:
    """A connection whose protocol is not known yet, or a number that no system has."""
    sockets.pieces = [connection(start=1, about=0) + connection(start=1, about=15)]

    assert (gauges(connections), connections.under_way(NOW)) == ({}, [])


def test_at_the_end_the_oldest_calls_are_named(sockets: Sockets, connections: Connections) -> None:
    """Equal ones together, the oldest first."""
    waiting = [connection(start=NOW - 70), connection(start=NOW - 90), connection(), connection(start=NOW - 80, role=3)]
    sockets.pieces = [b"".join(waiting)]

    about = {"system": "postgresql", "peer": "127.0.0.1:5432", "operation": "SELECT"}
    assert connections.under_way(NOW) == [
        {"role": "app", **about, "calls": 2, "age_ns": 90},
        {"role": "worker", **about, "calls": 1, "age_ns": 80},
    ]


def test_the_end_names_a_bounded_number(sockets: Sockets, connections: Connections) -> None:
    """Peers are many where somebody wants them to be."""
    sockets.pieces = [connection(start=1 + number, peer=number) for number in range(MOST_LEFT + 9)]

    assert len(connections.under_way(NOW)) == MOST_LEFT
