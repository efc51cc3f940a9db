"""Percentiles as a table, and a distribution as bars, in text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tracekit.analysis.octaves import octaves
from tracekit.analysis.summary import quantile
from tracekit.histogram import merge
from tracekit.report.terminal import WIDTH, bar, columns_of, fit, heading, pad, table
from tracekit.units import format_count, format_ns, format_share, format_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.analysis.octaves import Octave
    from tracekit.histogram import Histogram
    from tracekit.histogram.confidence import Confidence
    from tracekit.records import Series

    Bounds = Mapping[Series, Mapping[float, Confidence]]

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
_HEADS = ["n", *_QUANTILES, "max", "mean", "total"]
_BAR = 30
_INDENT = 2
_NAME = 24
OF_METRICS = frozenset({"role", "span", "cpu", "errno", "how", "kind", "reason", "syscall", "thread", "type"})
"""Labels that tell the series of a metric apart; in a span others are the span's own."""


@dataclass(frozen=True)
class _Row:
    """A line of the percentile table: where it stands, what it is called, its numbers."""

    group: str
    name: str
    cells: list[str]


def percentiles(histograms: Mapping[Series, Histogram]) -> list[str]:
    """Return a table with a row for each series, by metric (and role), the largest sum first."""
    ranked = sorted(histograms.items(), key=lambda item: (item[0].metric, *_place(item[0]), -item[1].total))
    return _lines([_Row(_group(one), _name(one), _cells(part, one.unit)) for one, part in ranked])


def distribution(metric: str, note: str, histograms: Mapping[Series, Histogram]) -> list[str]:
    """Return the percentiles of all events of *metric* and of each series, and a row of bars for each octave."""
    whole, unit = merge(list(histograms.values())), next(iter(histograms)).unit
    ranked = sorted(histograms.items(), key=lambda item: -item[1].total)
    rows = [_Row("", "all", _cells(whole, unit))] if len(ranked) > 1 else []
    labels = ", ".join(name for name, _ in max(histograms, key=lambda one: len(one.labels)).labels)
    rest = f"no {labels}" if rows and "," not in labels else "all"
    rows += [_Row("", _labels(one) or rest, _cells(part, unit)) for one, part in ranked]
    title = heading(fit(metric, WIDTH), ", ".join(filter(None, (f"by {labels}" * bool(labels), note))))
    return [title, *_lines(rows), "", *_bars(whole, unit)]


def intervals(histograms: Mapping[Series, Histogram], bounds: Bounds, note: str = "") -> list[str]:
    """Return a table with a row for each quantile that its events support: value, interval, and what it rests on."""
    rows = [["", "", "value", "from", "to", "n", "worth", "by"]]
    for one, part in sorted(histograms.items(), key=lambda item: (item[0].metric, -item[1].total)):
        name = fit(" ".join((one.metric, *(value for _, value in one.labels))), _NAME)
        for q, found in bounds.get(one, {}).items():
            ends = [_short(end, one.unit) if 0 < end < math.inf else "?" for end in (found.low, found.high)]
            worth = format_count(round(found.effective))
            value = _short(part.quantile(q), one.unit)
            rows.append([name, f"p{100 * q:g}", value, *ends, format_count(part.count), worth, found.method])
            name = ""
    title = heading("95 % intervals", note)
    return [
        title,
        *table(rows, "<<>>>>><"),
        "",
        "`?`: too few independent events to bound it; `worth`: how many there are.",
    ]


def _lines(rows: list[_Row]) -> list[str]:
    """Lay rows out; a name too long for its column gets a line of its own, so that none is cut into another."""
    widths = [max(map(columns_of, column)) for column in zip(_HEADS, *(row.cells for row in rows), strict=True)]
    gap = 2 if sum(widths) + 2 * len(widths) <= WIDTH - _INDENT else 1
    room = max(WIDTH - sum(widths) - gap * len(widths), _INDENT)
    room = min(room, max(columns_of(row.name) + _INDENT for row in rows))
    lines = [" " * room + _numbers(_HEADS, widths, gap)]
    for group, members in groupby(rows, key=lambda row: row.group):
        lines += [heading(group)] if group else []
        for row in members:
            name = " " * _INDENT + row.name
            if columns_of(name) > room:
                lines.append(name)
                name = ""
            lines.append(pad(name, room) + _numbers(row.cells, widths, gap))
    return lines


def _numbers(cells: list[str], widths: list[int], gap: int) -> str:
    return "".join(" " * gap + pad(cell, width, ">") for cell, width in zip(cells, widths, strict=True))


def _cells(part: Histogram, unit: str) -> list[str]:
    found = [quantile(part, q) for q in _QUANTILES.values()]
    values = [*found, part.high, part.mean, part.total]
    return [format_count(part.count), *("-" if value is None else _short(value, unit) for value in values)]


def _short(value: float, unit: str) -> str:
    """Format without blanks, so that eight columns fit; other units than ns stand in the heading."""
    return format_ns(value).replace(" ", "") if unit == "ns" else format_count(value)


def _bars(whole: Histogram, unit: str) -> list[str]:
    rows = octaves(whole.counts, whole.layout)
    most = max(row.count for row in rows)
    marks = {name: quantile(whole, q) for name, q in _QUANTILES.items()}
    cells = []
    for row in rows:
        here = [name for name, value in marks.items() if value is not None and row.low <= value < row.high]
        drawn = pad(bar(row.count / most, _BAR), _BAR)
        share = format_share(row.count / whole.count)
        cells.append(
            [*_range(row, unit), format_count(row.count), share, drawn + ("  ◂ " + ", ".join(here)) * bool(here)]
        )
    return table([["from", "to", "n", "share", ""], *cells], ">>>><")


def _range(row: Octave, unit: str) -> list[str]:
    if row.high - row.low == 1 and unit != "ns":
        return ["", format_value(row.low, unit)]
    if unit == "ns":
        return [format_ns(row.low), format_ns(row.high)]
    return [format_value(row.low, "count"), format_value(row.high - 1, unit)]


def _role(one: Series) -> str:
    """Return the role where other labels tell apart the rows below it, else ""."""
    return one.label("role") if len(one.labels) > 1 else ""


def _group(one: Series) -> str:
    role, inside = _role(one), _inside(one)
    unit = "" if one.unit == "ns" else f" ({one.unit})"
    return fit(one.metric + unit + (f"  role={role}" if role else "") + (f"  in {inside}" if inside else ""), WIDTH)


def _place(one: Series) -> tuple[str, str]:
    return _role(one), _inside(one)


def _inside(one: Series) -> str:
    """Return the kind of spans that a series of the kernel is about, "" outside of spans."""
    if not one.label("span") or one.metric.startswith("span."):
        return ""
    own = [f"{name}={value}" for name, value in one.labels if name not in OF_METRICS]
    return " ".join([one.label("span"), *own])


def _name(one: Series) -> str:
    inside = bool(_inside(one))
    rest = [value for name, value in one.labels if name != "role" or len(one.labels) == 1]
    if inside:
        rest = [value for name, value in one.labels if name in OF_METRICS and name not in ("role", "span")]
    return fit(" ".join(rest) or ("all" if inside else "-"), WIDTH - 2)


def _labels(one: Series) -> str:
    return fit(" ".join(value for _, value in one.labels), WIDTH - 2)
