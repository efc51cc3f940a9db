"""What evaluating costs a training, where a recording has spans named so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.analysis import slowdown
from tracekit.analysis.concurrency import SPANS
from tracekit.analysis.measure import measure
from tracekit.analysis.objectives import Limit, Objective, Statistic
from tracekit.records import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.analysis.evidence import Evidence
    from tracekit.analysis.measurement import Measurement, Missing
    from tracekit.records import Series

STEPS = (slowdown.DEFAULTS["span"], "train.step", "training")
"""What a step of a training is called, the first that there is."""
DURING = slowdown.DEFAULTS["during"]

_ANY = Limit("<", 0.0, "share", per_second=False, text="")


@dataclass(frozen=True)
class Impact:
    """By which share a mean *step* is longer while *during* runs, or why that is not known."""

    step: str
    during: str
    found: Measurement | Missing


def step_of(ended: Iterable[Series]) -> str:
    """Return the name of the training steps of which, and of evaluations, some are in *ended*; "" if not of both."""
    names = {series.label("span") for series in ended if series.metric == SPANS}
    return next((name for name in STEPS if name in names), "") if DURING in names else ""


def impact(step: str, evidence: Evidence) -> Impact:
    """Return what evaluations cost the spans *step* that ran beside them."""
    names = labels_of({"span": step, "during": DURING})
    return Impact(step, DURING, measure(Objective(slowdown.METRIC, names, Statistic("mean"), _ANY), evidence))
