"""
Which calls of databases count: the one place where it is decided.

Sockets, client libraries and spans of the program can see the same call. A system has the calls of one source:
of sockets if they saw any, else of libraries, else of spans. What is asked for by its source is given by it.

Calls that exist to wait (`BLPOP`) say nothing of how quick a database is: they are in no latency, unless they
are asked for by their operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.waiting import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tracekit.records import Series

METRICS = CALLS, ERRORS = "db.latency", "db.errors"
NUMBER = "db.in_flight"
UNDER_WAY = (NUMBER, "db.in_flight.age")
_TIMES = (CALLS, *UNDER_WAY)
"""What calls that exist to wait are not in, unless they are asked for."""
ORDER = ("socket", "library", "probe")
"""The best first: sockets see every client of a server, and when the answer came; spans only what was named."""


def once(found: Iterable[Series], known: Iterable[Series], labels: Collection[str] = ()) -> list[Series]:
    """
    Return *found* without calls that another source counts too.

    Args:
        found: series of any metric.
        known: all series of the recording: what is chosen does not depend on the part that is looked at.
        labels: those that are asked for; if `source` is one, the choice was made.
    """
    if "source" in labels:
        return list(found)
    best = _best(known)
    return [series for series in found if _is_best(series, best)]


def timed(found: Iterable[Series], labels: Collection[str] = ()) -> list[Series]:
    """Return *found* without the times of calls that exist to wait, unless `operation` is one of *labels*."""
    return [series for series in found if "operation" in labels or series.metric not in _TIMES or not is_wait(series)]


def is_wait(series: Series) -> bool:
    """Tell whether *series*, of calls of a database, is of calls that exist to wait."""
    return (series.label("system"), series.label("operation")) in OPERATIONS


def chosen(found: Iterable[Series], known: Iterable[Series], labels: Collection[str] = ()) -> list[Series]:
    """Return those of *found* that a number without other *labels* is of: each call `once`, if it is `timed`."""
    return timed(once(found, known, labels), labels)


def _best(known: Iterable[Series]) -> dict[str, str]:
    """Return the source of each system: of those that saw calls, or else of those that saw some fail."""
    ranks: dict[str, tuple[bool, int, str]] = {}
    for series in known:
        if series.metric in METRICS:
            system, source = series.label("system"), series.label("source")
            place = ORDER.index(source) if source in ORDER else len(ORDER)
            rank = (series.metric == ERRORS, place, source)
            ranks[system] = min(rank, ranks.get(system, rank))
    return {system: source for system, (_, _, source) in ranks.items()}


def _is_best(series: Series, best: dict[str, str]) -> bool:
    return series.metric not in METRICS or best.get(series.label("system")) == series.label("source")
