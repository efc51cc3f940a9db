"""
One stack of three: Python's frames where the interpreter's native ones ran them, and the kernel's on top.

An activation of the interpreter, `_PyEval_EvalFrameDefault`, runs one Python frame or, from 3.11, as many as call
each other in Python. So the groups of Python frames stand in the native stack at those functions, by their order.
Their numbers differ where a walk did not reach the outermost frame, while a function is being entered, and where a
build keeps no names: no frame is lost then, and none changes places with one of its own kind.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CUT = "[deeper frames cut]"
UNREADABLE = "[unreadable frame]"
STARTING = "[thread start or exit]"

_INTERPRETER = re.compile(r".* \((?:lib)?python3[^():/]*\)", re.DOTALL)
_EVALUATION = re.compile(r"(?:_PyEval_EvalFrameDefault|_TAIL_CALL_)\S* \((?:lib)?python3[^():/]*\)")
_TAIL_CALL = "_TAIL_CALL_"


def merge(
    python: Sequence[str | None],
    native: Sequence[str],
    kernel: Sequence[str],
    *,
    native_whole: bool = True,
) -> tuple[str, ...]:
    """
    Return the frames of a stack, root first.

    Args:
        python: innermost first; None where C called the interpreter. A walk that reached the outermost frame ends
            with None; another one with a mark (CUT, UNREADABLE, STARTING) or a frame.
        native: innermost first, `symbol (library)`.
        kernel: innermost first.
        native_whole: the native walk reached the outermost frame.
    """
    groups = _groups(python)
    python_whole = not python or python[-1] is None
    inside, outside = _placed(groups, native, whole=python_whole and native_whole, python_whole=python_whole)
    frames = [*kernel]
    for place, frame in enumerate(native):
        frames += inside.get(place, ())
        frames.append(frame)
    frames += outside
    if native and not native_whole and not (groups and python_whole) and CUT not in frames:
        frames.append(CUT)
    return tuple(reversed(frames))


def _groups(python: Sequence[str | None]) -> list[list[str]]:
    """Return the Python frames of each activation, innermost first."""
    groups: list[list[str]] = [[]]
    for frame in python:
        if frame is None:
            groups.append([])
        else:
            groups[-1].append(frame)
    return groups if groups[-1] else groups[:-1]


def _placed(
    groups: list[list[str]], native: Sequence[str], *, whole: bool, python_whole: bool
) -> tuple[dict[int, list[str]], list[str]]:
    """Return the Python frames right inside of native ones, by their places, and those outside of all."""
    places = [place for place in range(len(native)) if _evaluates(native, place)]
    if not places:
        return _without_names(groups, native)
    surplus = len(places) - len(groups)
    if python_whole and surplus == 1:
        places = places[1:]  # a function is being entered
    if whole and surplus < 0:
        places = places[:1] * -surplus + places  # the innermost have no names: all in one place
    inside: dict[int, list[str]] = {}
    for place, group in zip(places, groups, strict=False):
        inside.setdefault(place, []).extend(group)
    return inside, [frame for group in groups[len(places) :] for frame in group]


def _evaluates(native: Sequence[str], place: int) -> bool:
    """Tell whether a frame is an activation; one that tail-calls consists of two."""
    following = native[place + 1] if place + 1 < len(native) else ""
    is_half = native[place].startswith(_TAIL_CALL) and _EVALUATION.fullmatch(following)
    return bool(_EVALUATION.fullmatch(native[place])) and not is_half


def _without_names(groups: list[list[str]], native: Sequence[str]) -> tuple[dict[int, list[str]], list[str]]:
    """Place all where the interpreter is entered, and outside of all where that is not in the native stack."""
    frames = [frame for group in groups for frame in group]
    outermost = max((place for place, frame in enumerate(native) if _INTERPRETER.fullmatch(frame)), default=None)
    return ({}, frames) if outermost is None else ({outermost: frames}, [])
