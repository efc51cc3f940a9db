"""Spans of functions that tracekit.toml names."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

    from tracekit.auto.imports import Hooks
    from tracekit.auto.settings import Target
    from tracekit.probe import Kind

_SUSPENDS = 0x20 | 0x80 | 0x100 | 0x200
"""Flags of the code of generators and coroutines: inspect.CO_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE,
CO_ASYNC_GENERATOR. To import inspect takes longer than Python's start."""


def watch_functions(hooks: Hooks, targets: Iterable[Target]) -> None:
    """Wrap each when its module is imported, before whoever imports it can take the function out of it."""
    for target in targets:
        hooks.add(target.module, f"{target.module}:{target.qualname}", lambda module, at=target: _wrap(module, at))  # type: ignore[misc]


def _wrap(module: ModuleType, target: Target) -> None:
    from tracekit.probe import Kind  # noqa: PLC0415 - not in a process that imports none of the modules

    *path, name = target.qualname.split(".")
    owner: Any = module
    for part in path:
        owner = getattr(owner, part)
    kind = Kind(target.span, **dict(target.labels))
    setattr(owner, name, _in_span(kind, _defined(owner, name)))


def _defined(owner: Any, name: str) -> Any:
    """Return what *name* is in *owner* or a base of it, and not what asking for it would give."""
    for cls in getattr(owner, "__mro__", (owner,)):
        if name in vars(cls):
            return vars(cls)[name]
    raise AttributeError(f"{owner.__name__} has no {name}")


def _in_span(kind: Kind, found: Any) -> Any:
    from types import FunctionType  # noqa: PLC0415 - as above

    from tracekit.probe import traced  # noqa: PLC0415

    if isinstance(found, staticmethod | classmethod):
        return type(found)(_in_span(kind, found.__func__))
    if not isinstance(found, FunctionType):
        raise TypeError(f"a {type(found).__name__}, not a function")
    return traced(kind)(found) if found.__code__.co_flags & _SUSPENDS else _called_in_span(kind, found)


def _called_in_span(kind: Kind, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function: @traced would make an object of its own, which a program that looks may not expect."""
    import functools  # noqa: PLC0415

    @functools.wraps(function)
    def call_in_span(*args: Any, **kwargs: Any) -> Any:
        with kind():
            return function(*args, **kwargs)

    return call_in_span
