"""
Connections and cursors of drivers in C: subclasses that lie between the program's class and the driver's.

    program's class ──────────────┐
    class(program's, ours)  →  program's  →  ours  →  driver's

So ours sees what reaches the driver, and `isinstance` and the program's own methods stay as they are.
"""

from __future__ import annotations

from tracekit.auto import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MADE: dict[tuple[type, type], type] = {}
_MOST = 256
"""Classes that are made: a program that makes classes without end gets no more."""


def between(factory: Any, ours: type) -> Any:
    """Return *factory* with *ours* below it; as it is, where it is no subclass of the driver's class."""
    driver = ours.__mro__[1]
    if factory is driver:
        return ours
    if not (isinstance(factory, type) and issubclass(factory, driver)) or issubclass(factory, ours):
        return factory
    made = _MADE.get((factory, ours))
    return made if made is not None else _make(factory, ours)


def _make(factory: type, ours: type) -> type:
    if len(_MADE) >= _MOST:
        return factory
    names = {"__module__": factory.__module__, "__qualname__": factory.__qualname__, "__doc__": factory.__doc__}
    made = factory
    try:
        made = type(factory)(factory.__name__, (factory, ours), {**names, "__slots__": ()})
    except Exception as error:  # noqa: BLE001 - a metaclass of the program may refuse in any way
        failures.count(f"{factory.__module__}.{factory.__qualname__}", f"{type(error).__name__}: {error}")
    _MADE[factory, ours] = made
    return made
