"""Histograms of recordings and of logs (.hlog), so that a command need not know which it was given."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import click

from tracekit.analysis import sources
from tracekit.analysis.summary import merged_by_label
from tracekit.commands import between as part
from tracekit.commands import where as chosen
from tracekit.errors import EmptyHistogramError, UsageError
from tracekit.histogram import merge
from tracekit.histogram.omission import corrected
from tracekit.recording import hlog
from tracekit.recording.reader import Recording
from tracekit.units import format_ns, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tracekit.histogram import Histogram
    from tracekit.records import Series

    Histograms = dict[Series, Histogram]

_FEW = 3


@dataclass(frozen=True)
class Wish:
    """What of the files is wanted; all is "" or nothing. *due_ns*: correct for calls that were due so often."""

    metric: str
    where: dict[str, str]
    label: str
    between: part.Times | None
    tags: tuple[str, ...]
    merged: bool
    due_ns: int

    @property
    def labels(self) -> set[str]:
        """The labels that are asked for."""
        return {*self.where, self.label}


class Slice(NamedTuple):
    """An interval of one series; *start* in s since the epoch, *length* in s."""

    start: float
    length: float
    series: Series
    histogram: Histogram


class _Found(NamedTuple):
    known: list[Series]
    histograms: Histograms
    note: str


def histograms(files: tuple[Path, ...], wish: Wish) -> tuple[Histograms, str]:
    """
    Return the histograms of all *files*, and a note of what was left out.

    Of several files, series have a label `file`, unless they are merged.

    Raises:
        UsageError: an unknown metric, label or tag; a correction of what is no time, or of what is corrected.
        EmptyHistogramError: there are no events.
    """
    found = [_log(path, wish) if hlog.is_log(path) else _recording(path, wish) for path in files]
    if len(files) > 1 and not wish.merged:
        names = _names(files)
        found = [_named(each, name) for each, name in zip(found, names, strict=True)]
    known = [series for each in found for series in each.known]
    labels = [wish.label] if wish.label else []
    if known:
        chosen.among(known, wish.metric, wish.where, *labels)
    parts: dict[Series, list[Histogram]] = {}
    for each in found:
        for series, histogram in each.histograms.items():
            if _wanted(series, wish):
                parts.setdefault(series, []).append(histogram)
    sums = {series: merge(of_one) if len(of_one) > 1 else of_one[0] for series, of_one in parts.items()}
    note = ", ".join(filter(None, [_where(wish.where), _notes(found), _due(wish)]))
    if not any(each.count for each in sums.values()):
        what = printable(wish.metric or "histograms")
        raise EmptyHistogramError(f"cannot show {what}: no events {note}".rstrip(), "another --between")
    return _shaped(sums, wish), note


def slices(files: tuple[Path, ...], wish: Wish) -> Iterator[Slice]:
    """Yield the intervals of all *files*, in order of time; see `histograms`, which finds what is wrong with them."""
    every = [_log_slices(path, wish) if hlog.is_log(path) else _recording_slices(path, wish) for path in files]
    return heapq.merge(*every, key=lambda each: each.start)


def started(files: tuple[Path, ...]) -> float:
    """Return when the first of *files* began, s since the epoch."""
    return min(_log_start(path) if hlog.is_log(path) else _recording_start(path) for path in files)


def _recording(path: Path, wish: Wish) -> _Found:
    if wish.tags:
        raise UsageError(f"cannot use --tag: {path} is a recording, its series have labels", "--where role=worker")
    with Recording(path) as recording:
        intervals = part.intervals(recording, wish.between) if wish.between else None
        known = [one for one in recording.series() if one.kind == "histogram"]
        where = {name: value for name, value in wish.where.items() if name != "file"}
        note = f"intervals {intervals[0] + 1} to {intervals[1]} of {len(recording.intervals)}" if intervals else ""
        histograms = recording.histograms(wish.metric, where, intervals)
        kept = chosen.counted(recording, histograms, wish.labels)
        return _Found(known, {one: histograms[one] for one in kept}, note)


def _log(path: Path, wish: Wish) -> _Found:
    log = hlog.Log(path)
    by_tag = log.histograms(wish.tags or None, _seconds(wish))
    for number, why in log.skipped[:_FEW]:
        click.echo(f"note: {printable(str(path))}: line {number} left out: {printable(why)}", err=True)
    if len(log.skipped) > _FEW:
        click.echo(f"note: {printable(str(path))}: {len(log.skipped) - _FEW} more lines left out", err=True)
    if not by_tag and (wish.tags or wish.between):
        raise _nothing(path, wish)
    named = [(hlog.series_of(tag), histogram) for tag, histogram in by_tag.items()]
    note = f"{format_ns(wish.between[0])} to {format_ns(wish.between[1])}" if wish.between else ""
    return _Found([series for series, _ in named], {one: each for one, each in named if each.count}, note)


def _nothing(path: Path, wish: Wish) -> EmptyHistogramError | UsageError:
    """Say whether it is the tags or the times that the log does not have."""
    tags = sorted({line.tag for line in hlog.Log(path).lines()})
    if wish.tags and not set(wish.tags) & set(tags):
        there = ", ".join(printable(tag) or "lines without one" for tag in tags[:20])
        return UsageError(f"cannot show tag {printable(wish.tags[0])}: {path} has {there or 'no interval'}")
    return EmptyHistogramError(f"cannot show {path}: the log has no interval there", "another --between")


def _log_slices(path: Path, wish: Wish) -> Iterator[Slice]:
    for line, histogram in hlog.Log(path).intervals(wish.tags or None, _seconds(wish)):
        series = hlog.series_of(line.tag)
        if _wanted(series, wish) and histogram.count:
            shaped = _shaped({series: histogram}, wish)
            yield from (Slice(line.start, line.length, *each) for each in shaped.items())


def _recording_slices(path: Path, wish: Wish) -> Iterator[Slice]:
    with Recording(path) as recording:
        first, last = part.intervals(recording, wish.between) if wish.between else (0, len(recording.intervals))
        kept = set(sources.chosen(recording.series(), recording.series(), wish.labels))
        for number in range(first, last):
            interval = recording.intervals[number]
            found = recording.histograms(wish.metric, wish.where, (number, number + 1))
            found = {one: its for one, its in found.items() if one in kept}
            start = (recording.clocks.realtime_ns + interval.start_ns - recording.clocks.monotonic_ns) / 1e9
            for each in _shaped(found, wish).items():
                yield Slice(start, interval.duration_ns / 1e9, *each)


def _log_start(path: Path) -> float:
    first = next(hlog.Log(path).lines(), None)
    return first.start - first.offset if first else 0.0


def _recording_start(path: Path) -> float:
    with Recording(path) as recording:
        return (recording.clocks.realtime_ns + recording.start_ns - recording.clocks.monotonic_ns) / 1e9


def _shaped(sums: Histograms, wish: Wish) -> Histograms:
    """Add up by label, and correct."""
    if wish.label:
        sums = merged_by_label(sums, wish.label)
    if not wish.due_ns:
        return sums
    other = next((series for series in sums if series.unit != "ns"), None)
    if other:
        raise UsageError(f"cannot use --corrected: {printable(other.metric)} counts {other.unit}, not time")
    return {series: corrected(histogram, wish.due_ns) for series, histogram in sums.items()}


def _wanted(series: Series, wish: Wish) -> bool:
    has = all(series.label(name) == value for name, value in wish.where.items())
    return has and wish.metric in ("", series.metric)


def _named(found: _Found, name: str) -> _Found:
    def of_file(series: Series) -> Series:
        return replace(series, labels=tuple(sorted([*series.labels, ("file", name)])))

    known = [of_file(series) for series in found.known]
    return _Found(known, {of_file(series): each for series, each in found.histograms.items()}, found.note)


def _names(files: tuple[Path, ...]) -> list[str]:
    """Return the files' names, with their folders where names alone do not tell them apart."""
    alone = len({path.name for path in files}) == len(files)
    return [path.name if alone else str(path) for path in files]


def _seconds(wish: Wish) -> tuple[float, float] | None:
    if not wish.between:
        return None
    first, last = wish.between
    if first >= last:
        raise part.backwards(wish.between)
    return first / 1e9, last / 1e9


def _where(where: dict[str, str]) -> str:
    return f"where {', '.join(f'{name}={printable(value)}' for name, value in where.items())}" if where else ""


def _notes(found: Iterable[_Found]) -> str:
    return ", ".join(dict.fromkeys(each.note for each in found if each.note))


def _due(wish: Wish) -> str:
    return f"corrected for coordinated omission, a call each {format_ns(wish.due_ns)}" if wish.due_ns else ""
