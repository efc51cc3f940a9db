"""The calls of databases in a recording: how long, how often failed, and whose the time was."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tracekit.analysis import sources, spans
from tracekit.analysis.breakdown import ON_CPU
from tracekit.analysis.sources import CALLS, METRICS, is_wait
from tracekit.histogram import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from tracekit.analysis.spans import Anatomy
    from tracekit.analysis.summary import Samples, Summary
    from tracekit.histogram import Histogram
    from tracekit.records import Series

SERVER, QUEUE, CLIENT = "db", "runq", ON_CPU
"""Components of a call: until the answer came; then until its thread had a CPU; the rest."""
UNANSWERED = ("refused", "reset", "closed", "dropped", "timeout")
"""Errors of calls that never had an answer, and so no latency; a server's own error is an answer."""
_EMBEDDED = ("sqlite",)
_DOMINANT = 0.5


@dataclass(frozen=True, eq=False)
class Calls:
    """
    Some calls.

    Attributes:
        latency: of those that were answered, or ended as spans, and do not exist to wait.
        waits: of those that exist to wait.
        errors: (error, how many), most first.
        unanswered: how many of the errors are of calls without an answer.
        anatomy: of what is in the latency; None: not measured.
        embedded: the database is a part of the program: what calls waited for is no server.
    """

    latency: Histogram
    waits: Histogram
    errors: tuple[tuple[str, int], ...]
    unanswered: int
    anatomy: Anatomy | None
    embedded: bool

    @property
    def served(self) -> bool:
        """Is it known how long the server took?"""
        return bool(self.anatomy and self.anatomy.whole.components[SERVER]) and not self.embedded

    @property
    def tried(self) -> int:
        """How many ended, answered or not."""
        return self.latency.count + self.waits.count + self.unanswered

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(count for _, count in self.errors)

    @property
    def blames(self) -> tuple[str, float] | None:
        """
        Return CLIENT or QUEUE with its share, where the tail is mostly not the database's; None if it is, or not known.

        Where no server was seen, what a thread did may be the database: only that it waited for a CPU is not.
        """
        if not self.anatomy or not self.anatomy.tail:
            return None
        tail = self.anatomy.tail
        others = (CLIENT, QUEUE) if self.served else (QUEUE,)
        largest = max(others, key=tail.share)
        own = sum(map(tail.share, others))
        return (largest, tail.share(largest)) if own > _DOMINANT else None


@dataclass(frozen=True, eq=False)
class Database:
    """
    All calls of one system at one peer, as one source saw them.

    Attributes:
        peer: address or path, "" if not known.
        operations: (name, calls), those with the largest sum of time first.
        waits: the same of operations that exist to wait.
        spans: the same by span in which they were made.
        encrypted: how many calls of which only the times could be seen.
        connections: open ones; None: not counted.
    """

    system: str
    peer: str
    source: str
    calls: Calls
    operations: tuple[tuple[str, Calls], ...]
    waits: tuple[tuple[str, Calls], ...]
    spans: tuple[tuple[str, Calls], ...]
    encrypted: int
    connections: Samples | None


@dataclass(frozen=True)
class Flight:
    """
    Calls of a system that were under way, sampled at each tick.

    Attributes:
        operation: which exists to wait; "" for all others together.
        mean: how many, on average.
        oldest_ns: the longest that any was seen to be under way.
    """

    system: str
    operation: str
    mean: float
    oldest_ns: int


@dataclass(frozen=True, eq=False)
class Databases:
    """
    What there is to say of databases.

    Attributes:
        found: by system and peer, those with the largest sum of time first.
        flights: by system, those that had calls under way; calls that exist to wait apart, and last.
        others: (system, source, calls) that are also seen, and not added.
        statements: (system, text without its literals, latency), those with the largest sum of time first.
    """

    found: tuple[Database, ...]
    flights: tuple[Flight, ...]
    others: tuple[tuple[str, str, int], ...]
    statements: tuple[tuple[str, str, Histogram], ...]

    def __bool__(self) -> bool:
        return bool(self.found or self.flights or self.others)


def once(summary: Summary) -> Summary:
    """Return *summary* with each call once, and what the sources that are not believed saw as `unused`."""
    known = [*summary.histograms, *summary.counters]
    kept = set(sources.once(known, known))
    unused = {s: part.count for s, part in summary.histograms.items() if s not in kept}
    unused |= {s: count for s, count in summary.counters.items() if s not in kept}
    return replace(
        summary,
        histograms={series: part for series, part in summary.histograms.items() if series in kept},
        counters={series: count for series, count in summary.counters.items() if series in kept},
        parts={series: part for series, part in summary.parts.items() if series not in unused},
        unused=unused,
    )


def of(summary: Summary) -> Databases:
    """Return the databases that *summary*, in which each call is `once`, has calls of."""
    every = [s for s in (*summary.histograms, *summary.counters) if s.metric in METRICS]
    groups = _by(every, lambda series: (series.label("system"), series.label("peer"), series.label("source")))
    found = [_database(summary, group) for group in groups.values()]
    return Databases(
        tuple(sorted(found, key=lambda each: (-each.calls.latency.total, -each.calls.failed, each.system, each.peer))),
        _flights(summary),
        _others(summary),
        _statements(summary),
    )


def calls(summary: Summary, series: Iterable[Series], label: str = "") -> Calls:
    """Return the calls that *series* (of CALLS and ERRORS), which agree in *label*, count."""
    mine = list(dict.fromkeys(series))
    timed = sources.timed(mine, (label,))
    idle = [each for each in mine if each not in timed]
    latency, waits = (merge([summary.histograms[s] for s in each if s in summary.histograms]) for each in (timed, idle))
    errors: defaultdict[str, int] = defaultdict(int)
    unanswered = 0
    for each in mine:
        count = summary.counters.get(each, 0)
        if count:
            errors[each.label("error")] += count
            unanswered += count if is_unanswered(each) else 0
    ranked = tuple(sorted(errors.items(), key=lambda item: (-item[1], item[0])))
    parts = [summary.parts[s] for s in timed if s in summary.parts]
    return Calls(latency, waits, ranked, unanswered, spans.anatomy(latency, parts), all(map(is_embedded, mine)))


def is_embedded(series: Series) -> bool:
    """Tell whether *series* is of calls of a database that runs inside of the program."""
    return series.label("system") in _EMBEDDED


def is_unanswered(series: Series) -> bool:
    """Tell whether a series of ERRORS counts calls that are in no latency; spans always have one."""
    return series.label("error") in UNANSWERED and series.label("source") != "probe"


def hides(calls: Collection[Series], error: str) -> bool:
    """
    Tell whether some of *calls* (series of CALLS) could fail by *error* ("": any) without anybody counting it.

    Through TLS, and of MongoDB, nobody reads what a server answers; spans fail by exceptions, whose types are no codes.
    """
    if error and calls and all(series.label("source") == "probe" for series in calls):
        return True
    unread = any(series.label("tls") or series.label("system") == "mongodb" for series in calls)
    return unread and error not in UNANSWERED


def _database(summary: Summary, group: Sequence[Series]) -> Database:
    system, peer, source = (group[0].label(name) for name in ("system", "peer", "source"))
    encrypted = sum(summary.histograms[s].count for s in group if s in summary.histograms and s.label("tls"))
    same = {"system": system, "peer": peer}
    connections = [of for series, of in _gauges(summary, "db.connections") if _has(series, same)]
    return Database(
        system,
        peer,
        source,
        calls(summary, group),
        _ranked(summary, [series for series in group if not is_wait(series)], "operation"),
        _ranked(summary, [series for series in group if is_wait(series)], "operation"),
        _ranked(summary, [series for series in group if series.label("span")], "span"),
        encrypted,
        _added(connections) if connections and peer else None,
    )


def _ranked(summary: Summary, group: Sequence[Series], label: str) -> tuple[tuple[str, Calls], ...]:
    """Return the calls of *group* by the value of *label*."""
    found = [(name, calls(summary, part, label)) for (name,), part in _by(group, lambda s: (s.label(label),)).items()]
    return tuple(sorted(found, key=lambda item: (-item[1].latency.total, -item[1].failed, item[0])))


def _by(group: Iterable[Series], key: Callable[[Series], tuple[str, ...]]) -> Mapping[tuple[str, ...], list[Series]]:
    found: defaultdict[tuple[str, ...], list[Series]] = defaultdict(list)
    for series in group:
        found[key(series)].append(series)
    return found


def _flights(summary: Summary) -> tuple[Flight, ...]:
    numbers, ages = (_by_kind(_gauges(summary, metric)) for metric in sources.UNDER_WAY)
    found = []
    for kind, samples in numbers.items():
        oldest = max((round(each.max) for each in ages.get(kind, [])), default=0)
        if any(each.max for each in samples):
            found.append(Flight(*kind, sum(each.mean for each in samples), oldest))
    return tuple(sorted(found, key=lambda each: (bool(each.operation), -each.mean, each.system, each.operation)))


def _others(summary: Summary) -> tuple[tuple[str, str, int], ...]:
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for series, count in summary.unused.items():
        if series.metric == CALLS or is_unanswered(series):
            counts[series.label("system"), series.label("source")] += count
    return tuple((system, source, count) for (system, source), count in sorted(counts.items()) if count)


def _statements(summary: Summary) -> tuple[tuple[str, str, Histogram], ...]:
    mine = [series for series in summary.histograms if series.metric == "db.statement"]
    groups = _by(mine, lambda series: (series.label("system"), series.label("statement")))
    found = [(system, text, merge([summary.histograms[s] for s in of])) for (system, text), of in groups.items()]
    return tuple(sorted(found, key=lambda item: (-item[2].total, item[1])))


def _gauges(summary: Summary, metric: str) -> list[tuple[Series, Samples]]:
    mine = summary.role
    return [(s, of) for s, of in summary.gauges.items() if s.metric == metric and mine in ("", s.label("role"))]


def _by_kind(gauges: Iterable[tuple[Series, Samples]]) -> Mapping[tuple[str, str], list[Samples]]:
    """Return gauges by system, and by operation if that exists to wait."""
    found: defaultdict[tuple[str, str], list[Samples]] = defaultdict(list)
    for series, samples in gauges:
        found[series.label("system"), series.label("operation")].append(samples)
    return found


def _added(samples: Sequence[Samples]) -> Samples:
    """Return the sums over roles; the extremes are then bounds of what there was at one time."""
    first, *more = samples
    for each in more:
        first = type(first)(first.last + each.last, first.mean + each.mean, first.min + each.min, first.max + each.max)
    return first


def _has(series: Series, wanted: Mapping[str, str]) -> bool:
    return all(series.label(name) == value for name, value in wanted.items())
