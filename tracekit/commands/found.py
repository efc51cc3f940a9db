"""Stacks that a recording was asked for, and the words that go with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.samples import ROUGH
from tracekit.units import format_count

if TYPE_CHECKING:
    from tracekit.analysis.flame import Shape
    from tracekit.recording.reader import Recording
    from tracekit.stacks import Weights

_NO_CODE = "no stacks of code in it: attach and run record them unless there is --no-stacks"


@dataclass(frozen=True, eq=False)
class Found:
    """Stacks, what they are in words, what to say with them, their unit, and a shape that they do not tell."""

    weights: Weights
    what: str
    notes: tuple[str, ...] = ()
    unit: str = "ns"
    shape: Shape | None = None


def no_code(recording: Recording) -> str:
    """Say why there is no code to see."""
    any_ = any(series.kind == "stacks" for series in recording.series())
    return "no stack of code was seen in this" if any_ else _NO_CODE


def samples_words(count: int, where: str) -> str:
    """Say how many samples are behind the shares of code, and what they are worth."""
    noun = "sample" if count == 1 else "samples"
    return f"{format_count(count)} {noun} {where}{': rough' if count < ROUGH else ''}"
