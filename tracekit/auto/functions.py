"""Spans of functions that tracekit.toml names."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from tracekit.probe import Kind, traced

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from tracekit.auto.imports import Hooks
    from tracekit.auto.settings import Target


def watch_functions(hooks: Hooks, targets: Iterable[Target]) -> None:
    """Wrap each when its module is imported, before whoever imports it can take the function out of it."""
    for target in targets:
        hooks.add(target.module, f"{target.module}:{target.qualname}", lambda module, at=target: _wrap(module, at))  # type: ignore[misc]


def _wrap(module: ModuleType, target: Target) -> None:
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
    if isinstance(found, staticmethod | classmethod):
        return type(found)(_in_span(kind, found.__func__))
    if not isinstance(found, FunctionType):
        raise TypeError(f"a {type(found).__name__}, not a function")
    return traced(kind)(found)
