"""
What running one kind of span costs another: training steps while evaluations run against steps while none does.

A recording keeps no single steps but, for each interval, how many ended and how long they took. Each of these
is placed: it ran from its end back, and the share of that time in which an evaluation ran is its exposure.
Steps of 90 % or more are inside, of 10 % or less outside; those between say little and are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis import breakdown, slices, spans
from tracekit.analysis.absence import NAMING
from tracekit.analysis.concurrency import SPANS, bounds, of
from tracekit.analysis.measurement import Measurement, Missing
from tracekit.analysis.taken import of_quantile
from tracekit.errors import UsageError
from tracekit.histogram import confidence
from tracekit.units import format_count, format_ns, format_share, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.objectives import Objective, Statistic
    from tracekit.analysis.slices import Slices

    Floats = NDArray[np.float64]

METRIC = "training.slowdown"
DEFAULTS = {"span": "training.step", "during": "evaluation"}
INSIDE, OUTSIDE = 0.9, 0.1
_FEW = 5
_BETWEEN = 0.5
"""A larger share of steps that are neither leaves too few to speak for all."""


def measure(objective: Objective, evidence: Evidence, level: float) -> Measurement | Missing:
    """Return by which share the statistic of *objective* is longer inside than outside."""
    names = DEFAULTS | dict(objective.where)
    _check(objective)
    for name in names.values():
        if not evidence.slices(SPANS, (("span", name),)).events.sum():
            return Missing(f"no span {printable(name)} ended while recorded{_others(evidence)}", NAMING)
    inside, outside, between = _split(evidence, names["span"], names["during"])
    return _scarce(objective.statistic, names["during"], inside, outside, between) or _compared(
        objective.statistic, evidence, inside, outside, names["span"], level
    )


def gap(objective: Objective, evidence: Evidence) -> dict[str, float]:
    """
    Return by how much a step is longer inside than outside, ns by component; {} if that was not measured.

    Sums of components are kept for whole intervals: of those in which a `during` ran for INSIDE of the time or
    more, against those of OUTSIDE or less.
    """
    names = DEFAULTS | dict(objective.where)
    where = (("span", names["span"]),)
    share = of(evidence, (("span", names["during"]),)).mean(*bounds(evidence), 1.0)
    found = []
    for chosen in (share >= INSIDE, share <= OUTSIDE):
        part = evidence.slices(SPANS, where).pick(np.flatnonzero(chosen))
        found.append(spans.anatomy(part.whole, evidence.parts(where, _runs(chosen))) if chosen.any() else None)
    inside, outside = found
    return breakdown.gap(inside.whole, outside.whole) if inside and outside else {}


def _others(evidence: Evidence) -> str:
    """Return which spans did, a few of them."""
    names = sorted({series.label("span") for series in evidence.histograms if series.metric == SPANS})
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f": those that did are {', '.join(map(printable, names[:_FEW]))}{more}" if names else ""


def _runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs [first, last) of what was *chosen*."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]]))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _check(objective: Objective) -> None:
    strange = [name for name, _ in objective.where if name not in DEFAULTS]
    hint = f'{METRIC}{{span="training.step",during="evaluation"}}'
    if strange:
        raise UsageError(f"cannot use {objective.place}: {METRIC} has no label {strange[0]}", hint)
    if objective.statistic.key != "mean" and not objective.statistic.q:
        raise UsageError(f"cannot use {objective.place}: {METRIC} has a mean and quantiles", 'mean = "< 5%"')
    if objective.limit.unit != "share" or objective.limit.relative or objective.per:
        raise UsageError(f"cannot use {objective.place}: {METRIC} is a share", f'{objective.statistic.key} = "< 5%"')


def _split(evidence: Evidence, step: str, other: str) -> tuple[Slices, Slices, float]:
    """Return the steps inside and outside of the *other* span, and how many are neither."""
    steps = evidence.slices(SPANS, (("span", step),))
    running = of(evidence, (("span", other),))
    start, end = bounds(evidence)
    begun = np.maximum(start[steps.interval] - slices.MIDDLE[steps.slot], 0.0)  # of what was before, nothing is known
    exposure = running.mean(begun, end[steps.interval], 1.0)
    inside, outside = exposure >= INSIDE, exposure <= OUTSIDE
    return _only(steps, inside), _only(steps, outside), float(steps.count[~inside & ~outside].sum())


def _only(steps: Slices, keep: NDArray[np.bool_]) -> Slices:
    """Return the cells to *keep*, with sums by the middles of their slots, in the intervals that have any."""
    number, slot, count = steps.interval[keep], steps.slot[keep], steps.count[keep]
    total = np.bincount(number, count * slices.MIDDLE[slot], len(steps.total)).astype(np.float64)
    part = replace(steps, interval=number, slot=slot, count=count, total=total)
    return part.pick(np.flatnonzero(part.events))


def _scarce(statistic: Statistic, other: str, inside: Slices, outside: Slices, between: float) -> Missing | None:
    """Say what keeps the two from being compared; None if nothing does."""
    needed = confidence.needed(statistic.q or 0.5)
    for part, word in ((inside, "inside"), (outside, "outside")):
        n = float(part.events.sum())
        if n < needed:
            fact = f"{format_count(n)} steps ran wholly {word} {printable(other)}, {statistic.key} needs {needed}"
            return Missing(fact, "record for longer, with times of both kinds")
    share = between / float(between + inside.events.sum() + outside.events.sum())
    if share > _BETWEEN:
        fact = f"{format_share(share)} of the steps ran partly inside {printable(other)}"
        return Missing(fact, "record with a shorter interval (-i 100ms)")
    return None


def _compared(
    statistic: Statistic, evidence: Evidence, inside: Slices, outside: Slices, step: str, level: float
) -> Measurement:
    (mine, its), (other, others) = (_taken(statistic, part, level) for part in (inside, outside))
    ratio = confidence.of_ratio(mine, its, other, others)
    found = replace(ratio, low=ratio.low - 1, high=ratio.high - 1)
    n, outer = round(float(inside.events.sum())), round(float(outside.events.sum()))

    def by_stretch() -> Floats:
        steps = evidence.slices(SPANS, (("span", step),))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(steps.total / steps.events / other - 1)

    facts = tuple(_described(part, word) for part, word in ((inside, "inside"), (outside, "outside")))
    counted = f"steps inside, {format_count(outer)} outside"
    return Measurement(mine / other - 1, "share", n, counted, evidence.intervals, by_stretch, found, facts=facts)


def _taken(statistic: Statistic, part: Slices, level: float) -> tuple[float, confidence.Confidence]:
    whole = part.whole
    if not statistic.q:
        value = float(part.total.sum() / part.events.sum())
        return value, confidence.of_mean(part.total, part.events, confidence.variance_of(whole), level)
    value = float(whole.quantile(statistic.q))
    return value, of_quantile(part, statistic.q, level)


def _described(part: Slices, word: str) -> str:
    whole = part.whole
    mean = float(part.total.sum() / part.events.sum())
    p50, p99 = (whole.quantile(q) for q in (0.5, 0.99))
    return f"{word}: mean {format_ns(mean)}, p50 {format_ns(p50)}, p99 {format_ns(p99)}"
