"""A recording as evidence to judge by."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis import slices, sources, spanstacks
from tracekit.analysis.evidence import Evidence
from tracekit.analysis.spanstacks import Code
from tracekit.stacks import merge, without_interpreter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracekit.analysis.slices import Slices
    from tracekit.analysis.spanstacks import Subject
    from tracekit.histogram.parts import Parts
    from tracekit.recording.reader import Recording, Rows
    from tracekit.records import Exemplar, Labels, StackWeight

_ALL = 1 << 30
"""More slow spans than an interval keeps."""


def of(recording: Recording) -> Evidence:
    """Return what *recording* offers; what is costly is read when it is asked for."""
    size = len(recording.intervals)

    @cache
    def rows_of(metric: str) -> Rows:
        return recording.rows(metric)

    @cache
    def slices_of(metric: str, where: Labels) -> Slices:
        rows = rows_of(metric)
        kept = set(sources.chosen(rows.names, recording.series(), dict(where)))
        wanted = np.array([series in kept and set(where) <= set(series.labels) for series in rows.names], dtype=bool)
        facts, cells = (rows.interval, rows.total, rows.low, rows.high), (rows.row, rows.slot, rows.count)
        return slices.of_rows(size, facts, cells, wanted[rows.series])

    @cache
    def exemplars(where: Labels) -> list[tuple[int, Exemplar]]:
        found = ((n, recording.exemplars(dict(where), (n, n + 1), _ALL)) for n in range(size))
        return [(number, exemplar) for number, pairs in found for _, exemplar in pairs]

    def parts(where: Labels, runs: Sequence[tuple[int, int]] | None) -> list[Parts]:
        return [part for run in runs or [(0, size)] for part in recording.parts(dict(where), run).values()]

    def call_parts(where: Labels) -> list[Parts]:
        found = recording.parts(dict(where), metric=sources.CALLS)
        return [found[series] for series in sources.chosen(found, recording.series(), dict(where))]

    @cache
    def code(where: Labels) -> Subject:
        latency, parts = recording.histograms("span.latency", dict(where)), recording.parts(dict(where))
        seen = Code(recording.samples("stack.span", dict(where)), without_interpreter)
        return spanstacks.of_spans(latency, parts, {}, seen)

    def failures(where: Labels) -> Mapping[tuple[str, ...], float]:
        found = recording.samples("stack.errors", dict(where)).values()
        return merge(samples.weights(without_interpreter) for samples in found)

    def stacks(first: int, last: int) -> Mapping[tuple[str, ...], StackWeight]:
        return recording.stacks((first, last))

    return Evidence(
        series=recording.series(),
        histograms=recording.histograms(),
        values=recording.values(),
        intervals=recording.intervals,
        partial=len(recording.partial),
        tiers=frozenset(recording.host.tiers),
        losses=recording.losses(),
        complete=recording.complete,
        slices=slices_of,
        exemplars=exemplars,
        parts=parts,
        call_parts=call_parts,
        code=code,
        failures=failures,
        stacks=stacks,
        findings=recording.missing,
        start_ns=recording.start_ns,
    )
