"""The application's own units of work as text: how long they took, and what the slow ones were made of."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from tracekit.analysis import breakdown, hottest, spans
from tracekit.analysis.breakdown import AWAITING, ON_CPU, UNATTRIBUTED
from tracekit.analysis.measurement import Missing
from tracekit.analysis.summary import merged_by, quantile
from tracekit.report.terminal import WIDTH, fit, flow, heading, table
from tracekit.samples import ROUGH
from tracekit.units import format_count, format_ns, format_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracekit.analysis.breakdown import Breakdown
    from tracekit.analysis.hottest import Heat, Hot
    from tracekit.analysis.summary import Summary
    from tracekit.analysis.training import Impact
    from tracekit.histogram import Histogram
    from tracekit.records import Clocks, Exemplar

NO_KERNEL = "not measured: recorded without the kernel"

_WORDS = {"runq": "run queue", "child": "child process", "fault": "page fault", "other": "other waits"}
_MEANINGS = {
    "db": "waiting for a database",
    AWAITING: "suspended (async) until something answered, or its turn came",
    UNATTRIBUTED: "spans that the kernel did not see whole",
}
_TOP = 10
_LOOPS = 6
_NAME = 24
_SLOWEST = 5
_CAUSES = 2
_FRAMES = 5
_FRAME = 40
_ROLES = 4
_LEAST = 0.005
"""Shares below half a percent are not worth a word."""


def section(summary: Summary) -> list[str]:
    """Return the table of all spans; no lines if there are none."""
    found = spans.every(summary)
    if not found:
        return []
    known = any(span.anatomy for span in found)
    note = "from start to end; --span NAME for more" if known else f"what they waited for: {NO_KERNEL}"
    rows = [["", "n", "a second", "failed", "p50", "p99", "max"]]
    rows += [_row(summary, span) for span in found[:_TOP]]
    head, *lines = table(rows, "<>>>>>>")
    both = [
        line
        for row, span in zip(lines, found, strict=False)
        for line in (row, *_tail_words(span), *_code_words(summary, span))
    ]
    rest = found[_TOP:]
    if rest:
        both.append(f"  and {len(rest)} more: {format_ns(sum(span.latency.total for span in rest))}")
    return [heading("Spans", note), head, *both]


def beside(impact: Impact | None) -> list[str]:
    """Return what evaluating costs the training beside it; no lines if there is no such pair."""
    if not impact:
        return []
    step, during, found = fit(impact.step, _NAME), fit(impact.during, _NAME), impact.found
    if isinstance(found, Missing):
        return flow([f"  {step} while {during} runs: not compared", found.reason], 4)
    longer = f"{format_share(abs(found.value))} {'longer' if found.value >= 0 else 'shorter'}"
    known = found.confidence
    bounds = f" (95 %: {format_share(known.low)} to {_end(known.high)})" if known else ""
    chance = ["within chance"] if known and known.low <= 0 <= known.high else []
    counts = f"{format_count(found.n)} {found.counted}"
    lines = flow([f"  {step} takes {longer} while {during} runs{bounds}", *chance, *counts.split(", ")], 4)
    return [*lines, *(f"    {fact}" for fact in found.facts)]


def loops(summary: Summary) -> list[str]:
    """Return the busy times of event loops; no lines if none was seen."""
    parts = {series: part for series, part in summary.histograms.items() if series.metric == "loop.busy"}
    found = merged_by(parts, lambda series: (series.label("thread"), series.label("role")))
    if not found:
        return []
    rows = [["", "n", "p50", "p99", "max"]]
    rows += [[_thread(*name), *_numbers(part)] for name, part in list(found.items())[:_LOOPS]]
    lines = [heading("Event loops", "each turn, from one wait in epoll to the next"), *table(rows, "<>>>>")]
    return lines + ([f"  and {len(found) - _LOOPS} more"] if len(found) > _LOOPS else [])


def head(summary: Summary, detail: spans.Detail) -> list[str]:
    """Return how many, how long and how they failed."""
    span = detail.span
    n = span.latency.count
    rate = f"{format_count(n)} ended, {format_count(summary.rate(n))} a second" if n else "none has ended"
    lines = [heading(f"Span {fit(span.name, 40)}", rate)]
    if detail.labels:
        lines += flow([f"  {fit(detail.labels[0], 60)}", *(fit(label, 60) for label in detail.labels[1:])], 2)
    if n:
        marks = [(f"p{100 * q:g}", quantile(span.latency, q)) for q in (0.5, 0.9, 0.99, 0.999)]
        times = [f"{name} {'-' if value is None else format_ns(value)}" for name, value in marks]
        lines += flow([f"  {times[0]}", *times[1:], f"max {format_ns(span.latency.high)}"], 2)
    return lines + _failed(span)


def composition(span: spans.Span) -> list[str]:
    """Return where the time of the median and of the tail went."""
    found = span.anatomy
    if not span.latency.count:
        return []
    if not found:
        return [heading("Where the time went", NO_KERNEL)]
    rows = [("median", found.median)] if found.median else [("all", found.whole)]
    rows += [(f"tail from p{100 * found.tail_q:g}", found.tail)] if found.tail else []
    lines = [heading("Where the time went", "of a span, mean")]
    lines += _bands(rows)
    named = {name for _, part in rows for name, share in part.ranked() if share >= _LEAST}
    return [*lines, *_comparison(found), *(f"  {name}: {words}" for name, words in _MEANINGS.items() if name in named)]


def code(summary: Summary, detail: spans.Detail) -> list[str]:
    """Return the code in which the spans and the slow ones spent most of their time; no lines if none was seen."""
    whole, tail = hottest.of_span(summary, detail.span, detail.where)
    if not whole:
        return []
    slow = {(hot.component, hot.frame): hot for hot in tail.frames} if tail else {}
    listed = [*whole.frames[:_FRAMES], *(tail.frames[:_FRAMES] if tail else ())]
    shown = list(dict.fromkeys((hot.component, hot.frame) for hot in listed if hot.own >= _LEAST))
    usual = {(hot.component, hot.frame): hot for hot in whole.frames}
    rows = [["", "", "all", *(["tail"] if tail else [])]]
    for place in shown:
        shares = [_own(known.get(place)) for known in (usual, slow)[: 2 if tail else 1]]
        rows.append([fit(place[1], _FRAME), _word(place[0]), *shares])
    lines = [heading("Where in the code", "share of the time of a span, with its calls into libraries")]
    return [*lines, *table(rows, "<<>>"), *_rough(whole, tail)]


def slowest(detail: spans.Detail, clocks: Clocks, start_ns: int) -> list[str]:
    """Return the slowest spans, one a line."""
    chosen = detail.slowest[:_SLOWEST]
    if not chosen:
        return []
    rows = [["began, UTC", "after", "pid", "took", "made of"]]
    for _, one in chosen:
        after = format_ns(max(0, one.start_ns - start_ns))
        rows.append([_moment(clocks, one.start_ns), after, str(one.tgid), format_ns(one.duration_ns), _made_of(one)])
    return [heading("Slowest"), *table(rows, "<>>><")]


def _row(summary: Summary, span: spans.Span) -> list[str]:
    n = span.latency.count
    failed = click.style(format_count(span.failed), fg="red") if span.failed else "0"
    numbers = [format_count(n), format_count(summary.rate(n)), failed if n or span.failed else "-"]
    marks = _numbers(span.latency)[1:] if n else ["none has ended"]
    return [fit(span.name, _NAME), *numbers, *marks]


def _numbers(part: Histogram) -> list[str]:
    marks = ["-" if value is None else format_ns(value) for value in (quantile(part, q) for q in (0.5, 0.99))]
    return [format_count(part.count), *marks, format_ns(part.high)]


def _tail_words(span: spans.Span) -> list[str]:
    """Say in a line what makes the slow ones slow, if that is known."""
    found = span.anatomy
    if not found or not found.gap:
        return []
    longer, causes = _causes(found.gap)
    words = f"slow ones (from p{100 * found.tail_q:g}) take {format_ns(longer)} longer"
    return flow([f"    {words}: {causes[0]}", *causes[1:2]], 6) if causes else []


def _code_words(summary: Summary, span: spans.Span) -> list[str]:
    """Say in a line each in which code the spans and the slow ones of them spent their time, if that is known."""
    lines: list[str] = []
    for words, heat in zip(("time in", "slow ones in"), hottest.of_span(summary, span), strict=True):
        if heat:
            items = [_hot(hot) for hot in heat.frames[:_CAUSES] if hot.own >= _LEAST]
            lines += flow([f"    {words} {items[0]}", *items[1:]], 6) if items else []
    return lines


def of_roles(summary: Summary) -> list[str]:
    """Say in which code the threads of each role spent their time, where no spans tell."""
    if any(series.metric == "span.latency" for series in summary.histograms):
        return []
    lines: list[str] = []
    for role, frames in list(hottest.of_roles(summary).items())[:_ROLES]:
        items = [_hot(hot) for hot in frames[:_CAUSES] if hot.own >= _LEAST]
        lines += flow([f"  {fit(role, _FRAME)}: {items[0]}", *items[1:]], 4) if items else []
    hint = "  tracekit flamegraph draws it"
    return [heading("Code by role", "share of its threads' time"), *lines, hint] if lines else []


def _hot(one: Hot) -> str:
    return f"{fit(one.frame, _FRAME)} {_word(one.component)} {format_share(round(one.own, 2))}"


def _own(one: Hot | None) -> str:
    return format_share(round(one.own, 2) if one else 0)


def _rough(whole: Heat, tail: Heat | None) -> list[str]:
    """Say on how few samples the shares on a CPU rest."""
    few = [
        f"{format_count(heat.samples)} of {name}"
        for name, heat in (("all", whole), ("the tail", tail))
        if heat and heat.samples < ROUGH
    ]
    return flow([f"  rough, samples on CPU: {few[0]}", *few[1:]], 4) if few else []


def _causes(gap: Mapping[str, float]) -> tuple[float, list[str]]:
    """Return the gap in ns, and what makes a twentieth of it or more, largest first."""
    longer = sum(gap.values())
    ranked = sorted((item for item in gap.items() if item[1] >= max(longer / 20, 1)), key=lambda item: -item[1])
    return longer, [f"{_word(name)} +{format_ns(ns)}" for name, ns in ranked]


def _comparison(found: spans.Anatomy) -> list[str]:
    if found.gap:
        longer, causes = _causes(found.gap)
        return flow([f"  the tail is longer by {format_ns(longer)}: {causes[0]}", *causes[1:]], 4) if causes else []
    if found.tail_q:
        return [f"  no tail: p{100 * found.tail_q:g} is near the median"]
    n = found.whole.count
    few = "the median needs 50 spans, the tail 100" if not found.median else "the tail needs 100 spans"
    return [f"  {few}, there {'is' if n == 1 else 'are'} {format_count(n)}"]


def _bands(rows: Sequence[tuple[str, Breakdown]]) -> list[str]:
    cells = [[name, format_ns(part.mean_ns), format_count(part.count)] for name, part in rows]
    lines = table([["", "each", "spans"], *cells], "<>>")
    indent = max(map(len, lines)) + 2
    found = [lines[0].ljust(indent) + "made of"]
    for line, (_, part) in zip(lines[1:], rows, strict=True):
        first, *more = flow(_shares(part), 0, WIDTH - indent)
        found += [line.ljust(indent) + first, *(" " * indent + rest for rest in more)]
    return found


def _shares(part: Breakdown) -> list[str]:
    """Return `lock 71 %` of each component that is worth a word."""
    shown = [(name, share) for name, share in part.ranked() if share >= _LEAST]
    return [f"{_word(name)} {format_share(round(share, 2))}" for name, share in shown] or ["nothing"]


def _made_of(one: Exemplar) -> str:
    causes = _shares(breakdown.of_exemplar(one))[:_CAUSES] if one.seen else ["not seen by the kernel"]
    return ", ".join([*causes, *(["failed"] if one.failed else [])])


def _failed(span: spans.Span) -> list[str]:
    if not span.failed:
        return ["  none failed"] if span.latency.count else []
    n = span.latency.count
    share = f" ({format_share(span.failed / n)})" if n else ""
    kinds = [f"{fit(kind, 32)} {format_count(count)}" for kind, count in span.errors[:5]]
    kinds += [f"{len(span.errors) - 5} more types"] if len(span.errors) > 5 else []
    return flow(
        [click.style(f"  {format_count(span.failed)} failed", fg="red") + f"{share}: {kinds[0]}", *kinds[1:]], 4
    )


def _moment(clocks: Clocks, at_ns: int) -> str:
    real_ns = clocks.realtime_ns + at_ns - clocks.monotonic_ns
    try:
        when = datetime.fromtimestamp(real_ns // 10**9, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):  # a time that a traced process made up
        return "-"
    return f"{when:%H:%M:%S}.{real_ns // 10**6 % 1000:03}"


def _end(high: float) -> str:
    return format_share(high) if math.isfinite(high) else "no upper end"


def _thread(thread: str, role: str) -> str:
    return fit(thread, 20) if thread == role else f"{fit(thread, 20)} of {fit(role, 16)}"


def _word(component: str) -> str:
    return component if component in (ON_CPU, AWAITING, UNATTRIBUTED) else _WORDS.get(component, component)
