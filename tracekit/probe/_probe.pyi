from types import TracebackType
from typing import Any, final

@final
class Span:
    """A span: from `with` to the end of its block."""

    def __enter__(self) -> Span: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def fail(self) -> None:
        """Count this span as failed, of type "failed"; an exception says so by itself."""

@final
class Kind:
    """A kind of span with fixed labels; call it for a span."""

    name: str
    labels: dict[str, str]
    id: int
    """8 bytes of BLAKE2b of name and labels: the same in every process."""

    def __init__(self, name: str, /, **labels: str) -> None: ...
    def __call__(self) -> Span: ...

@final
class Steps:
    """The span of a generator: `with` around each step, then end()."""

    def __init__(self, kind: Kind, /) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    def end(self) -> None:
        """Count the span: the generator has ended."""

class Traced:
    """A function whose calls are spans."""

    def __init__(self, kind: Kind, function: Any, /) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __get__(self, instance: object, owner: type | None = None, /) -> Any: ...

@final
class Counter:
    """A sum that only grows."""

    name: str

    def add(self, n: float = 1, /) -> None:
        """Count *n* more. Raises ValueError if it is negative."""

@final
class Gauge:
    """A value that goes up and down."""

    name: str

    def set(self, value: float, /) -> None:
        """Make *value* its value."""

    def add(self, n: float, /) -> None:
        """Make its value *n* more than it was."""

def span(name: str, /) -> Span:
    """Return a span of this name, for a `with` statement."""

def counter(name: str, /, **labels: str) -> Counter:
    """Return the counter of this name and labels; the same one each time."""

def gauge(name: str, /, **labels: str) -> Gauge:
    """Return the gauge of this name and labels; the same one each time."""

def mark(name: str, /) -> None:
    """Say that the program has come to a point: `mark("ready")`."""

def board() -> bytes:
    """Return this process's struct probe_board, without the latencies of rows not in use."""
