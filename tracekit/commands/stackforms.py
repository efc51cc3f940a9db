"""What stacks are written as: by --format, or by the end of a file's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.analysis import stackdiff
from tracekit.errors import UsageError
from tracekit.export import folded, pprof, speedscope, trace_event
from tracekit.report import flamediff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tracekit.stacks import Stack

PROFILES: dict[str, Callable[[Mapping[Stack, float], str, str], bytes]] = {
    "speedscope": speedscope.write,
    "pprof": pprof.write,
    "trace-event": trace_event.write,
}
"""Files for other programs: (weights, title, unit) to bytes."""
FORMS = ("folded", "svg", *PROFILES)
OF_DIFFERENCES = ("folded", "svg", "json")
_ENDINGS = {
    ".svg": "svg",
    ".folded": "folded",
    ".txt": "folded",
    ".speedscope.json": "speedscope",
    ".pb.gz": "pprof",
    ".trace.json": "trace-event",
}


@dataclass(frozen=True)
class Side:
    """One side of a comparison, and what it is weighed in."""

    weights: Mapping[Stack, float]
    unit: str


def chosen(output: Path | None, form: str | None, as_json: bool) -> str:
    """
    Return one of FORMS, or `json`.

    Raises:
        UsageError: two of them are asked for, or the name of *output* tells none.
    """
    if as_json and (output or form):
        raise UsageError("cannot use --json with -o or --format: it goes to stdout")
    if as_json:
        return "json"
    if form or not output:
        return form or "folded"
    for ending, found in _ENDINGS.items():
        if output.name.lower().endswith(ending):
            return found
    known = f"a name in {', '.join(_ENDINGS)}, or --format"
    raise UsageError(f"cannot write {output}: its name does not say what", known)


def difference(before: Side, after: Side, title: str, notes: tuple[str, ...], form: str) -> bytes:
    """Return what changed, in one of OF_DIFFERENCES."""
    if form == "svg":
        found = stackdiff.compare(before.weights, after.weights)
        return flamediff.svg(flamediff.Picture(found, title, (before.unit, after.unit), notes)).encode()
    shares = stackdiff.shares(before.weights, after.weights)
    if form == "json":
        return (folded.difference_as_json(shares) + "\n").encode()
    return folded.write_difference(shares).encode()
