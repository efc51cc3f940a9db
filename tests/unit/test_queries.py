"""Spans `db.query` of a program are calls of a database too, with the words that sockets have for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.board_writer import Target, slot_of
from tracekit.capture.probes.queries import call_of
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.capture.probes import Boards


@pytest.fixture
def target() -> Iterator[Target]:
    """Return a process."""
    process = Target()
    yield process
    process.end()


def latency(metric: str, **labels: str) -> Series:
    return Series(metric, labels_of({"role": "worker", **labels}), "histogram", "ns")


def test_a_query_is_its_span_and_a_call(target: Target, boards: Boards) -> None:
    """Both have its latency, its parts and its errors; a span of another name, or without a system, is no call."""
    descriptor = target.publish()
    target.do(r"board.span(b'db.query', 1_000_003, 3, labels=b'system=postgresql\n')")
    target.do(r"board.error(b'db.query', b'UniqueViolation', 2, labels=b'system=postgresql\n')")
    target.do(r"board.span(b'db.query', 50), board.span(b'load', 50, labels=b'system=postgresql\n')")
    target.do("board.error(b'db.query', b'ValueError')")

    boards.appeared(target.tgid, descriptor)
    found = boards.collect()

    histograms = dict(found.histograms)
    span = latency("span.latency", span="db.query", system="postgresql")
    call = latency("db.latency", source="probe", system="postgresql")
    assert [series for series in histograms if series.metric == "db.latency"] == [call]
    assert histograms[call] == histograms[span]
    assert histograms[call].counts == [3]
    bucket = slot_of(1_000_003) >> 4
    assert found.parts[call, bucket] == found.parts[span, bucket] == (3_000_009, 0)
    assert {series: value for series, value in found.values if series.metric == "db.errors"} == {
        Series(
            "db.errors",
            labels_of({"role": "worker", "source": "probe", "system": "postgresql", "error": "UniqueViolation"}),
            "counter",
            "count",
        ): 2
    }
    assert dict(boards.whole())[call].counts == [3]


def test_two_names_of_a_system_are_one(target: Target, boards: Boards) -> None:
    """SQLAlchemy calls mariadb what its protocol calls mysql: sockets and spans must agree on whose calls they are."""
    descriptor = target.publish()
    target.do(r"board.span(b'db.query', 100, 2, labels=b'system=mariadb\n')")
    target.do(r"board.span(b'db.query', 100, 5, labels=b'system=mysql\n')")

    boards.appeared(target.tgid, descriptor)
    found = boards.collect()

    histograms = dict(found.histograms)
    assert histograms[latency("db.latency", source="probe", system="mysql")].counts == [7]
    assert histograms[latency("span.latency", span="db.query", system="mariadb")].counts == [2]
    assert found.parts[latency("db.latency", source="probe", system="mysql"), slot_of(100) >> 4] == (700, 0)


def test_other_labels_of_a_query_stay() -> None:
    """The operation, if the program says it; and a program cannot claim another source."""
    span = latency("span.latency", span="db.query", system="sqlite", operation="SELECT", table="runs")

    call = latency("db.latency", system="sqlite", operation="SELECT", table="runs", source="probe")
    assert call_of(span) == call


@pytest.mark.parametrize("labels", [{}, {"system": ""}], ids=["none", "empty"])
def test_without_a_system_there_is_no_call(labels: dict[str, str]) -> None:
    """Nobody knows of what."""
    assert call_of(latency("span.latency", span="db.query", **labels)) is None
