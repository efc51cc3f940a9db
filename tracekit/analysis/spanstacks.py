"""
Where the time of spans went, as stacks: `role;span (labels that differ);component`, in ns.

Of the time that spans waited for a database, the calls made inside say to which server and for what:
`...;db;postgresql 127.0.0.1:5432;SELECT`. Calls themselves are `role;db.query;peer;operation;component`.

Where stacks of code were recorded they stand below on-CPU and the waits that they were seen in, bucket by
bucket of latency: samples fill what of a bucket was on-CPU, waits are as long as they were.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from tracekit.analysis import breakdown, flame, spans
from tracekit.analysis.breakdown import AWAITING, ON_CPU, UNATTRIBUTED
from tracekit.analysis.db import QUEUE, SERVER, is_embedded
from tracekit.analysis.profile import fitted
from tracekit.analysis.sources import CALLS
from tracekit.analysis.spans import ENOUGH, TAILS, Band
from tracekit.errors import EmptyHistogramError
from tracekit.histogram import merge
from tracekit.histogram.parts import BUCKETS
from tracekit.stacks import scaled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracekit.analysis.profile import Shown
    from tracekit.histogram import Histogram
    from tracekit.histogram.parts import Parts
    from tracekit.records import Labels, Series
    from tracekit.samples import StackSamples
    from tracekit.stacks import Stack, Weights

    Amounts = Mapping[Stack, int]

_WORDS = {"runq": "run queue", "db": "db", ON_CPU: ON_CPU, AWAITING: AWAITING, UNATTRIBUTED: UNATTRIBUTED}
_OF_CALLS = _WORDS | {SERVER: "server", QUEUE: "run queue", ON_CPU: "client"}
_OF_A_CALL = frozenset({"system", "peer", "operation", "source", "tls"})
"""Labels of a call beside those of the span it was made in."""
_NO_NAME = "-"
EVERY = Band(0, BUCKETS - 1, 0)
"""All spans."""


@dataclass(frozen=True, eq=False)
class Code:
    """
    What code spans were seen in.

    Attributes:
        samples: series of `stack.span`.
        shown: drops or joins frames.
    """

    samples: Mapping[Series, StackSamples]
    shown: Shown

    @cached_property
    def seen(self) -> Shown:
        """The same as *shown*, which each bucket of latency asks for the same stacks."""
        return cache(self.shown)

    @cached_property
    def by_component(self) -> Mapping[tuple[Labels, str], StackSamples]:
        """By the labels of the spans, and what they did."""
        return {(_without_state(one), one.label("state")): found for one, found in self.samples.items()}


_NO_CODE = Code({}, lambda stack: stack)


@dataclass(frozen=True, eq=False)
class Subject:
    """
    Spans or calls, by series.

    Attributes:
        latency: of each series; parts: where its time went, of those of which it is known.
        paths: the frames of each series before the component.
        calls: of databases, each once: what the spans waited for.
        code: what they were seen in.
    """

    latency: Mapping[Series, Histogram]
    parts: Mapping[Series, Parts]
    paths: Mapping[Series, Stack]
    calls: Mapping[Series, Parts]
    code: Code = _NO_CODE

    def samples(self, band: Band = EVERY) -> int:
        """Return how many samples of those of *band* on a CPU there are."""
        found = (self.code.by_component.get((series.labels, ON_CPU)) for series in self.latency)
        return sum(seen.within(band.first, band.last).samples for seen in found if seen)

    @property
    def unmeasured(self) -> str:
        """Why it is not known where time went; "" if it is."""
        if not self.latency.keys().isdisjoint(self.parts):
            return ""
        of_libraries = all(series.label("source") == "library" for series in self.latency)
        return "seen in client libraries alone" if of_libraries else "recorded without the kernel"


@dataclass(frozen=True, eq=False)
class Compared:
    """A mean span of the tail and one of the median: stacks that begin with `tail` and `median`, and of how many."""

    weights: Weights
    median: Band
    tail: Band

    def mean_ns(self, root: str) -> float:
        """Return what a span took in the band *root*."""
        return sum(weight for stack, weight in self.weights.items() if stack[0] == root)


def of_spans(
    latency: Mapping[Series, Histogram],
    parts: Mapping[Series, Parts],
    calls: Mapping[Series, Parts],
    code: Code = _NO_CODE,
) -> Subject:
    """Return spans of one name: series of `span.latency`, and what of `db.latency` could be of calls they made."""
    differ = _differing(latency)
    paths = {series: (series.label("role"), _named(series, differ)) for series in latency}
    return Subject(latency, parts, paths, calls, code)


def of_calls(latency: Mapping[Series, Histogram], parts: Mapping[Series, Parts]) -> Subject:
    """Return calls of databases: series of `db.latency`, each call once."""
    paths = {series: (series.label("role"), flame.CALLS, *_callee(series)) for series in latency}
    return Subject(latency, parts, paths, {})


def whole(subject: Subject) -> Weights:
    """Return all of the time; the sum is that of the latencies, as what is not known of them is unattributed."""
    found: defaultdict[Stack, int] = defaultdict(int)
    for series, latency in subject.latency.items():
        rest, unknown = latency.total, (*subject.paths[series], UNATTRIBUTED)
        if series in subject.parts:
            rest -= spans.of_band(EVERY, subject.parts[series]).latency_ns
            for frames, ns in _frames(subject, series, EVERY, split=True):
                found[frames] += ns
        found[unknown] += max(0, rest)
    return {stack: ns for stack, ns in found.items() if ns}


def only(weights: Mapping[Stack, float], at: int, *, on_cpu: bool) -> Weights:
    """Return the stacks whose frame *at* is on-CPU, or else of what was blocked or waited for a database."""

    def wanted(component: str) -> bool:
        return component == ON_CPU if on_cpu else component == SERVER or component.startswith(flame.BLOCKED)

    return {stack: ns for stack, ns in weights.items() if wanted(stack[at])}


def compared(subject: Subject, quantile: float) -> Compared:
    """
    Return what a span from *quantile* on takes, and one of the median, both as means.

    What the calls of databases inside them were is not known by latency, so they are not in it.

    Raises:
        EmptyHistogramError: too few spans, no tail, or nothing is known of them but latencies.
    """
    latency = merge(list(subject.latency.values()))
    median, tail, known = spans.bands(latency, quantile)
    if subject.unmeasured:
        hint = "" if "libraries" in subject.unmeasured else "sudo, and no --probes-only"
        raise EmptyHistogramError(f"cannot show {_tail(quantile)}: {subject.unmeasured}", hint)
    if not known:
        raise _too_few(latency.count, quantile)
    if not tail or not median:
        raise EmptyHistogramError(f"cannot show {_tail(quantile)}: there is none, it is near the median")
    weights: Weights = {}
    for root, band in zip(flame.BANDS, (median, tail), strict=True):
        weights |= {(root, *stack): ns for stack, ns in _each(within(subject, band), band.count).items()}
    return Compared(weights, median, tail)


def within(subject: Subject, band: Band) -> Amounts:
    """Return the time of the spans in *band*, as far as it is known by latency: not what calls of databases were."""
    found: defaultdict[Stack, int] = defaultdict(int)
    for series in subject.latency.keys() & subject.parts.keys():
        for frames, ns in _frames(subject, series, band, split=False):
            found[frames] += ns
    return {stack: ns for stack, ns in found.items() if ns}


def _each(sums: Amounts, count: int) -> Amounts:
    """Divide *sums* by *count*, to whole ns; the largest remainders are rounded up, so that their sum is right."""
    shares = {stack: ns // count for stack, ns in sums.items()}
    rest = round(sum(sums.values()) / count) - sum(shares.values())
    for stack in sorted(sums, key=lambda stack: (-(sums[stack] % count), stack))[:rest]:
        shares[stack] += 1
    return shares


def _frames(subject: Subject, series: Series, band: Band, *, split: bool) -> Iterable[tuple[Stack, int]]:
    """Yield the stacks of those of a series that are in *band* and their ns; *split*: with the calls of databases."""
    words = _words(series, subject.parts[series])
    for component, ns in spans.of_band(band, subject.parts[series]).components.items():
        path = (*subject.paths[series], words.get(component, f"{flame.BLOCKED}{component}"))
        if component == SERVER:
            yield from _waited(subject, series, path, ns) if split else ((path, ns),)
        else:
            code = _code(subject, series, band, component, ns)
            yield path, ns - sum(code.values())
            yield from (((*path, *frames), part) for frames, part in code.items())


def _code(subject: Subject, series: Series, band: Band, component: str, ns: int) -> Amounts:
    """Return the code in which *ns* of a component was spent, as far as it was seen."""
    seen = subject.code.by_component.get((series.labels, component))
    if not seen:
        return {}
    found: defaultdict[Stack, int] = defaultdict(int)
    here = seen.within(band.first, band.last)
    for bucket in sorted(set(here.bucket.tolist())):
        exact = spans.of_band(Band(bucket, bucket, 0), subject.parts[series]).components[component]
        weights = here.within(bucket, bucket).weights(subject.code.seen)
        for frames, part in fitted(weights, exact, sampled=component == ON_CPU).items():
            found[frames] += part
    return scaled(found, ns) if sum(found.values()) > ns else found


def _without_state(one: Series) -> Labels:
    return tuple(pair for pair in one.labels if pair[0] != "state")


def _words(series: Series, parts: Parts) -> Mapping[str, str]:
    """Return the words for components; calls whose server was not seen are made of what spans are."""
    seen = series.metric == CALLS and not is_embedded(series) and spans.of_band(EVERY, parts).components[SERVER]
    return _OF_CALLS if seen else _WORDS


def _waited(subject: Subject, series: Series, path: Stack, ns: int) -> Iterable[tuple[Stack, int]]:
    """Yield the wait *ns* for databases by what was called, in proportion to how long the servers took."""
    inside = [(call, parts) for call, parts in subject.calls.items() if _made_in(call, series)]
    servers = [spans.of_band(EVERY, parts).components[SERVER] for _, parts in inside]
    if not any(servers):
        return ((path, ns),)
    fitted = breakdown.fit(servers, ns)
    named = [((*path, *_callee(call)), amount) for (call, _), amount in zip(inside, fitted, strict=True)]
    return (*named, ((*path, _NO_NAME), ns - sum(fitted)))


def _made_in(call: Series, span: Series) -> bool:
    """Tell whether *call* has the labels of *span*; a label of the span that calls have too tells only the system."""
    own, its = dict(span.labels), dict(call.labels)
    same = {name: own.get(name) for name in own.keys() - _OF_A_CALL} == {n: its[n] for n in its.keys() - _OF_A_CALL}
    return same and own.get("system", its.get("system")) == its.get("system")


def _callee(call: Series) -> Stack:
    """Return `postgresql 127.0.0.1:5432` and `SELECT`."""
    peer = f"{call.label('system') or _NO_NAME} {call.label('peer')}".rstrip()
    return peer, call.label("operation") or _NO_NAME


def _differing(found: Iterable[Series]) -> list[str]:
    """Return the labels, beside role and span, that are not the same in all of *found*."""
    every = [dict(series.labels) for series in found]
    names = sorted({name for labels in every for name in labels} - {"role", "span"})
    return [name for name in names if len({labels.get(name) for labels in every}) > 1]


def _named(series: Series, differ: Iterable[str]) -> str:
    labels = dict(series.labels)
    words = ", ".join(f"{name}={labels[name]}" for name in differ if name in labels)
    return f"{labels['span']} ({words})" if words else labels["span"]


def _too_few(n: int, quantile: float) -> EmptyHistogramError:
    lower = next((q for q in TAILS if round(n * (1 - q), 9) >= ENOUGH), None)
    hint = f"--tail {_name(lower)}" if lower else "record for longer"
    fact = f"of {n:,} it would be fewer than {ENOUGH}"
    return EmptyHistogramError(f"cannot show {_tail(quantile)}: {fact}", hint)


def _tail(quantile: float) -> str:
    return f"the tail from {_name(quantile)} on"


def _name(quantile: float) -> str:
    return f"p{100 * quantile:g}"
