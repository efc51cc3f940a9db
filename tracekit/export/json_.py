"""The JSON contract of `report --json` and `hist --json`: integers in ns and bytes, no rounding for people."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from tracekit.analysis import breakdown, hottest, shed, spans
from tracekit.analysis.measurement import Missing
from tracekit.export import db, shapes
from tracekit.histogram.confidence import LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.analysis.hottest import Heat
    from tracekit.analysis.summary import Samples, Summary
    from tracekit.analysis.training import Impact
    from tracekit.histogram import Histogram
    from tracekit.histogram.confidence import Confidence
    from tracekit.recording.reader import Recording
    from tracekit.records import Exemplar, Series

Document = dict[str, Any]
_FRAMES = 20
"""Of the code of a span: those with the largest shares."""


def report(recording: Recording, summary: Summary, impact: Impact | None = None) -> str:
    """
    Return everything a report is made of as one JSON object.

    `series` are histograms, `counters` sums over the recording, `gauges` samples; `cost` holds null
    where it was not measured. Times are ns of CLOCK_MONOTONIC; `clocks` places them.
    """
    document = {
        "target": dataclasses.asdict(recording.target),
        "host": dataclasses.asdict(recording.host),
        "clocks": dataclasses.asdict(recording.clocks),
        "intervals": len(recording.intervals),
        "start_ns": recording.start_ns,
        "duration_ns": recording.duration_ns,
        "complete": recording.complete,
        "end": recording.end,
        "role": summary.role or None,
        "series": [_series(one, part) for one, part in summary.histograms.items()],
        "counters": [_named(one) | {"value": value} for one, value in summary.counters.items()],
        "gauges": [_named(one) | dataclasses.asdict(samples) for one, samples in summary.gauges.items()],
        "spans": [_span(summary, one) for one in spans.every(summary)],
        "training_impact": _impact(impact) if impact else None,
        **db.document(summary),
        "processes": [dataclasses.asdict(process) for process in summary.processes],
        "in_flight": [dataclasses.asdict(wait) for wait in summary.in_flight],
        "loss": [dataclasses.asdict(loss) for loss in summary.losses],
        "lossy_intervals": summary.lossy,
        "partial_intervals": summary.partial,
        "shed": [dataclasses.asdict(one) for one in shed.found(recording.values(), recording.intervals)],
        "cost": _cost(summary),
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _impact(impact: Impact) -> dict[str, object]:
    found = impact.found
    names = {"span": impact.step, "during": impact.during}
    if isinstance(found, Missing):
        return names | {"slowdown": None, "reason": found.reason}
    known = found.confidence
    ends = [end if math.isfinite(end) else None for end in (known.low, known.high)] if known else None
    return names | {"slowdown": found.value, "confidence": ends, "steps_inside": found.n}


def series(
    histograms: Mapping[Series, Histogram], bounds: Mapping[Series, Mapping[float, Confidence]] | None = None
) -> str:
    """
    Return `{"series": [...]}` of *histograms*, each of at least one event.

    `"exact": false` says that sum, min and max are of slots, as logs have no more; `corrected_ns` that calls
    omitted were added. With *bounds*, each has the intervals of its quantiles as `confidence`; null is: not bounded.
    """
    rows = [_series(one, part) for one, part in histograms.items()]
    for (one, part), row in zip(histograms.items(), rows, strict=True):
        if bounds:
            row["confidence"] = {str(q): _bounds(each, part.count) for q, each in bounds.get(one, {}).items()}
    return json.dumps({"series": rows}, indent=1)


def _bounds(found: Confidence, count: int) -> Document:
    low = round(found.low) if found.low > 0 else None
    high = round(found.high) if math.isfinite(found.high) else None
    ends = {"level": LEVEL, "low": low, "high": high}
    return ends | {"count": count, "effective": found.effective, "method": found.method}


def span(recording: Recording, summary: Summary, detail: spans.Detail) -> str:
    """
    Return everything on the spans of one name as one JSON object.

    `series` and `counters` are of what happened inside them, `processes` were started there. Components are ns and
    add up to the latency; null where nothing was measured, or too little.
    """
    document = {
        "where": dict(detail.where),
        "clocks": dataclasses.asdict(recording.clocks),
        "start_ns": recording.start_ns,
        "duration_ns": recording.duration_ns,
        "complete": recording.complete,
        "role": summary.role or None,
        **_span(summary, detail.span, detail.where),
        "slowest": [_exemplar(one, exemplar) for one, exemplar in detail.slowest],
        "databases": db.document(detail.inside)["databases"],
        "series": [_series(one, part) for one, part in detail.inside.histograms.items()],
        "counters": [_named(one) | {"value": value} for one, value in detail.inside.counters.items()],
        "processes": [dataclasses.asdict(process) for process in detail.inside.processes],
        "in_flight": [dataclasses.asdict(wait) for wait in detail.inside.in_flight],
        "loss": [dataclasses.asdict(loss) for loss in summary.losses],
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _span(summary: Summary, one: spans.Span, where: Mapping[str, str] | None = None) -> Document:
    whole, tail = hottest.of_span(summary, one, where)
    return {
        "span": one.name,
        "rate": summary.rate(one.latency.count),
        **shapes.numbers(one.latency),
        "errors": dict(one.errors),
        **shapes.anatomy(one.anatomy),
        "code": _code(whole),
        "tail_code": _code(tail),
    }


def _code(heat: Heat | None) -> Document | None:
    """Null: no stacks were recorded, or there is no tail."""
    if not heat:
        return None
    return {"samples": heat.samples, "frames": [dataclasses.asdict(hot) for hot in heat.frames[:_FRAMES]]}


def _exemplar(one: Series, exemplar: Exemplar) -> Document:
    found = breakdown.of_exemplar(exemplar)
    fields = dataclasses.asdict(exemplar)
    kept = ("tgid", "pid", "start_ns", "duration_ns", "awaited", "failed", "seen")
    numbers = {"components_ns": dict(found.components), "failed_calls": found.errors}
    return {"labels": dict(one.labels), **{name: fields[name] for name in kept}, **numbers}


def _named(one: Series) -> Document:
    return {"metric": one.metric, "labels": dict(one.labels), "unit": one.unit}


def _series(one: Series, part: Histogram) -> Document:
    return _named(one) | shapes.numbers(part)


def _cost(summary: Summary) -> Document:
    """Null is: not measured. Shares are of one CPU."""
    collector, bpf = summary.counter("cost.collector"), summary.counter("cost.bpf")
    rss: Samples | None = summary.gauge("cost.rss")
    return {
        "collector_ns": collector,
        "collector_share": summary.share(collector),
        "bpf_ns": bpf,
        "bpf_share": summary.share(bpf),
        "rss_bytes": round(rss.max) if rss else None,
    }
