"""
Spans, counters and marks of the program that imports this.

No thread, no file, no socket; nothing but the standard library. docs/probe.md has examples
and says what each costs.
"""

from __future__ import annotations

from tracekit.probe._engine import Counter, Gauge, Kind, Span, board, counter, gauge, mark, span
from tracekit.probe._traced import traced

TYPE_CHECKING = False  # typing itself would be half of the import
if TYPE_CHECKING:
    from tracekit.probe._snapshot import Snapshot

__all__ = ["Counter", "Gauge", "Kind", "Span", "counter", "gauge", "mark", "snapshot", "span", "traced"]


def snapshot() -> Snapshot:
    """Return what this process has counted so far: plain values, ready for JSON."""
    from tracekit.probe._snapshot import of_board  # noqa: PLC0415 - most programs never ask

    return of_board(board())
