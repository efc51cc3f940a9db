"""A number that a recording gives, with what it stands on; or why it gives none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tracekit.histogram.confidence import Confidence
    from tracekit.records import Interval


@dataclass(frozen=True)
class Missing:
    """Why nothing can be said, and what would help."""

    reason: str
    hint: str = ""


NOT_FINITE = Missing("the recording holds no finite number for it", "record again: the file is damaged")


@dataclass(frozen=True, eq=False)
class Measurement:
    """
    A value and what it stands on.

    Attributes:
        value: in *unit*; per second if the limit is.
        n: how many of *counted* it was taken of.
        stretches: the parts of the recording it was taken of, in order of time.
        by_stretch: gives the same statistic of each of them, float64[stretches], NaN where there is none.
        confidence: None if the value is the very thing: a largest sample, a sum.
        above: share of the events above the limit; None where that has no meaning.
        sums: numerator and denominator of a share in each stretch.
        facts: more that a reader should know, each a line.
    """

    value: float
    unit: str
    n: int
    counted: str
    stretches: Sequence[Interval]
    by_stretch: Callable[[], NDArray[np.float64]]
    confidence: Confidence | None = None
    above: float | None = None
    sums: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    facts: tuple[str, ...] = ()
