"""Shapes that several JSON documents have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracekit.analysis.summary import QUANTILES

if TYPE_CHECKING:
    from tracekit.analysis.breakdown import Breakdown
    from tracekit.analysis.spans import Anatomy
    from tracekit.histogram import Histogram

Document = dict[str, Any]


def numbers(part: Histogram) -> Document:
    """Return count, sum, extremes and quantiles of *part*; a quantile of nothing is null."""
    quantiles = {str(q): part.quantile(q) if part.count else None for q in QUANTILES}
    found: Document = {"count": part.count, "sum": part.total, "min": part.low, "max": part.high}
    if not part.exact:
        found["exact"] = False
    if part.corrected:
        found["corrected_ns"] = part.corrected
    return found | {"quantiles": quantiles}


def anatomy(found: Anatomy | None) -> Document:
    """Return what latencies were made of, all, the median and the tail; null: not measured, or too few."""
    return {
        "all": _breakdown(found.whole) if found else None,
        "median": _breakdown(found.median) if found else None,
        "tail": _breakdown(found.tail) if found else None,
        "tail_quantile": found.tail_q or None if found else None,
        "gap_ns": found.gap or None if found else None,
    }


def _breakdown(part: Breakdown | None) -> Document | None:
    if not part:
        return None
    return {
        "count": part.count,
        "latency_ns": part.latency_ns,
        "components_ns": dict(part.components),
        "failed_calls": part.errors,
    }
