"""Verdicts as JSON for other programs; docs/objectives.md lists the fields."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekit.analysis.verdict import Judgement, Verdict


def encode(judgement: Judgement, name: str) -> bytes:
    """Return *judgement* on the recording called *name* as one JSON object; numbers in ns, bytes, shares, counts."""
    document = {
        "recording": name,
        "state": judgement.state.value,
        "duration_ns": judgement.duration_ns,
        "complete": judgement.complete,
        "intervals": judgement.intervals,
        "partial_intervals": judgement.partial,
        "events": judgement.events,
        "lost": {loss.reason: loss.count for loss in judgement.losses},
        "objectives": [_objective(verdict) for verdict in judgement.verdicts],
    }
    return json.dumps(document, indent=2, allow_nan=False).encode("ascii") + b"\n"


def _objective(verdict: Verdict) -> dict[str, Any]:
    objective = verdict.objective
    limit, worst = objective.limit, verdict.worst
    return {
        "name": objective.name,
        "expression": objective.expression,
        "state": verdict.state.value,
        "metric": objective.metric,
        "labels": dict(objective.where),
        "statistic": objective.statistic.key,
        "operator": limit.operator,
        "limit": _number(limit.value),
        "unit": limit.unit,
        "per_second": limit.per_second,
        "value": _number(verdict.value),
        "margin": _number(verdict.margin),
        "margin_share": verdict.margin_share,
        "n": verdict.n,
        "counted": verdict.counted,
        "share_above": verdict.above,
        "worst": {"start_ns": worst.start_ns, "value": _number(worst.value)} if worst else None,
        "reason": verdict.reason,
        "hint": verdict.hint,
    }


def _number(value: float | None) -> float | None:
    """Return whole numbers as integers: ns and bytes are."""
    return int(value) if value is not None and float(value).is_integer() else value
