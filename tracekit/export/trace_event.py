"""
Stacks as trace events (JSON), for Perfetto, chrome://tracing and what else reads them.

Stacks have no times, so the axis is weight: a first frame is a track of its own that
begins at 0, and each frame a complete event (`X`) as long as the stacks through it, its
callees side by side upon it. The format's own `stackFrames` and `samples` are read by
chrome://tracing only; Perfetto leaves them out (google/perfetto#387), and reads these events.

A weight of 1 ns is a nanosecond of the axis. A sample or a byte is a microsecond, which
is what the axis counts in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tracekit.export import frames
from tracekit.stacks import tree
from tracekit.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracekit.stacks import Stack, Tree

OTHER = 1000
"""Nanoseconds of the axis for a weight of 1 that is not time."""

_PROCESS = 1  # tracks have other numbers: readers take the one of the same for the main thread

Event = dict[str, Any]


@dataclass
class _Slice:
    """A frame on its track, ns of the axis."""

    name: str
    track: int
    begin: int
    end: int = 0


def write(weights: Mapping[Stack, float], title: str, unit: str) -> bytes:
    """Return the file. A frame that rounds to no length is left out, with all upon it."""
    grown = tree({stack: weight for stack, weight in weights.items() if weight and stack})
    scale = 1 if unit == "ns" else OTHER
    slices = _slices(grown, _ends(weights, grown.stacks, scale))
    events = [_metadata("process_name", 0, title), *_tracks(grown.stacks), *map(_complete, slices)]
    axis = "weight, ns" if scale == 1 else f"weight, 1 us for each of: {unit}"
    document = {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"title": title, "axis": axis}}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _metadata(kind: str, track: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": track, "args": {"name": printable(name)}}


def _tracks(stacks: list[Stack]) -> Iterator[Event]:
    for track, name in enumerate(dict.fromkeys(stack[0] for stack in stacks), _PROCESS + 1):
        yield _metadata("thread_name", track, name)
        yield {"ph": "M", "name": "thread_sort_index", "pid": _PROCESS, "tid": track, "args": {"sort_index": track}}


def _ends(weights: Mapping[Stack, float], stacks: list[Stack], scale: int) -> list[int]:
    """Return where on its track each of the sorted *stacks* ends, ns; the sums are rounded, so errors do not grow."""
    ends: list[int] = []
    for _, track in groupby(stacks, key=itemgetter(0)):
        ends += (round(end * scale) for end in accumulate(weights[stack] for stack in track))
    return ends


def _slices(grown: Tree, ends: list[int]) -> Iterator[_Slice]:
    """Yield callers before callees: where both begin at once, readers nest them in this order."""
    found: list[_Slice] = []
    path: list[_Slice] = []
    track, at = _PROCESS, 0
    for stack, kept, end in zip(grown.stacks, grown.shared, ends, strict=True):
        track, at = (track, at) if kept else (track + 1, 0)
        path[kept:] = [_Slice(frame, track, at) for frame in stack[kept:]]
        found += path[kept:]
        for piece in path:
            piece.end = end
        at = end
    return (piece for piece in found if piece.end > piece.begin)


def _complete(piece: _Slice) -> Event:
    parts = frames.parse(piece.name)
    event = {"ph": "X", "name": printable(piece.name), "pid": _PROCESS, "tid": piece.track}
    event |= {"ts": piece.begin / 1000, "dur": (piece.end - piece.begin) / 1000}
    source = {"file": parts.file, "line": parts.line, "library": parts.library}
    args = {name: value for name, value in source.items() if value}
    return event | {"args": args} if args else event
