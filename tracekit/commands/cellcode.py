"""What the cells of a heat map were made of, for `tracekit heatmap -o x.svg`: stacks of spans, or of threads then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis import profile, spanstacks
from tracekit.analysis.spans import Band
from tracekit.analysis.walltime import ON_CPU
from tracekit.commands.found import samples_words
from tracekit.commands.profiles import notes_of
from tracekit.commands.view import WALL
from tracekit.histogram import LOWER_EDGE, UPPER_EDGE, slots_of
from tracekit.records import BUCKET_SHIFT
from tracekit.report.heatmap_flames import About, Part, embed
from tracekit.units import format_value, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tracekit.analysis.heatmap import Grid
    from tracekit.analysis.profile import Profile
    from tracekit.recording.reader import Between, Recording
    from tracekit.records import Series
    from tracekit.report.heatmap_flames import Flames
    from tracekit.stacks import Stack

    _Labels = tuple[str, str]

_SPANS = "span.latency"
_CALL = "syscall"
_KEYS = {"offcpu": "reason", "blocked": _CALL, "syscall.latency": _CALL, "oncpu": "", "runq.wait": "", "runq.wake": ""}
"""Metrics of threads whose code is known, and the label beside the role that stacks have too."""
_KIND = {"offcpu": "off-cpu", "blocked": "off-cpu", "syscall.latency": "off-cpu", "oncpu": "on-cpu"}
_KIND |= {"runq.wait": "wall", "runq.wake": "wall"}
_SAMPLES = {"off-cpu": ("stack.offcpu",), "on-cpu": ("stack.oncpu",), "wall": ("stack.oncpu", "stack.offcpu")}
_FIRST, _SECOND = 1, 2
"""Depths of what stands before a state: role, and thread or span."""
_PREEMPTED = "preempted"
"""A reason of `offcpu` that is no wait for anything but a CPU."""
_NO_CODE = "no stack of code was seen in it"
_FEW = 4


@dataclass(frozen=True)
class Chosen:
    """The series in a map, at least one, and the labels they were chosen by."""

    series: tuple[Series, ...]
    where: Mapping[str, str]

    @property
    def metric(self) -> str:
        """That of all of them."""
        return self.series[0].metric


def step(metric: str) -> int:
    """Return at multiples of how many slots rows have to begin, so that what is known of spans is known by row."""
    return 1 << BUCKET_SHIFT if metric == _SPANS else 1


def flames(recording: Recording, chosen: Chosen, title: str) -> Callable[[Grid], Flames | None] | None:
    """Return what finds the flame graphs of the cells of a grid; None if there are no stacks of this metric."""
    if chosen.metric == _SPANS and recording.series("stack.span"):
        return _of_spans(recording, chosen, title)
    if chosen.metric in _KEYS and any(recording.series(metric) for metric in _SAMPLES[_KIND[chosen.metric]]):
        return _of_threads(recording, chosen, title)
    return None


def _of_spans(recording: Recording, chosen: Chosen, title: str) -> Callable[[Grid], Flames | None]:
    latency = recording.histograms(_SPANS, chosen.where)
    every = spanstacks.of_spans({one: latency[one] for one in chosen.series if one in latency}, {}, {})
    bare = frozenset({_FIRST, _SECOND} if len(set(every.paths.values())) == 1 else ())
    about = About(title, by_cell=True, bare=bare)
    shown = cache(WALL.shown)

    def find(grid: Grid) -> Iterator[Part]:
        for number, column in enumerate(grid.columns):
            if column.count:
                parts = recording.parts(chosen.where, column.intervals)
                samples = recording.samples("stack.span", chosen.where, column.intervals)
                code = spanstacks.Code(samples, shown)
                subject = spanstacks.Subject(every.latency, parts, every.paths, {}, code)
                yield from _of_column(subject, grid, number)

    return lambda grid: embed(about, find(grid), int(np.count_nonzero(grid.counts)))


def _of_column(subject: spanstacks.Subject, grid: Grid, number: int) -> Iterator[Part]:
    for row in np.flatnonzero(grid.counts[:, number]).tolist():
        band, note = _band(grid, row)
        weights = spanstacks.within(subject, band)
        if weights:
            code = _has_code(weights)
            samples = subject.samples(band)
            seen = samples_words(samples, "on CPU") if samples else "no sample on CPU" if code else _NO_CODE
            notes = [seen, *([note] if note else [])]
            yield Part(((row, number),), weights, "spans", tuple(notes), code)


def _has_code(weights: Mapping[Stack, int]) -> bool:
    """Tell whether something stands below role, span and state."""
    return any(len(stack) > 3 for stack in weights)


def _band(grid: Grid, row: int) -> tuple[Band, str]:
    """Return the buckets that hold *row*, and which latencies they are if these are more."""
    low, high = int(grid.edges[row]), int(grid.edges[row + 1])
    slots = slots_of(np.array([low, high - 1], dtype=np.uint64))
    first, last = (int(slot) >> BUCKET_SHIFT for slot in slots)
    begin, end = int(LOWER_EDGE[first << BUCKET_SHIFT]), int(UPPER_EDGE[((last + 1) << BUCKET_SHIFT) - 1]) + 1
    note = f"of all spans of {format_value(begin, 'ns')} to {format_value(end, 'ns')}, as stacks are kept by those"
    return Band(first, last, 0), note if (begin, end) != (low, high) else ""


def _of_threads(recording: Recording, chosen: Chosen, title: str) -> Callable[[Grid], Flames | None]:
    wanted = {_labels(one) for one in chosen.series}
    one_role = len({role for role, _ in wanted}) == 1
    about = About(title, by_cell=False, bare=frozenset({_FIRST, _SECOND} if one_role else {_SECOND}))
    note = _of_what(chosen, wanted)
    shown = cache(WALL.shown)

    def find(grid: Grid) -> Iterator[Part]:
        for number, column in enumerate(grid.columns):
            found = _during(recording, chosen.metric, wanted, column.intervals, shown)
            if column.count and found.weights:
                cells = tuple((row, number) for row in np.flatnonzero(grid.counts[:, number]).tolist())
                said = tuple(notes_of(found, _KIND[chosen.metric])) if found.placed else (_NO_CODE,)
                yield Part(cells, _without_threads(found), "threads", (*said, note), bool(found.placed))

    return lambda grid: embed(about, find(grid), len(grid.columns))


def _during(
    recording: Recording, metric: str, wanted: set[_Labels], between: Between, shown: Callable[[Stack], Stack]
) -> Profile:
    """Return what threads did in the intervals *between*, as far as it is of this metric."""
    accounts = {s: held for s, held in recording.stacks(between).items() if len(s) > 2 and _key(s, metric) in wanted}
    kinds = _SAMPLES[_KIND[metric]]
    cpu, waits = (
        recording.samples(kind, {}, between) if kind in kinds else {} for kind in ("stack.oncpu", "stack.offcpu")
    )
    cpu, waits = (
        {one: seen for one, seen in found.items() if _labels(one, metric) in wanted} for found in (cpu, waits)
    )
    return profile.wall(accounts, cpu, waits, shown)


def _labels(one: Series, metric: str = "") -> _Labels:
    """Return what series of a metric and of stacks have in common."""
    return one.label("role"), one.label(_KEYS[metric or one.metric])


def _key(stack: Stack, metric: str) -> _Labels | None:
    """Return the labels that an account `role;thread;state[;reason;syscall]` shares with a series of *metric*."""
    label = _KEYS[metric]
    if label:
        role, _, state, *why = stack
        return (role, why[0 if label == "reason" else 1]) if state == profile.BLOCKED and len(why) > 1 else None
    return None if metric == "oncpu" and stack[2] != ON_CPU else (stack[0], "")


def _without_threads(found: Profile) -> Mapping[Stack, int]:
    """Return the stacks of all threads of a role as those of one without a name."""
    weights: dict[Stack, int] = {}
    for (role, _, *rest), ns in found.weights.items():
        stack = (role, "", *rest)
        weights[stack] = weights.get(stack, 0) + ns
    return weights


def _of_what(chosen: Chosen, wanted: set[_Labels]) -> str:
    """Say that stacks are known by time alone, of what, and which labels they are not told apart by."""
    label = _KEYS[chosen.metric]
    values = sorted({value for _, value in wanted} - {_PREEMPTED})
    names = [("role", sorted({role for role, _ in wanted})), (label, values)]
    names += [("any", sorted(chosen.where.keys() - {"role", label}))]
    what = "; ".join(f"{name} {_few(values)}" for name, values in names if name and values)
    return f"stacks are not kept by latency, so it is all of this time of {what}"


def _few(values: list[str]) -> str:
    return ", ".join(map(printable, values[:_FEW])) + (", …" if len(values) > _FEW else "")
