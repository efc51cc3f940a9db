"""Spans, from both sides: what the processes say of their latencies, and what the kernel saw them wait for."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.naming import UNKNOWN
from tracekit.capture.probes import Boards
from tracekit.capture.probes.queries import call_of
from tracekit.records import WAITS, Exemplar, Series, SpanParts, labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from tracekit.capture.batch import Batch
    from tracekit.capture.kernel import Kernel
    from tracekit.capture.readings import Key, Parts, SlowSpan
    from tracekit.records import Loss

KEPT = 8
"""Slowest spans of each kind that an interval keeps."""
ENOUGH = 64
"""Records of one kind in an interval above which fewer are asked for."""
OTHER = "<other>"
_OWN = {"runq": wire.WAIT_RUNQ, "db": wire.WAIT_DB}
_ORDER = tuple(_OWN[word] if word in _OWN else wire.REASONS.index(word) for word in WAITS)
"""Where the waits of records.WAITS stand in those of the kernel."""

Place = tuple[Series, int]
"""A `span.latency` series, or `db.latency` of queries, and a latency bucket."""


class Spans:
    """
    The spans of the target.

    Args:
        kernel: reads the current span of threads, once it is told where.
        role_of: tgid → role. role: comm → role.
        news: passes on to `appeared` what the kernel knows of boards at this moment.
        begin_ns: CLOCK_MONOTONIC when the recording began.
    """

    def __init__(
        self,
        kernel: Kernel,
        role_of: Callable[[int], str],
        role: Callable[[str], str],
        news: Callable[[], None],
        begin_ns: int,
    ) -> None:
        self._kernel = kernel
        self._boards = Boards(role_of, begin_ns)
        self._role = role
        self._news = news
        self._whole = Breakdown()
        self._limits: dict[int, int] = {}
        self._slow: list[SlowSpan] = []
        self._lost = 0

    def labels(self, number: int) -> Mapping[str, str]:
        """Return the labels of a kind of spans by its small id, `span` among them; none outside of spans."""
        if number == wire.SPAN_NONE:
            return {}
        if number == wire.SPAN_OTHER:
            return {"span": OTHER}
        ident = self._kernel.span_kind(number)
        if ident not in self._boards.kinds:
            self._news()  # a process may have begun, and its first span,
            self._boards.learn()  # since the last `collect`
        kind = self._boards.kinds.get(ident)
        return {**dict(kind.labels), "span": kind.name} if kind else {"span": UNKNOWN}

    def appeared(self, tgid: int, descriptor: int) -> None:
        """Take the kernel's word that a process has a board."""
        self._boards.appeared(tgid, descriptor)
        self._read_opened()

    def scan(self, living: Collection[int]) -> None:
        """Look for boards of processes that nobody has told of, and forget what belongs to none that lives."""
        self._boards.scan(living)
        lost = sum(loss.count for loss in self._kernel.losses() if loss.reason == "span")
        if lost > self._lost:
            self._lost = lost
            self._kernel.forget_spans(living)
        self._read_opened()

    def _read_opened(self) -> None:
        for facts in self._boards.opened():
            if facts.mode:
                self._kernel.read_spans(facts.tgid, facts.mode, facts.threads_at or facts.tls_offset, facts.tls_module)

    def drain(self) -> list[SlowSpan]:
        """Take the records of spans that have come, and return those that stacks were taken in."""
        found = list(self._kernel.slow_spans())
        self._slow += [slow for slow in found if slow.flags & wire.SPAN_SLOW]
        return [slow for slow in found if slow.flags & wire.SPAN_STACKS]

    def collect(self, batch: Batch, calls: Callable[[Key], Series], *, blind: bool = False) -> None:
        """
        Gather what the last interval added.

        *calls* names the series of the parts of calls of databases; *blind*: nobody looked at the scheduler for
        some of the time, so that what spans waited for is not known.
        """
        collected = self._boards.collect()
        for series, slots in collected.histograms:
            batch.histogram(series, slots)
        for series, value in collected.values:
            batch.value(series, value)
        added = Breakdown()
        for (series, bucket), (latency_ns, awaited_ns) in collected.parts.items():
            added.latency(series, bucket, latency_ns, awaited_ns)
        for key, parts in self._kernel.parts():
            if key.kind == wire.P_DB:
                added.calls(calls(key), key, parts)
                continue
            series = self._series(key.span, key.role)
            for each in filter(None, (series, call_of(series))):
                added.parts(each, key, parts)
        if blind:
            added.forget_waits()
        for series, row in added.rows():
            batch.part(series, row)
        self._whole.add(added)
        self._collect_slowest(batch)

    def _collect_slowest(self, batch: Batch) -> None:
        kept, limits = slowest(self._slow)
        self._slow = []
        for slow in kept:
            batch.exemplar(self._series(slow.span, slow.role), exemplar(slow))
        for span in self._limits.keys() | limits.keys():
            self._kernel.want_slow(span, limits.get(span, 0))
        self._limits = limits

    def _series(self, span: int, role: int) -> Series:
        return latency_series(self.labels(span), self._role(self._kernel.name(role)))

    def whole(self, batch: Batch) -> None:
        """Gather all since the recording began, as of the last `collect`."""
        for series, slots in self._boards.whole():
            batch.histogram(series, slots)
        for series, row in self._whole.rows():
            batch.part(series, row)

    def ready(self) -> list[tuple[int, int]]:
        """Return (tgid, CLOCK_MONOTONIC ns) of processes that say they are ready, found by the last `collect`."""
        return self._boards.ready()

    def losses(self) -> list[Loss]:
        """Return what was lost since the start."""
        return self._boards.losses()

    @property
    def missing(self) -> list[str]:
        """What could not be read, each one line with its reason."""
        return self._boards.missing

    def close(self) -> None:
        """Let go of the target's memory."""
        self._boards.close()


class Breakdown:
    """The decomposition of latencies: sums by series and bucket, of one interval or of all."""

    def __init__(self) -> None:
        self._rows: defaultdict[Place, list[int]] = defaultdict(lambda: [0] * _FIELDS)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def latency(self, series: Series, bucket: int, latency_ns: int, awaited_ns: int) -> None:
        """Add what the probe counted."""
        row = self._rows[series, bucket]
        row[_LATENCY] += latency_ns
        row[_AWAITED] += awaited_ns

    def parts(self, series: Series, key: Key, parts: Parts) -> None:
        """Add what the kernel saw; `key.nr` is the bucket, `key.err` whether the spans were suspended."""
        row = self._rows[series, key.nr]
        first = _ASYNC if key.err else _WAITS
        for place, number in enumerate(_ORDER, first):
            row[place] += parts.waits[number]
        row[_SAMPLED] += parts.sampled_ns if key.err else 0
        row[_UNSEEN] += parts.unseen_ns
        row[_ERRORS] += parts.errors

    def calls(self, series: Series, key: Key, parts: Parts) -> None:
        """Add calls of databases: the kernel knows their latency too; `key.nr` is the bucket."""
        self.latency(series, key.nr, parts.latency_ns + parts.unseen_ns, 0)
        self.parts(series, key._replace(err=0), parts)

    def forget_waits(self) -> None:
        """Leave nothing known of spans but how long they were."""
        for (series, _), row in self._rows.items():
            if series.metric == "span.latency" or series.label("source") == "probe":
                row[_WAITS:_UNSEEN] = [0] * (_UNSEEN - _WAITS)
                row[_UNSEEN] = row[_LATENCY]

    def add(self, other: Breakdown) -> None:
        """Add all of *other*."""
        for place, row in other._rows.items():
            mine = self._rows[place]
            for number, value in enumerate(row):
                mine[number] += value

    def rows(self) -> Iterator[tuple[Series, SpanParts]]:
        """Yield the rows; their series ids are still to be set."""
        for (series, bucket), row in self._rows.items():
            waits, async_waits = tuple(row[_WAITS:_ASYNC]), tuple(row[_ASYNC:_SAMPLED])
            latency = row[_LATENCY], row[_AWAITED]
            yield series, SpanParts(0, bucket, *latency, waits, async_waits, row[_SAMPLED], row[_UNSEEN], row[_ERRORS])


_LATENCY, _AWAITED, _WAITS = 0, 1, 2
_ASYNC = _WAITS + len(WAITS)
_SAMPLED = _ASYNC + len(WAITS)
_UNSEEN, _ERRORS = _SAMPLED + 1, _SAMPLED + 2
_FIELDS = _ERRORS + 1


def latency_series(labels: Mapping[str, str], role: str) -> Series:
    """Return the histogram of the latencies of a kind of spans."""
    return Series("span.latency", labels_of({**labels, "role": role}), "histogram", "ns")


def exemplar(slow: SlowSpan) -> Exemplar:
    """Return a record of the kernel as the recording has it; its series id is still to be set."""
    waits = tuple(slow.waits[number] for number in _ORDER)
    flags = bool(slow.awaited), bool(slow.flags & wire.SPAN_FAILED), bool(slow.flags & wire.SPAN_SEEN)
    where = slow.tgid, slow.pid, slow.start_ns, slow.duration_ns
    return Exemplar(0, *where, *flags, waits, slow.sampled_ns if slow.awaited else 0, slow.errors)


def slowest(found: Iterable[SlowSpan]) -> tuple[list[SlowSpan], dict[int, int]]:
    """
    Return the slowest spans of each kind, and above which latency records are worth having from now on.

    The limits are by small id of the kind: half the latency of the last one kept, where there were
    many; so that an interval in which all are slower, or faster, still finds its own.
    """
    kinds: defaultdict[int, list[SlowSpan]] = defaultdict(list)
    for slow in found:
        kinds[slow.span].append(slow)
    kept, limits = [], {}
    for span, group in kinds.items():
        best = sorted(group, key=lambda slow: slow.duration_ns, reverse=True)[:KEPT]
        kept += best
        limits[span] = best[-1].duration_ns // 2 if len(group) > ENOUGH else 0
    return kept, limits
