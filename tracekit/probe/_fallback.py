"""
The probe in Python, where the extension could not be built or loaded: slower, the same interface.

Latencies are as right as the extension's. The kernel side sees the current span of a thread
where `with` stands in a plain function; inside of coroutines and generators it sees none, as
a thread runs many of those and nothing here is told when.
"""

from __future__ import annotations

import sys
from _thread import _local, get_ident
from math import isfinite
from time import monotonic_ns

from tracekit.probe import _layout as layout
from tracekit.probe._board import Board
from tracekit.probe._names import check_text, key_of, type_name

TYPE_CHECKING = False  # typing itself would be half of the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

ASYNC = 0x80 | 0x100 | 0x200  # flags of code objects: coroutines and async generators
GENERATOR = 0x20
CONTROL_FLOW = GeneratorExit, StopIteration, StopAsyncIteration

_board = Board()


class _Thread(_local):
    """The plain spans that are open on this thread, innermost last, and where its slot is."""

    def __init__(self) -> None:
        self.generation = self.word = 0
        self.open: list[Span] = []

    def prepare(self) -> None:
        if self.generation != _board.generation:
            self.generation, self.open = _board.generation, []
            self.word = _board.thread_word(get_ident())

    def show(self) -> None:
        if self.word:
            _board.words[self.word] = self.open[-1].kind.id if self.open else 0


_thread = _Thread()


def _failure(kind: type[BaseException] | None, failed: bool) -> bytes | None:
    if kind and not issubclass(kind, CONTROL_FLOW):
        return type_name(kind)
    return b"failed" if failed else None


class Span:
    """A span: from `with` to the end of its block."""

    __slots__ = ("_async", "_failed", "_generation", "_ident", "_plain", "_start_ns", "kind")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._ident = 0  # of the thread that it was opened on; 0: it is not open
        self._failed = False

    def __enter__(self) -> Span:
        if self._ident:
            raise RuntimeError("this span is open already: make another one")
        flags = sys._getframe(1).f_code.co_flags  # noqa: SLF001 - the way to know what `with` stands in
        self._async = bool(flags & ASYNC)
        self._plain = not flags & (ASYNC | GENERATOR)
        self._ident, self._failed = get_ident(), False
        self._generation = _board.generation if _board.is_ours() else 0
        if self._plain and self._generation:
            _thread.prepare()
            _thread.open.append(self)
            _thread.show()
        self._start_ns = monotonic_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        now_ns = monotonic_ns()
        if not self._ident:
            return
        moved, self._ident = self._ident != get_ident(), 0
        if self._generation != _board.generation:
            return
        if self in _thread.open:
            _thread.open.remove(self)
            _thread.show()
        duration_ns = max(1, now_ns - self._start_ns)
        _board.count_span(self.kind.row, duration_ns, self._async or moved, _failure(kind, self._failed))

    def fail(self) -> None:
        """Count this span as failed, of type "failed"; an exception says so by itself."""
        self._failed = True

    def __repr__(self) -> str:
        return f"<span of {self.kind!r}>"


class Kind:
    """A kind of span with fixed labels; call it for a span."""

    __slots__ = ("id", "labels", "name", "row")

    def __init__(self, name: str, /, **labels: str) -> None:
        check_text(name, "the name of a span")
        self.name, self.labels = name, labels
        self.row, self.id = _board.kind(key_of(name, labels, layout.LABELS_BYTES))

    def __call__(self) -> Span:
        return Span(self)

    def __repr__(self) -> str:
        return f"Kind({self.name!r}, **{self.labels!r})" if self.labels else f"Kind({self.name!r})"


class Steps:
    """The span of a generator: `with` around each step, then end()."""

    __slots__ = ("_async", "_failed", "_generation", "_kind", "_spent_ns", "_step_ns")

    def __init__(self, kind: Kind, /) -> None:
        self._kind = kind
        self._spent_ns = self._step_ns = self._generation = 0
        self._async, self._failed = False, _failure(None, failed=False)

    def __enter__(self) -> None:
        self._async |= bool(sys._getframe(1).f_code.co_flags & ASYNC)  # noqa: SLF001 - as a span does
        if not self._generation:
            self._generation = _board.generation if _board.is_ours() else -1
        self._step_ns = monotonic_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._spent_ns += max(1, monotonic_ns() - self._step_ns)
        self._failed = _failure(kind, failed=False)

    def end(self) -> None:
        """Count the span: the generator has ended."""
        if self._generation == _board.generation:
            _board.count_span(self._kind.row, self._spent_ns, self._async, self._failed)
        self._generation = -1


def Traced(kind: Kind, function: Callable[..., Any], /) -> Callable[..., Any]:  # noqa: N802 - a class in the extension
    """Return a function whose calls are spans."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with Span(kind):
            return function(*args, **kwargs)

    return call


class _Value:
    __slots__ = ("_row", "name")

    def __init__(self, kind: int, name: str, labels: dict[str, str]) -> None:
        self.name = name
        self._row = _board.value(kind, key_of(name, labels, layout.VALUE_LABELS_BYTES))

    def _write(self, value: float, add: bool) -> None:
        number = float(value)
        if not self._row or not isfinite(number):
            _board.lose(layout.LOST_VALUES_AT)
        elif _board.is_ours():
            _board.write_value(self._row, number, add)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class Counter(_Value):
    """A sum that only grows."""

    __slots__ = ()

    def add(self, n: float = 1, /) -> None:
        """Count *n* more. Raises ValueError if it is negative."""
        if n < 0:
            raise ValueError("a counter never goes down: use a gauge")
        self._write(n, add=True)


class Gauge(_Value):
    """A value that goes up and down."""

    __slots__ = ()

    def set(self, value: float, /) -> None:
        """Make *value* its value."""
        self._write(value, add=False)

    def add(self, n: float, /) -> None:
        """Make its value *n* more than it was."""
        self._write(n, add=True)


_kinds: dict[str, Kind] = {}
_other = Kind("<other>")


def span(name: str, /) -> Span:
    """Return a span of this name, for a `with` statement."""
    kind = _kinds.get(name)
    if kind is None:
        check_text(name, "the name of a span")
        kind = _other if _board.is_full() else Kind(name)
        if kind.row:
            _kinds[str.__str__(name)] = kind
    return Span(kind)


def counter(name: str, /, **labels: str) -> Counter:
    """Return the counter of this name and labels; the same one each time."""
    return Counter(layout.COUNTER, name, labels)


def gauge(name: str, /, **labels: str) -> Gauge:
    """Return the gauge of this name and labels; the same one each time."""
    return Gauge(layout.GAUGE, name, labels)


def mark(name: str, /) -> None:
    """Say that the program has come to a point: `mark("ready")`."""
    row = _board.value(layout.MARK, key_of(name, {}, layout.VALUE_LABELS_BYTES))
    if row:
        _board.write_mark(row)
    else:
        _board.lose(layout.LOST_VALUES_AT)


def board() -> bytes:
    """Return this process's struct probe_board, without the latencies of rows not in use."""
    return _board.copy()
