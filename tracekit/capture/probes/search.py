"""When each process is looked at again: soon at first, then ever more seldom, so that thousands cost little."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

FARTHEST = 64
"""Ticks between two looks, at most."""


class Search:
    """The processes of the target, and at which tick the next look at each is due."""

    def __init__(self) -> None:
        self._tick = 0
        self._next: dict[int, tuple[int, int]] = {}
        """tgid → (tick, ticks from that look to the one after it)."""
        self._were_there: set[int] = set()

    @property
    def is_first(self) -> bool:
        """Nobody was looked for before this tick."""
        return self._tick <= 1

    def was_there(self, tgid: int) -> bool:
        """Tell whether *tgid* lived at the first tick, and was not looked at yet."""
        return tgid in self._were_there

    def tick(self, living: Collection[int]) -> list[int]:
        """Begin a tick and return whom to look at in it, the longest due first."""
        self._tick += 1
        alive = set(living)
        for tgid in self._next.keys() - alive:
            del self._next[tgid]
        self._were_there = alive if self.is_first else self._were_there & alive
        for tgid in alive - self._next.keys():
            self._next[tgid] = self._tick, 1
        due = [(tick, tgid) for tgid, (tick, _) in self._next.items() if tick <= self._tick]
        return [tgid for _, tgid in sorted(due)]

    def looked_at(self, tgid: int) -> None:
        """Put the next look at *tgid* off, twice as long as the last time."""
        self._were_there.discard(tgid)
        wait = self._next[tgid][1]
        self._next[tgid] = self._tick + wait, min(2 * wait, FARTHEST)
