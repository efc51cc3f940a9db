"""
Stacks as a file of speedscope (https://www.speedscope.app): a sampled profile, one sample a stack.

The samples are in the order of their frames, so that equal callers lie side by side also in the view by time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tracekit import __version__
from tracekit.export import frames
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracekit.stacks import Stack

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_UNITS = {"ns": "nanoseconds", "bytes": "bytes"}


def write(weights: Mapping[Stack, float], title: str, unit: str) -> bytes:
    """Return the file; *unit* is `ns`, `bytes`, or anything else, which speedscope has no word for."""
    stacks = sorted(stack for stack, weight in weights.items() if weight)
    places = {frame: place for place, frame in enumerate(dict.fromkeys(frame for stack in stacks for frame in stack))}
    kept = [weights[stack] for stack in stacks]
    profile = {
        "type": "sampled",
        "name": printable(title),
        "unit": _UNITS.get(unit, "none"),
        "startValue": 0,
        "endValue": sum(kept),
        "samples": [[places[frame] for frame in stack] for stack in stacks],
        "weights": kept,
    }
    document = {
        "$schema": SCHEMA,
        "exporter": f"tracekit@{__version__}",
        "name": printable(title),
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(text) for text in places]},
        "profiles": [profile],
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _frame(text: str) -> dict[str, Any]:
    """Return a frame; its name is the whole text where speedscope has no field for a part, and it merges by name."""
    parts = frames.parse(text)
    if not parts.file:
        return {"name": printable(text)}
    return {"name": parts.name, "file": parts.file} | ({"line": parts.line} if parts.line else {})
