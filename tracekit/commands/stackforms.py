"""What stacks are written as: by --format, or by the end of a file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.errors import UsageError
from tracekit.export import pprof, speedscope, trace_event

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
_ENDINGS = {
    ".svg": "svg",
    ".folded": "folded",
    ".txt": "folded",
    ".speedscope.json": "speedscope",
    ".pb.gz": "pprof",
    ".trace.json": "trace-event",
}


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
