"""The options --span, --db and --tail of `tracekit flamegraph`: what spans and calls of databases were made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.commands.found import Found, no_code, samples_words
from tracekit.commands.view import WALL, View, refuse
from tracekit.errors import EmptyHistogramError, UsageError
from tracekit.units import format_count, format_ns, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from tracekit.analysis.spans import Band
    from tracekit.analysis.spanstacks import Compared, Subject
    from tracekit.histogram import Histogram
    from tracekit.recording.reader import Between, Recording
    from tracekit.records import Series
    from tracekit.stacks import Weights

TAILS = {"p99": 0.99, "p95": 0.95, "p90": 0.9}
_SPANS, _CALLS = "span.latency", "db.latency"
_FEW = 20


@dataclass(frozen=True)
class Wish:
    """What is asked for: spans of a name, or calls if it is ""; with which labels; all, or the tail from where."""

    span: str
    where: Mapping[str, str]
    tail: str | None

    @property
    def option(self) -> str:
        """The option that asked for it."""
        return "--span" if self.span else "--db"


def wish(span: str, of_calls: bool, where: dict[str, str], tail: str | None, role: str) -> Wish | None:
    """
    Return what the options ask for, None if it is threads.

    Raises:
        UsageError: options that do not go together.
    """
    if span and of_calls:
        raise UsageError("cannot use --span with --db: they are two pictures", "one of them")
    if not span and not of_calls:
        if where or tail:
            raise UsageError(f"cannot use {'--where' if where else '--tail'} without --span or --db", "--span NAME")
        return None
    if role and where.get("role", role) != role:
        raise UsageError("cannot use --role with another role in --where", "one of them")
    return Wish(span, {**where, **({"role": role} if role else {})}, tail)


def read(recording: Recording, wish: Wish, intervals: Between | None, view: View = WALL) -> Found:
    """
    Return the stacks that *wish* asks for, as much of them as *view* wants to see.

    Raises:
        UsageError: there are no such spans, or no such label.
        EmptyHistogramError: none of them ended, or too few for a tail.
    """
    from tracekit.analysis import flame, spanstacks  # noqa: PLC0415 - numpy, which folded files do not need

    names = _names(recording)
    calls = not wish.span or (wish.span == flame.CALLS and wish.span not in names and _has_calls(recording))
    refuse(view, calls, wish.tail)
    subject, notes = _calls(recording, wish, intervals) if calls else _spans(recording, wish, view, names, intervals)
    what = "calls of databases" if calls else f"spans {wish.span}"
    if not wish.tail:
        notes = (
            *notes,
            *_unmeasured(subject),
            *(() if calls else _samples(recording, subject, (("on CPU", spanstacks.EVERY),))),
        )
        return Found(_only(spanstacks.whole(subject), 2, view, what), what, notes)
    found = spanstacks.compared(subject, TAILS[wish.tail])
    what += ", tail and median"
    seen = (
        ()
        if calls
        else _samples(recording, subject, (("on CPU in the tail", found.tail), ("in the median", found.median)))
    )
    notes = (_means(found, wish.tail, "calls" if calls else "spans"), *notes, *seen)
    return Found(_only(found.weights, 3, view, what), what, notes)


def _only(weights: Weights, component: int, view: View, what: str) -> Weights:
    """Return the stacks that *view* wants to see; *component*: which of their frames is that."""
    from tracekit.analysis import spanstacks  # noqa: PLC0415 - as above

    if view.what not in ("on-cpu", "off-cpu"):
        return weights
    found = spanstacks.only(weights, component, on_cpu=view.what == "on-cpu")
    if not found:
        raise EmptyHistogramError(f"cannot show --{view.what} of {printable(what)}: there was none", "--wall")
    return found


def _samples(recording: Recording, subject: Subject, bands: Iterable[tuple[str, Band]]) -> tuple[str, ...]:
    """Say how many samples there are of the spans of each band, and how few are too few."""
    if subject.unmeasured:
        return ()
    if not subject.code.samples:
        return (no_code(recording),)
    return ("; ".join(samples_words(subject.samples(band), words) for words, band in bands),)


def _spans(
    recording: Recording, wish: Wish, view: View, names: Collection[str], intervals: Between | None
) -> tuple[Subject, tuple[str, ...]]:
    from tracekit.analysis import flame, sources, spanstacks  # noqa: PLC0415 - as above

    if wish.span not in names:
        raise _no_such(wish.span, names)
    latency = _ended(recording, _SPANS, wish.span, wish.where, intervals)
    where = {**wish.where, "span": wish.span}
    parts = recording.parts(where, intervals)
    every = recording.parts({"span": wish.span}, intervals, _CALLS)
    calls = {series: every[series] for series in sources.once(every, recording.series())}
    seen = any(series.label("source") != "probe" for series in recording.series() if series.metric == _CALLS)
    notes = ("these are spans; calls as they were seen at sockets: --db",) if wish.span == flame.CALLS and seen else ()
    code = spanstacks.Code(recording.samples("stack.span", where, intervals), view.shown)
    return spanstacks.of_spans(latency, parts, calls, code), notes


def _calls(recording: Recording, wish: Wish, intervals: Between | None) -> tuple[Subject, tuple[str, ...]]:
    from tracekit.analysis import spanstacks  # noqa: PLC0415 - as above
    from tracekit.commands import where as chosen  # noqa: PLC0415 - as above

    if not _has_calls(recording):
        raise EmptyHistogramError(
            "cannot show calls of databases: the recording has none", "tracekit report, which says why"
        )
    found = _ended(recording, _CALLS, "", wish.where, intervals)
    latency = {series: found[series] for series in chosen.counted(recording, found, wish.where)}
    return spanstacks.of_calls(latency, recording.parts(wish.where, intervals, _CALLS)), ()


def _ended(
    recording: Recording, metric: str, span: str, where: Mapping[str, str], intervals: Between | None
) -> dict[Series, Histogram]:
    """Return the latencies that *where* chooses, of spans *span* or ("") of all, at least one."""
    from tracekit.commands import where as chosen  # noqa: PLC0415 - as above

    mine = [series for series in recording.series() if series.metric == metric and span in ("", series.label("span"))]
    chosen.among(mine, metric, dict(where))
    where = {**where, **({"span": span} if span else {})}
    found = {series: each for series, each in recording.histograms(metric, where, intervals).items() if each.count}
    if not found:
        hint = "another --between" if intervals else "record for longer"
        raise EmptyHistogramError(f"cannot show {printable(span or metric)}: none ended in that time", hint)
    return found


def _names(recording: Recording) -> list[str]:
    """Return the names of spans that ended, sorted."""
    return sorted({series.label("span") for series in recording.series() if series.metric == _SPANS})


def _has_calls(recording: Recording) -> bool:
    return any(series.metric == _CALLS for series in recording.series())


def _no_such(name: str, names: Collection[str]) -> EmptyHistogramError | UsageError:
    if not names:
        fact = "cannot show spans: none ended while recorded"
        return EmptyHistogramError(fact, "docs/probe.md and docs/zero-code.md say how to have some")
    known = ", ".join(map(printable, list(names)[:_FEW])) + (", …" if len(names) > _FEW else "")
    return UsageError(f"cannot show span {printable(name)}: none of this name has ended", f"one of: {known}")


def _unmeasured(subject: Subject) -> Iterator[str]:
    if subject.unmeasured:
        yield f"what they were made of was not measured: {subject.unmeasured}"


def _means(found: Compared, tail: str, noun: str) -> str:
    """Say what the two roots are."""
    ways = (("tail", f"tail from {tail} on", found.tail), ("median", "median", found.median))
    return "; ".join(
        f"{words} {format_ns(found.mean_ns(root))}, mean of {format_count(band.count)} {noun}"
        for root, words, band in ways
    )
