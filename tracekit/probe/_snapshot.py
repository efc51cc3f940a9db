"""What a board says, as plain values."""

from __future__ import annotations

import math
from struct import unpack_from
from typing import TypedDict

from tracekit.probe import _layout as layout

QUANTILES = ("0.5", "0.9", "0.99", "0.999")


class SpanValues(TypedDict):
    """The spans of one kind that have ended."""

    name: str
    labels: dict[str, str]
    count: int
    errors: dict[str, int]
    """By type of exception; "failed" of span.fail()."""
    total_ns: int
    low_ns: int
    high_ns: int
    awaited_ns: int
    """As much of total_ns is of spans whose Context was left: of async code that awaited."""
    quantiles_ns: dict[str, int]
    """At most 1/128 above the exact one; keys are "0.5", "0.9", "0.99" and "0.999"."""


class NumberValues(TypedDict):
    """A counter, or a gauge that was set."""

    name: str
    labels: dict[str, str]
    value: float
    count: int
    """Times it was set or added to."""


class MarkValues(TypedDict):
    """A mark that was set."""

    name: str
    count: int
    first_ns: int
    """CLOCK_MONOTONIC."""


class LostValues(TypedDict):
    """What found no room."""

    kinds: int
    """Spans that were counted as <other>."""
    errors: int
    values: int
    threads: int


class Snapshot(TypedDict):
    """All that the probe of this process has counted. Can be written as JSON."""

    pid: int
    spans: list[SpanValues]
    counters: list[NumberValues]
    gauges: list[NumberValues]
    marks: list[MarkValues]
    lost: LostValues


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _labels(field: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in _text(field).split("\n") if line)


def _quantiles(counts: tuple[int, ...], high_ns: int) -> dict[str, int]:
    """Rank rule of HdrHistogram: one ulp down, then up to the next integer."""
    total = sum(counts)
    ranks = {name: max(1, math.ceil(math.nextafter(float(name), 0.0) * total)) for name in QUANTILES}
    found: dict[str, int] = {}
    seen = 0
    for slot, count in enumerate(counts):
        seen += count
        for name, rank in ranks.items():
            if name not in found and seen >= rank:
                found[name] = min(layout.upper_edge(slot), high_ns)
        if seen == total:
            break
    return found


def _errors(board: bytes, used: int) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for row in range(1, used):
        count, kind, name = layout.ERROR.unpack_from(board, layout.ERRORS_AT + row * layout.ERROR.size)
        if count:
            found.setdefault(kind, {})[_text(name)] = count
    return found


def _span(board: bytes, row: int, errors: dict[str, int]) -> SpanValues | None:
    _, name, labels = layout.KIND.unpack_from(board, layout.KINDS_AT + row * layout.KIND.size)
    at = layout.LATENCY_AT + row * layout.LATENCY_SIZE
    failed, low, high, _ = layout.LATENCY_HEAD.unpack_from(board, at)
    buckets = unpack_from(f"<{2 * layout.BUCKETS}Q", board, at + layout.LATENCY_HEAD.size)
    counts = unpack_from(f"<{layout.SLOTS}Q", board, at + layout.LATENCY_HEAD.size + 16 * layout.BUCKETS)
    if not high:
        return None
    if unnamed := failed - sum(errors.values()):
        errors = {**errors, "<other>": unnamed}
    return {
        "name": _text(name),
        "labels": _labels(labels),
        "count": sum(counts),
        "errors": errors,
        "total_ns": sum(buckets[: layout.BUCKETS]),
        "low_ns": low,
        "high_ns": high,
        "awaited_ns": sum(buckets[layout.BUCKETS :]),
        "quantiles_ns": _quantiles(counts, high),
    }


def of_board(board: bytes) -> Snapshot:
    """Return what the bytes of a board say. What was never used is not in it."""
    header = layout.HEADER.unpack_from(board)
    pid, kinds, errors_used, values_used = header[3], header[8], header[9], header[10]
    lost_kinds, lost_errors, lost_values, lost_threads = header[12:16]
    errors = _errors(board, errors_used)
    spans = (_span(board, row, errors.get(row, {})) for row in range(kinds))
    found: Snapshot = {
        "pid": pid,
        "spans": [span for span in spans if span],
        "counters": [],
        "gauges": [],
        "marks": [],
        "lost": {"kinds": lost_kinds, "errors": lost_errors, "values": lost_values, "threads": lost_threads},
    }
    for row in range(1, values_used):
        at = layout.VALUES_AT + row * layout.VALUE.size
        value, count, first_ns, kind, name, labels = layout.VALUE.unpack_from(board, at)
        if not count:
            continue
        if kind == layout.MARK:
            found["marks"].append({"name": _text(name), "count": count, "first_ns": first_ns})
            continue
        of_its_type = found["counters" if kind == layout.COUNTER else "gauges"]
        of_its_type.append({"name": _text(name), "labels": _labels(labels), "value": value, "count": count})
    return found
