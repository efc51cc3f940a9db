"""tracekit: where the time of each unit of work went, from the kernel up."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would be half of the import
if TYPE_CHECKING:
    from tracekit.probe import Kind, counter, gauge, mark, snapshot, span, traced

__version__ = "0.1.0"
__all__ = ["Kind", "__version__", "counter", "gauge", "mark", "snapshot", "span", "traced"]


def __getattr__(name: str) -> object:
    """Import the probe when it is first asked for: `from tracekit import span`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tracekit import probe  # noqa: PLC0415 - the command line needs none

    return getattr(probe, name)
