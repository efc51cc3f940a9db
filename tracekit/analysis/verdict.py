"""Were the promises kept? Judges objectives by evidence; no data is never a pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from tracekit.analysis.measure import measure
from tracekit.analysis.measurement import Measurement, Missing
from tracekit.analysis.why import Why, Worst, why
from tracekit.errors import EXIT_FAIL, EXIT_NO_VERDICT
from tracekit.histogram import confidence
from tracekit.records import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.objectives import Limit, LimitUnit, Objective
    from tracekit.histogram.confidence import Confidence
    from tracekit.records import Loss


_LONGER = "record for longer: the limit lies inside the interval"


class State(Enum):
    """What can be said of a promise."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    NOT_MEASURED = "NOT MEASURED"


@dataclass(frozen=True)
class Verdict:
    """
    A state with its evidence.

    Attributes:
        limit: that of the objective; of one relative to a baseline, or of a budget, in the unit of the value.
        value: in *unit*, per second if the limit is; None if not measured.
        n: how many of *counted* (`events`, `samples`, `intervals` or a metric) it was taken of.
        confidence: where the true value is, 95 %; None if the value is the very thing.
        above: share of the events above the limit, of latencies with an upper limit.
        worst: of one that is not a PASS.
        baseline: the value of the baseline; None if none was asked for.
        facts: more that a reader should know, each a line.
        why: of a FAIL.
        reason: why it was not measured; hint: what would help it, or one that is UNDECIDED.
    """

    objective: Objective
    state: State
    limit: Limit
    value: float | None = None
    unit: str = ""
    n: int = 0
    counted: str = ""
    confidence: Confidence | None = None
    above: float | None = None
    worst: Worst | None = None
    baseline: float | None = None
    facts: tuple[str, ...] = ()
    why: Why | None = None
    reason: str = ""
    hint: str = ""

    @property
    def margin(self) -> float | None:
        """Room to the limit, negative beyond it, in *unit*."""
        return None if self.value is None else self.limit.margin(self.value)

    @property
    def margin_share(self) -> float | None:
        """The margin as a share of the limit; None of a limit of 0."""
        return None if self.margin is None or not self.limit.value else self.margin / self.limit.value

    @property
    def warns(self) -> bool:
        """True if it is not a PASS but may be, as its severity is only a warning."""
        return self.objective.severity == "warning" and self.state is not State.PASS


@dataclass(frozen=True)
class Judgement:
    """
    The verdicts on a recording and how much of it there was to judge.

    Attributes:
        duration_ns: length of its intervals.
        events: recorded in histograms; losses: seen but not recorded, those that are not zero.
        partial: how many of its *intervals* are known to lack data.
        complete: False if the recording has not ended.
        strict: warnings count as errors, and what could not be decided or measured as failed.
    """

    verdicts: tuple[Verdict, ...]
    duration_ns: int
    intervals: int
    partial: int
    events: int
    losses: tuple[Loss, ...]
    complete: bool
    strict: bool = False

    @property
    def state(self) -> State:
        """
        The worst state of the objectives that are more than warnings, by FAIL, UNDECIDED, NOT MEASURED, PASS.

        Of warnings alone: PASS if any of them could be measured. If strict, of all.
        """
        counts = [v for v in self.verdicts if self.strict or v.objective.severity != "warning"]
        if not counts:
            measured = any(verdict.state is not State.NOT_MEASURED for verdict in self.verdicts)
            return State.PASS if measured else State.NOT_MEASURED
        states = {verdict.state for verdict in counts}
        return next(s for s in (State.FAIL, State.UNDECIDED, State.NOT_MEASURED, State.PASS) if s in states)

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.state is State.PASS:
            return 0
        return EXIT_FAIL if self.strict or self.state is State.FAIL else EXIT_NO_VERDICT

    def count(self, state: State) -> int:
        """Return how many verdicts are *state*."""
        return sum(verdict.state is state for verdict in self.verdicts)

    @property
    def lost(self) -> int:
        """Number of events seen but not recorded."""
        return sum(loss.count for loss in self.losses)


def judge(
    objectives: Iterable[Objective], evidence: Evidence, baseline: Evidence | None = None, *, strict: bool = False
) -> Judgement:
    """
    Judge each of *objectives* by *evidence*, and by the *baseline* that some are relative to.

    Raises:
        UsageError: an objective makes no sense for its series.
        RecordingError: the recording contradicts itself.
    """
    every = [each for objective in objectives for each in _expanded(objective, evidence)]
    return Judgement(
        verdicts=tuple(_judge(objective, evidence, baseline) for objective in every),
        duration_ns=round(evidence.duration_s * 1e9),
        intervals=len(evidence.intervals),
        partial=evidence.partial,
        events=evidence.events,
        losses=tuple(loss for loss in evidence.losses if loss.count),
        complete=evidence.complete,
        strict=strict,
    )


def _expanded(objective: Objective, evidence: Evidence) -> Iterator[Objective]:
    """Yield one objective for each value of its `each` label, or itself."""
    label = objective.each
    values = {series.label(label) for series in evidence.matching(objective.metric, objective.where)} - {""}
    if not label or not values:
        yield objective
    for value in sorted(values) if label else ():
        title = f"{objective.title} ({value})" if objective.title else ""
        yield replace(objective, where=labels_of({**dict(objective.where), label: value}), title=title)


def _judge(objective: Objective, evidence: Evidence, baseline: Evidence | None) -> Verdict:
    found = measure(objective, evidence)
    if isinstance(found, Missing):
        return _not_measured(objective, found)
    if objective.limit.relative:
        return _relative(objective, found, evidence, baseline)
    limit = objective.limit
    if objective.burn:
        factor = objective.burn.factor
        limit = replace(limit, operator="<", value=factor, unit="times", text=f"< {factor:g} times")
    return _decided(objective, limit, found, evidence)


def _relative(objective: Objective, found: Measurement, evidence: Evidence, baseline: Evidence | None) -> Verdict:
    """Judge by a limit that is a share of the same value of the *baseline*."""
    if baseline is None:
        return _not_measured(objective, Missing("no baseline was given", "--baseline FILE"))
    other = measure(objective, baseline)
    if isinstance(other, Missing):
        return _not_measured(objective, Missing(f"in the baseline: {other.reason}", other.hint))
    if other.value <= 0:
        return _not_measured(objective, Missing("it is 0 in the baseline: nothing is a share of that", "a plain limit"))
    found = replace(found, confidence=_against(found, other))
    return _decided(objective, _resolved(objective, found, other), found, evidence, other.value)


def _resolved(objective: Objective, found: Measurement, other: Measurement) -> Limit:
    """Return the limit that is relative to the baseline *other* in the unit of the value."""
    per_second = objective.statistic.key == "rate" and not objective.per and found.unit != "share"
    units: dict[str, LimitUnit] = {"ns": "ns", "bytes": "bytes", "share": "share"}
    unit = units.get(found.unit, "count")
    value = objective.limit.value * other.value
    return replace(objective.limit, value=value, unit=unit, per_second=per_second, relative=False)


def _against(found: Measurement, other: Measurement) -> Confidence | None:
    """Return the interval that *found* has against the uncertain *other*, in the unit of both."""
    mine, its = found.confidence, other.confidence
    if mine is None or its is None or found.value <= 0:
        return mine
    ratio = confidence.of_ratio(found.value, mine, other.value, its)
    return replace(ratio, low=ratio.low * other.value, high=ratio.high * other.value)


def _decided(
    objective: Objective, limit: Limit, found: Measurement, evidence: Evidence, baseline: float | None = None
) -> Verdict:
    state = _state(limit, found)
    verdict = Verdict(
        objective, state, limit, found.value, found.unit, found.n, found.counted, found.confidence, found.above
    )
    verdict = replace(verdict, baseline=baseline, facts=found.facts)
    if state is State.PASS:
        return verdict
    verdict = replace(verdict, worst=_worst(limit, found, evidence))
    if state is State.UNDECIDED:
        return replace(verdict, hint=_LONGER)
    return replace(verdict, why=why(objective, found, verdict.worst, evidence))


def _state(limit: Limit, found: Measurement) -> State:
    known = found.confidence
    ends = {limit.met(found.value)} if known is None else {limit.met(known.low), limit.met(known.high)}
    if len(ends) > 1:
        return State.UNDECIDED
    return State.PASS if ends.pop() else State.FAIL


def _not_measured(objective: Objective, missing: Missing) -> Verdict:
    return Verdict(objective, State.NOT_MEASURED, objective.limit, reason=missing.reason, hint=missing.hint)


def _worst(limit: Limit, found: Measurement, evidence: Evidence) -> Worst | None:
    values = np.where(np.isfinite(values := found.by_stretch()), values, np.nan)
    if np.isnan(values).all():
        return None
    number = int(np.nanargmax(values) if limit.upper else np.nanargmin(values))
    stretch = found.stretches[number]
    return Worst(stretch.start_ns - evidence.start_ns, stretch.end_ns - evidence.start_ns, float(values[number]))
