"""The C extension, or what stands in for it where it could not be built or loaded."""

try:
    from tracekit.probe._probe import Counter, Gauge, Kind, Span, Steps, Traced, board, counter, gauge, mark, span
except ImportError:
    from tracekit.probe._fallback import (  # type: ignore[assignment] # the same interface, other classes
        Counter,
        Gauge,
        Kind,
        Span,
        Steps,
        Traced,
        board,
        counter,
        gauge,
        mark,
        span,
    )

__all__ = ["Counter", "Gauge", "Kind", "Span", "Steps", "Traced", "board", "counter", "gauge", "mark", "span"]
