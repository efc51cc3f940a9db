"""Were the promises kept? Judges objectives by evidence; no data is never a pass."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis.measure import Measurement, measure
from tracekit.errors import EXIT_FAIL, EXIT_NO_VERDICT
from tracekit.units import format_count, format_ns, format_share, format_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.analysis.measure import Evidence
    from tracekit.analysis.objectives import Objective
    from tracekit.records import Loss


class State(Enum):
    """What can be said of a promise."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    NOT_MEASURED = "NOT MEASURED"


@dataclass(frozen=True)
class Worst:
    """The interval furthest on the wrong side of the limit; `start_ns` counts from the start of the recording."""

    start_ns: int
    value: float


@dataclass(frozen=True)
class Verdict:
    """
    A state with its evidence.

    Attributes:
        value: in *unit*, per second if the limit is; None if not measured.
        n: how many of *counted* (`events`, `samples`, `intervals` or a metric) it was taken of.
        above: share of the events above the limit, of latencies with an upper limit.
        worst: of a FAIL.
        reason, hint: why it was not measured, and what would help.
    """

    objective: Objective
    state: State
    value: float | None = None
    unit: str = ""
    n: int = 0
    counted: str = ""
    above: float | None = None
    worst: Worst | None = None
    reason: str = ""
    hint: str = ""

    @property
    def margin(self) -> float | None:
        """Room to the limit, negative beyond it, in *unit*."""
        return None if self.value is None else self.objective.limit.margin(self.value)

    @property
    def margin_share(self) -> float | None:
        """The margin as a share of the limit; None of a limit of 0."""
        limit = self.objective.limit.value
        return None if self.margin is None or not limit else self.margin / limit


@dataclass(frozen=True)
class Judgement:
    """
    The verdicts on a recording and how much of it there was to judge.

    Attributes:
        duration_ns: length of its intervals.
        events: recorded in histograms; losses: seen but not recorded, those that are not zero.
        partial: how many of its *intervals* are known to lack data.
        complete: False if the recording has not ended.
    """

    verdicts: tuple[Verdict, ...]
    duration_ns: int
    intervals: int
    partial: int
    events: int
    losses: tuple[Loss, ...]
    complete: bool

    @property
    def state(self) -> State:
        """PASS if all passed, FAIL if any failed, else NOT_MEASURED."""
        states = {verdict.state for verdict in self.verdicts}
        if State.FAIL in states:
            return State.FAIL
        return State.PASS if states == {State.PASS} else State.NOT_MEASURED

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return {State.PASS: 0, State.FAIL: EXIT_FAIL}.get(self.state, EXIT_NO_VERDICT)

    def count(self, state: State) -> int:
        """Return how many verdicts are *state*."""
        return sum(verdict.state is state for verdict in self.verdicts)

    @property
    def lost(self) -> int:
        """Number of events seen but not recorded."""
        return sum(loss.count for loss in self.losses)


def judge(objectives: Iterable[Objective], evidence: Evidence) -> Judgement:
    """
    Judge each of *objectives* by *evidence*.

    Raises:
        UsageError: an objective makes no sense for its series.
        RecordingError: the recording contradicts itself.
    """
    return Judgement(
        verdicts=tuple(_judge(objective, evidence) for objective in objectives),
        duration_ns=round(evidence.duration_s * 1e9),
        intervals=len(evidence.intervals),
        partial=evidence.partial,
        events=evidence.events,
        losses=tuple(loss for loss in evidence.losses if loss.count),
        complete=evidence.complete,
    )


def _judge(objective: Objective, evidence: Evidence) -> Verdict:
    found = measure(objective, evidence)
    if not isinstance(found, Measurement):
        return Verdict(objective, State.NOT_MEASURED, reason=found.reason, hint=found.hint)
    kept = objective.limit.met(found.value)
    worst = None if kept else _worst(objective, found, evidence)
    state = State.PASS if kept else State.FAIL
    return Verdict(objective, state, found.value, found.unit, found.n, found.counted, found.above, worst)


def _worst(objective: Objective, found: Measurement, evidence: Evidence) -> Worst | None:
    values = np.where(np.isfinite(values := found.by_interval()), values, np.nan)
    if np.isnan(values).all():
        return None
    number = int(np.nanargmax(values) if objective.limit.upper else np.nanargmin(values))
    start_ns = evidence.intervals[number].start_ns - evidence.intervals[0].start_ns
    return Worst(start_ns, float(values[number]))


def outcome(verdict: Verdict) -> str:
    """Return value and limit in words: `p95 33.1 ms, limit < 20ms`; the limit alone if there is no value."""
    objective = verdict.objective
    value = "" if verdict.value is None else f" {_text(verdict, verdict.value)}"
    return f"{objective.statistic.key}{value}, limit {objective.limit.text}"


def grounds(verdict: Verdict) -> list[str]:
    """Return what a measured verdict stands on, a few words each: margin, n, share above the limit, worst interval."""
    if verdict.value is None or verdict.margin is None:
        return []
    share = "" if verdict.margin_share is None else f" ({format_share(abs(verdict.margin_share))})"
    word = "margin" if verdict.state is State.PASS else "over" if verdict.objective.limit.upper else "short"
    words = [f"{word} {_distance(verdict, abs(verdict.margin))}{share}"]
    words.append(f"n {format_count(verdict.n)}" + ("" if verdict.counted == "events" else f" {verdict.counted}"))
    if verdict.above is not None:
        words.append(f"{format_share(verdict.above)} above")
    if verdict.worst:
        at = format_ns(verdict.worst.start_ns) if verdict.worst.start_ns else "0 s"
        words.append(f"worst {_text(verdict, verdict.worst.value)} at {at}")
    return words


def _text(verdict: Verdict, value: float) -> str:
    return format_value(value, verdict.unit) + ("/s" if verdict.objective.limit.per_second else "")


def _distance(verdict: Verdict, value: float) -> str:
    """Return a difference in words; that of two shares is in points, as % of what would be unclear."""
    if verdict.unit == "share":
        return format_share(value).removesuffix(" %") + " points"
    return _text(verdict, value)
