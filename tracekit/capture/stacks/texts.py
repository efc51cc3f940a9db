"""Words to frames: Python's while the process is as it was, native and kernel ones when their tables are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.stacks import layout
from tracekit.capture.stacks.code import code_of
from tracekit.capture.stacks.kallsyms import Kernel
from tracekit.capture.stacks.merging import CUT, STARTING, UNREADABLE, merge
from tracekit.capture.stacks.symbols import Symbols

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracekit.capture.stacks.memories import Memories
    from tracekit.capture.stacks.samples import User
    from tracekit.capture.stacks.sleepers import Stood

Frames = tuple[str, ...]
Python = tuple[str | None, ...]
"""Frames innermost first; None where C called the interpreter."""


class _Learnt(NamedTuple):
    """Python frames of a stack by their number, and the addresses of their code objects."""

    number: int
    codes: frozenset[int]


_MOST_KEPT = 1 << 16
_MARKS = {layout.PYTHON_CUT: CUT, layout.PYTHON_STARTING: STARTING, layout.PYTHON_UNREADABLE: UNREADABLE}


class Texts:
    """Names of the frames of one recording."""

    def __init__(self) -> None:
        self.symbols = Symbols()
        self._kernel = Kernel()
        self._numbers: dict[Python, int] = {(): 0}
        self._pythons: list[Python] = [()]
        self._last: dict[int, _Learnt] = {}
        self._kept: dict[tuple[int, int, int], Frames] = {}
        self._merged: dict[tuple[int, Frames, Frames, bool], Frames] = {}

    @property
    def missing(self) -> list[str]:
        """What has no names, each one line with its reason."""
        return [self._kernel.problem] if self._kernel.problem else []

    def learn(self, users: Mapping[int, User], memories: Memories) -> None:
        """Name the Python frames of stacks that were seen just now: new ones, and all where code has changed."""
        if len(self._last) >= _MOST_KEPT:
            self._last.clear()
        places: dict[tuple[int, int], list[int]] = {}
        for ident, user in users.items():
            places.setdefault((user.tgid, user.layout), []).append(ident)
        for (tgid, number), idents in places.items():
            fresh = [ident for ident in idents if ident not in self._last]
            codes = {code for ident in idents if ident in self._last for code in self._last[ident].codes}
            if not memories.hold(tgid, codes):
                fresh = idents
            if fresh:
                memories.see(users[ident] for ident in fresh)
                names = memories.python_names(tgid, number, {word for ident in fresh for word in users[ident].python})
                self._name({ident: users[ident] for ident in fresh}, names)

    def _name(self, users: Mapping[int, User], names: Mapping[int, str]) -> None:
        for ident, user in users.items():
            python = _python(user, names)
            number = self._numbers.get(python)
            if number is None:
                number = self._numbers[python] = len(self._pythons)
                self._pythons.append(python)
            codes = frozenset(code_of(word) for word in user.python if word != layout.PYTHON_ENTERED)
            self._last[ident] = _Learnt(number, codes)

    def python_of(self, ident: int) -> int:
        """Return the number of the Python frames that a stack of the user's side had when it was last learnt."""
        learnt = self._last.get(ident)
        return learnt.number if learnt else 0

    def frames(
        self, stack: tuple[int, int, int], user: User | None, kernel: Sequence[int], memories: Memories
    ) -> Frames | None:
        """
        Return the frames of a stack, root first; None: ask again, names are being looked up.

        *stack* is the identity of the user's side, the number of its Python frames and the identity of the kernel's
        side; *user* and *kernel* are their words.
        """
        known = self._kept.get(stack)
        if known is not None:
            return known
        natives = self._natives(user, memories) if user else ()
        kernels = self._kernel.frames(kernel) if kernel else ()
        if natives is None or kernels is None:
            return None
        whole = user is None or user.native_end == layout.NATIVE_WHOLE
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
            self._merged.clear()
        parts = stack[1], natives, kernels, whole  # of many addresses in the same functions
        frames = self._merged.get(parts)
        if frames is None:
            frames = self._merged[parts] = merge(self._pythons[stack[1]], natives, kernels, native_whole=whole)
        self._kept[stack] = frames
        return frames

    def prepare(self) -> None:
        """Have names of the kernel read, which takes a while, before they are needed."""
        self._kernel.frames(())

    def standing(self, stood: Stood, timeout_s: float) -> Frames:
        """Return the frames of a thread that stands still, root first; names of the kernel are waited for."""
        words = stood.sleeper.kernel
        kernels = self._kernel.frames(words)
        if kernels is None:
            self._kernel.settle(timeout_s)
            kernels = self._kernel.frames(words)
        return stood.frames(kernels or ())

    def _natives(self, user: User, memories: Memories) -> tuple[str, ...] | None:
        addresses = [word - (place > 0) for place, word in enumerate(user.native)]
        names = self.symbols.names(memories.owner(user), addresses)
        if len(names) < len(set(addresses)):
            return None
        return tuple(names[address] for address in addresses)

    def settle(self, timeout_s: float) -> bool:
        """Wait for names that are being looked up; tell whether all have come."""
        return self.symbols.settle(timeout_s) and self._kernel.settle(timeout_s)

    def close(self) -> None:
        """End whoever looks names up."""
        self.symbols.close()


def _python(user: User, names: Mapping[int, str]) -> Python:
    frames = [None if word == layout.PYTHON_ENTERED else names.get(word, UNREADABLE) for word in user.python]
    frames = [frame for frame in frames if frame != ""]  # made by the interpreter: nobody wrote them
    if user.python_end in _MARKS:
        frames.append(_MARKS[user.python_end])
    return tuple(frames)
