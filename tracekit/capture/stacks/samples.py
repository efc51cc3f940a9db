"""Records of the stack walkers, taken apart; and the frames that they speak of, which come only once."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.stacks import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_STACKS = 1 << 16
"""Frames of so many stacks are kept; then all are forgotten, and sent again where they are needed."""

_BEYOND = (layout.NATIVE_NO_MAPPING, layout.NATIVE_NO_ROW)


class Sample(NamedTuple):
    """struct stack_record: a sample on CPU, a wait that ended, or a failed call. Names are ids, times are ns."""

    at_ns: int
    weight: int
    user: int
    kernel: int
    spans: tuple[int, ...]
    """When the open spans began, innermost first."""
    tgid: int
    pid: int
    role: int
    thread: int
    nr: int
    err: int
    span: int
    kind: int
    reason: int


class User(NamedTuple):
    """The user's side of a stack, innermost first; ends are those of layout.PYTHON_ENDS and NATIVE_ENDS."""

    tgid: int
    layout: int
    python: tuple[int, ...]
    native: tuple[int, ...]
    python_end: int
    native_end: int


class Samples:
    """
    What comes from the ring.

    Args:
        records: takes out what has come.
        forget: has the frames of every stack sent again.
    """

    def __init__(self, records: Callable[[], Iterable[bytes]], forget: Callable[[], None]) -> None:
        self._records = records
        self._forget = forget
        self.users: dict[int, User] = {}
        self.kernels: dict[int, tuple[int, ...]] = {}
        self.wanted: set[int] = set()
        """Processes (tgid) that were to be walked, and whose memory nobody has told of."""
        self.outgrown: set[int] = set()
        """Those that were met in code that nobody has told of: a library that was loaded since."""

    def drain(self) -> Iterator[Sample]:
        """Yield what has come; what weighs nothing only brings frames, of a wait that has begun."""
        if len(self.users) + len(self.kernels) > MOST_STACKS:
            self._forget()
            self.users.clear()
            self.kernels.clear()
        for raw in self._records():
            yield self._take(raw)

    def _take(self, raw: bytes) -> Sample:
        fields = layout.RECORD.unpack_from(raw)
        at_ns, weight, user, kernel = fields[:4]
        spans = tuple(filter(None, fields[4 : 4 + layout.STACK_SPANS]))
        rest = fields[4 + layout.STACK_SPANS :]
        sample = Sample(at_ns, weight, user, kernel, spans, *rest[:9])
        python, natives, kernels, python_end, native_end, number = rest[9:]
        words = array("Q", raw[layout.RECORD.size :]).tolist()
        if user and python + natives:
            frames = tuple(words[:python]), tuple(words[python : python + natives])
            self.users[user] = User(sample.tgid, number, *frames, python_end, native_end)
        if kernels:
            self.kernels[kernel] = tuple(words[python + natives :])
        if native_end == layout.NATIVE_NONE:
            self.wanted.add(sample.tgid)
        elif native_end in _BEYOND:
            self.outgrown.add(sample.tgid)
        return sample
