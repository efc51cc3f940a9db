"""Verdicts as JSON for other programs; docs/objectives.md lists the fields."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tracekit.analysis.objectives import format_series
from tracekit.analysis.wording import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracekit.analysis.suspects import Suspect
    from tracekit.analysis.verdict import Judgement, Verdict


def encode(judged: Sequence[tuple[str, Judgement]]) -> bytes:
    """Return each judgement on the recording of a name as one JSON object, of several in an array; SI base units."""
    documents = [_judgement(name, judgement) for name, judgement in judged]
    document = documents[0] if len(documents) == 1 else documents
    return json.dumps(document, indent=2, allow_nan=False).encode("ascii") + b"\n"


def _judgement(name: str, judgement: Judgement) -> dict[str, Any]:
    return {
        "recording": name,
        "state": judgement.state.value,
        "strict": judgement.strict,
        "duration_ns": judgement.duration_ns,
        "complete": judgement.complete,
        "intervals": judgement.intervals,
        "partial_intervals": judgement.partial,
        "events": judgement.events,
        "lost": {loss.reason: loss.count for loss in judgement.losses},
        "objectives": [_objective(verdict, name) for verdict in judgement.verdicts],
    }


def _objective(verdict: Verdict, name: str) -> dict[str, Any]:
    objective, limit = verdict.objective, verdict.limit
    return {
        "name": objective.name,
        "expression": objective.expression,
        "severity": objective.severity,
        "state": verdict.state.value,
        "metric": objective.metric,
        "labels": dict(objective.where),
        "per": format_series(*objective.per) if objective.per else None,
        "during": objective.during or None,
        "window_ns": objective.window_ns or None,
        "burn": {k: v for k, v in asdict(objective.burn).items() if k != "text"} if objective.burn else None,
        "statistic": objective.statistic.key,
        "operator": limit.operator,
        "limit": _number(limit.value),
        "unit": verdict.unit or limit.unit,
        "per_second": limit.per_second,
        "value": _number(verdict.value),
        "margin": _number(verdict.margin),
        "margin_share": verdict.margin_share,
        "n": verdict.n,
        "counted": verdict.counted,
        "confidence": _confidence(verdict),
        "share_above": verdict.above,
        "worst": _numbers(verdict.worst),
        "baseline": _number(verdict.baseline),
        "facts": list(verdict.facts),
        "why": _why(verdict, name),
        "reason": verdict.reason,
        "hint": verdict.hint,
    }


def _confidence(verdict: Verdict) -> dict[str, Any] | None:
    known = verdict.confidence
    if known is None:
        return None
    high = None if math.isinf(known.high) else _number(known.high)
    ends = {"level": 0.95, "low": _number(known.low), "high": high}
    return {**ends, "effective_n": _number(round(known.effective, 1)), "method": known.method}


def _why(verdict: Verdict, name: str) -> dict[str, Any] | None:
    why = verdict.why
    if why is None:
        return None
    return {
        "split": dict(why.split.shares),
        "split_of": why.split.of,
        "gpu": why.split.gpu,
        "failed_calls": dict(zip(("slow", "usual"), why.split.failed, strict=True)),
        "code": [_suspect(suspect) for suspect in why.split.code],
        "differences": list(why.differences),
        "differences_of": {"start_ns": why.start_ns, "end_ns": why.end_ns},
        "advice": [asdict(advice) for advice in why.advice],
        "command": command(why, name),
    }


def _suspect(suspect: Suspect) -> dict[str, Any]:
    usual = None if suspect.usual_ns is None else round(suspect.usual_ns)
    times = {"slow_ns": round(suspect.slow_ns), "usual_ns": usual, "samples": suspect.samples}
    return {"component": suspect.component, "place": suspect.place, **times, "stack": list(suspect.stack)}


def _numbers(value: Any) -> dict[str, Any] | None:
    return {key: _number(number) for key, number in vars(value).items()} if value else None


def _number(value: float | None) -> float | None:
    """Return whole numbers as integers: ns and bytes are."""
    return int(value) if value is not None and float(value).is_integer() else value
