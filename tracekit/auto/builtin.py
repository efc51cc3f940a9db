"""Stand-ins for functions that are written in C."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Builtin:
    """
    Calls *function* in the place of *original*, which *module* has.

    A function of Python would become a method of a class that holds it, `connect = sqlite3.connect`,
    and be called with one argument too many. This does not, as *original* does not.
    """

    def __init__(self, function: Callable[..., Any], original: Any, module: str) -> None:
        self._function = function
        self.__wrapped__ = original
        self.__module__ = module
        self.__name__: str = original.__name__
        self.__qualname__ = original.__qualname__
        self.__doc__ = original.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __reduce__(self) -> str:
        return self.__name__
