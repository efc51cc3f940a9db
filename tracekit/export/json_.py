"""The JSON contract of `report --json` and `hist --json`: integers in ns and bytes, no rounding for people."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from tracekit.analysis.summary import QUANTILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.analysis.summary import Samples, Summary
    from tracekit.histogram import Histogram
    from tracekit.recording.reader import Recording
    from tracekit.records import Series

Document = dict[str, Any]


def report(recording: Recording, summary: Summary) -> str:
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
        "processes": [dataclasses.asdict(process) for process in summary.processes],
        "in_flight": [dataclasses.asdict(wait) for wait in summary.in_flight],
        "loss": [dataclasses.asdict(loss) for loss in summary.losses],
        "lossy_intervals": summary.lossy,
        "partial_intervals": summary.partial,
        "cost": _cost(summary),
    }
    return json.dumps(document, indent=1, allow_nan=False)


def series(histograms: Mapping[Series, Histogram]) -> str:
    """Return `{"series": [...]}` of *histograms*, each of at least one event."""
    return json.dumps({"series": [_series(one, part) for one, part in histograms.items()]}, indent=1)


def _named(one: Series) -> Document:
    return {"metric": one.metric, "labels": dict(one.labels), "unit": one.unit}


def _series(one: Series, part: Histogram) -> Document:
    quantiles = {str(q): part.quantile(q) for q in QUANTILES}
    sums = {"count": part.count, "sum": part.total, "min": part.low, "max": part.high}
    return _named(one) | sums | {"quantiles": quantiles}


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
