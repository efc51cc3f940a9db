"""Counters that only grow, as what each grew by since it was last seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekit.records import Series

Sample = tuple["Series", float]
"""A series and its value: an absolute count before, an increase after."""


class Increases:
    """The last absolute value of each series."""

    def __init__(self) -> None:
        self._last: dict[Series, float] = {}
        self._based = False

    def since(self, absolute: Iterable[Sample]) -> list[Sample]:
        """
        Return the increase of each series since it was last given; nothing on the first call.

        A series that is new later counts from zero, as a disk or card that was plugged in does. One that
        fell is another device of the same name, or a 32-bit counter of the kernel that wrapped: from zero too.
        """
        grown = [(series, self._grown(series, value)) for series, value in absolute]
        first, self._based = not self._based, True
        return [] if first else grown

    def _grown(self, series: Series, value: float) -> float:
        last = self._last.get(series, 0)
        self._last[series] = value
        return value - last if value >= last else value
