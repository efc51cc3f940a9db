"""The cause split of a miss: what slow spans, calls or steps took beyond usual ones, by component and code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tracekit.analysis import flame, gpu, slowdown, spans, spanstacks, suspects
from tracekit.analysis.concurrency import SPANS
from tracekit.analysis.sources import CALLS
from tracekit.samples import ROUGH
from tracekit.units import format_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.gpu import Driver
    from tracekit.analysis.measurement import Measurement
    from tracekit.analysis.objectives import Objective
    from tracekit.analysis.spans import Anatomy
    from tracekit.analysis.spanstacks import Subject
    from tracekit.analysis.suspects import Suspect

_NO_GPU = "no NVIDIA device here"
"""What a recording says where there can be no time of a GPU: capture/nvidia.py."""


@dataclass(frozen=True)
class Split:
    """
    What a miss was made of.

    Attributes:
        shares: (component, share), largest first; they add up to 1, some may be negative. Empty: not measured.
        of: what they are of, in words.
        tail: from which quantile on the slow ones are; 0 if the shares are of all of them.
        gpu: what is to be said of the time in the GPU's driver: that it is not known, or known roughly.
        code: where the slow ones spent more time than the usual ones.
        failed: system calls that failed in a mean slow span, and in a usual one (None: there is none to compare with).
        calls: functions of the GPU's driver, with the share of the miss that was in them, largest first.
    """

    shares: tuple[tuple[str, float], ...] = ()
    of: str = ""
    tail: float = 0.0
    gpu: str = ""
    code: tuple[Suspect, ...] = ()
    calls: tuple[tuple[str, float], ...] = ()
    failed: tuple[float, float | None] = (0.0, None)


@dataclass(frozen=True, eq=False)
class _Stacks:
    """Time by component and code of a mean slow span and a mean usual one, ns, and how many samples are of the slow."""

    slow: Mapping[tuple[str, ...], float]
    usual: Mapping[tuple[str, ...], float] | None
    at: int
    samples: int


def split(objective: Objective, found: Measurement, evidence: Evidence) -> Split:
    """Return what the miss of *objective*, measured as *found*, was made of."""
    if objective.metric == slowdown.METRIC:
        return Split(_shares(slowdown.gap(objective, evidence)), "what a step took more inside")
    if objective.metric not in (SPANS, CALLS) or objective.per:
        return Split()
    of_spans = objective.metric == SPANS
    parts = evidence.parts(objective.where, None) if of_spans else evidence.call_parts(objective.where)
    anatomy = spans.anatomy(evidence.slices(objective.metric, objective.where).whole, parts)
    if anatomy is None:
        return Split()
    usual = found.above is not None and found.above > 0.5  # then the median misses too: the tail is not the matter
    tail = anatomy.tail_q if anatomy.gap and not usual else 0.0
    of = f"what the slowest {round(100 - 100 * tail)} % took beyond the median" if tail else "their whole time"
    whole = anatomy.whole
    amounts = anatomy.gap if tail else {name: ns / whole.count for name, ns in whole.components.items()}
    known = Split(_shares(amounts), of, tail, failed=_failed(anatomy, tail))
    return _with_code(known, amounts, evidence.code(objective.where), evidence) if of_spans else known


def _failed(anatomy: Anatomy, tail: float) -> tuple[float, float | None]:
    """Return how many system calls failed in a mean span."""
    if tail and anatomy.tail and anatomy.median:
        return anatomy.tail.errors / anatomy.tail.count, anatomy.median.errors / anatomy.median.count
    return anatomy.whole.errors / anatomy.whole.count, None


def _with_code(known: Split, amounts: Mapping[str, float], subject: Subject | None, evidence: Evidence) -> Split:
    """Return *known*, whose *amounts* a slow span took, with what the stacks of the spans say."""
    if not subject or not subject.code.samples or subject.unmeasured:
        return replace(known, gpu=_unknown("no stacks of these spans were recorded", evidence))
    stacks = _stacks(subject, known.tail)
    miss = sum(amounts.values())
    slow, usual = (gpu.of(weights, stacks.at, miss) for weights in (stacks.slow, stacks.usual or {}))
    code = suspects.of(stacks.slow, stacks.usual, stacks.at, stacks.samples)
    if slow.blind or usual.blind:
        which = "the slow" if slow.blind else "the usual"
        note = _unknown(f"no sample of {which} ones on a CPU", evidence)
        return replace(known, gpu=note, code=code)
    more, calls = _less(slow.ns, usual.ns), _less(slow.calls, usual.calls)
    shares = _shares(gpu.moved(amounts, more))
    note = f"rests on {format_count(stacks.samples)} samples on a CPU" if _rough(slow, stacks.samples) else ""
    return replace(known, shares=shares, gpu=note, code=code, calls=_shares(calls, miss))


def _stacks(subject: Subject, tail: float) -> _Stacks:
    if not tail:
        count = sum(latency.count for latency in subject.latency.values())
        means = {stack: ns / count for stack, ns in spanstacks.whole(subject).items()}
        return _Stacks(means, None, 2, subject.samples())
    both = spanstacks.compared(subject, tail)
    median, slow = ({s: ns for s, ns in both.weights.items() if s[0] == band} for band in flame.BANDS)
    return _Stacks(slow, median, 3, subject.samples(both.tail))


def _unknown(reason: str, evidence: Evidence) -> str:
    """Say that the time of the GPU is not known, where there can have been any."""
    return "" if any(line.endswith(_NO_GPU) for line in evidence.findings) else f"not measured: {reason}"


def _rough(driver: Driver, samples: int) -> bool:
    return bool(driver.ns.get("on-CPU")) and samples < ROUGH


def _less(slow: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
    return {name: slow.get(name, 0.0) - usual.get(name, 0.0) for name in {**slow, **usual}}


def _shares(amounts: Mapping[str, float], whole: float | None = None) -> tuple[tuple[str, float], ...]:
    """Return *amounts* as shares of their sum, or of *whole*, largest first."""
    whole = sum(amounts.values()) if whole is None else whole
    if not whole:
        return ()
    shares = [(name, amount / whole) for name, amount in amounts.items() if amount]
    return tuple(sorted(shares, key=lambda item: -item[1]))
