"""What rows of calls of databases are called; names are chosen by whoever is traced, or talks to it."""

from __future__ import annotations

import json
import socket

import pytest

from tracekit.capture import wire
from tracekit.capture.db.peers import peer_text
from tracekit.capture.db.words import Words
from tracekit.capture.naming import Names
from tracekit.capture.readings import Account, Key, Parts
from tracekit.capture.spans import Breakdown
from tracekit.records import WAITS, Series, labels_of

POSTGRESQL, REDIS, SQLITE = (wire.DB_SYSTEMS.index(name) for name in ("postgresql", "redis", "sqlite"))
IPV4, IPV6 = socket.inet_aton("127.0.0.1"), socket.inet_pton(socket.AF_INET6, "::1")
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:10.0.0.7")
OPERATIONS = ("", "SELECT", "42P01", "-", "\x1b[2J\u202e")
SPAN = 9


def peer(family: int, address: bytes, port: int = 0) -> bytes:
    """A struct peer."""
    return wire.PEER.pack(family, port, address)


PEERS = (bytes(wire.PEER.size), peer(socket.AF_INET, IPV4, 5432), peer(0, b"/usr/lib/libsqlite3.so.0"))


@pytest.fixture
def names() -> Names:
    """Names as a session has them, of memory as the kernel would fill it."""
    words = Words(
        b"".join(PEERS).ljust(wire.PEER.size * wire.MAX_PEERS, b"\0"),
        b"".join(word.encode().ljust(wire.DB_NAME_LEN, b"\0") for word in OPERATIONS).ljust(
            wire.DB_NAME_LEN * wire.MAX_DB_NAMES, b"\0"
        ),
    )
    spans = {SPAN: {"span": "checkout", "system": "mine", "shop": "7"}}
    return Names({0: "<other>", 1: "app"}.get, str.upper, lambda number: spans.get(number, {}), words.labels)


def row(kind: int = wire.H_DB, **given: int) -> Key:
    fields = {"role": 1, "thread": 1, "nr": 1, "err": 0, "reason": POSTGRESQL, "span": 0}
    return Key(kind=kind, **fields | given)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (peer(socket.AF_INET, IPV4, 5432), "127.0.0.1:5432"),
        (peer(socket.AF_INET6, IPV6, 6379), "[::1]:6379"),
        (peer(socket.AF_INET6, MAPPED, 3306), "10.0.0.7:3306"),
        (peer(socket.AF_UNIX, b"/run/postgresql/.s.PGSQL.5432"), "/run/postgresql/.s.PGSQL.5432"),
        (peer(socket.AF_UNIX, b"\0pool\0one"), "@pool@one"),
        (peer(socket.AF_UNIX, b""), ""),
        (peer(0, b"/usr/lib/libsqlite3.so.0"), "/usr/lib/libsqlite3.so.0"),
        (peer(socket.AF_UNIX, b"/" + b"p" * 107), "/" + "p" * 107),
        (peer(socket.AF_UNIX, b"/tmp/\xff\xfe\x1b[2J\n"), "/tmp/\\xff\\xfe\x1b[2J\n"),
        (peer(socket.AF_UNIX, b"\0\xff\xfe"), "@\\xff\\xfe"),
    ],
)
def test_a_peer_is_written_as_people_write_it(raw: bytes, text: str) -> None:
    """Bytes that are no text are spelled out, so that every later reader can encode what it reads."""
    assert peer_text(raw) == text
    assert json.loads(json.dumps(text).encode().decode()) == text


def test_a_call_has_the_labels_of_the_contract(names: Names) -> None:
    """System, peer, operation and where it was seen."""
    expected = {
        "role": "APP",
        "system": "postgresql",
        "peer": "127.0.0.1:5432",
        "operation": "SELECT",
        "source": "socket",
    }

    assert names.histogram(row()) == Series("db.latency", labels_of(expected), "histogram", "ns")


def test_what_is_encrypted_says_so(names: Names) -> None:
    """Its operation cannot be known."""
    labels = dict(names.histogram(row(nr=3, reason=POSTGRESQL | wire.DB_TLS)).labels)

    assert (labels["tls"], labels["operation"]) == ("yes", "-")


def test_a_call_in_a_library_has_its_file_as_peer(names: Names) -> None:
    """SQLite has no socket."""
    labels = dict(names.histogram(row(thread=2, reason=SQLITE | wire.DB_LIBRARY)).labels)

    assert (labels["system"], labels["peer"], labels["source"]) == ("sqlite", "/usr/lib/libsqlite3.so.0", "library")


def test_a_call_in_a_span_has_its_labels_too(names: Names) -> None:
    """A label that the span has as well means the call."""
    labels = dict(names.histogram(row(span=SPAN)).labels)

    assert (labels["span"], labels["shop"], labels["system"]) == ("checkout", "7", "postgresql")


def test_an_error_is_counted_by_its_word(names: Names) -> None:
    """The same labels as the call's, and the error."""
    ((series, count),) = names.counters(row(wire.A_DB_ERROR, err=2), Account(0, 3, 0, 0, 0, 0))

    assert (series.metric, series.kind, count, series.label("error")) == ("db.errors", "counter", 3, "42P01")
    assert set(dict(series.labels)) == {"role", "system", "peer", "operation", "source", "error"}


@pytest.mark.parametrize("nr", [0, wire.NR_NONE])
def test_what_found_no_room_has_no_labels_it_does_not_know(names: Names, nr: int) -> None:
    """The row of the kind itself: neither system nor peer, and no source."""
    series = names.histogram(Key(0, 0, nr, 0, wire.H_DB, 0))

    assert series == Series("db.latency", (("role", "<OTHER>"),), "histogram", "ns")


@pytest.mark.parametrize("given", [{"thread": 0}, {"thread": wire.MAX_PEERS}, {"nr": 0}, {"nr": wire.MAX_DB_NAMES}])
def test_words_that_found_no_room_are_other(names: Names, given: dict[str, int]) -> None:
    """Numbers beyond the tables are never read."""
    assert "<other>" in dict(names.histogram(row(**given)).labels).values()


def test_parts_are_of_the_latencies_of_the_same_calls(names: Names) -> None:
    """The row of parts has its bucket where the call has its operation."""
    parts = row(wire.P_DB, nr=77, err=1)

    assert names.calls_of_parts(parts) == names.histogram(row())


def test_the_kernel_gives_the_latency_of_calls(names: Names) -> None:
    """No probe does: latency, server wait, run queue; the rest is the client's."""
    waits = [0] * wire.WAITS
    waits[wire.WAIT_DB], waits[wire.WAIT_RUNQ] = 700, 100
    added = Breakdown()

    added.calls(names.histogram(row()), row(wire.P_DB, nr=77, err=1), Parts(tuple(waits), 0, 0, 50, 1000, 2))

    ((series, part),) = added.rows()
    assert (series.metric, part.bucket, part.latency_ns, part.unseen_ns) == ("db.latency", 77, 1050, 50)
    assert {word: ns for word, ns in zip(WAITS, part.waits, strict=True) if ns} == {"db": 700, "runq": 100}
    assert not any(part.async_waits)
    assert part.awaited_ns == 0
