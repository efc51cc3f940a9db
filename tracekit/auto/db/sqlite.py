"""
sqlite3 by its factories, so that aiosqlite's threads are seen too.

Connection.execute() makes its cursor by self.cursor() up to Python 3.10 only, so both classes have
spans, and the outermost counts.
"""

from __future__ import annotations

import functools
from sqlite3 import dbapi2 as sqlite3  # the package itself is still being imported

from tracekit.auto import db
from tracekit.auto.builtin import Builtin
from tracekit.auto.db.factories import between
from tracekit.auto.outermost import QUERIES
from tracekit.probe import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FACTORY = 5
"""Position of `factory` among the arguments of connect()."""
_KIND = Kind(db.SPAN, system="sqlite")


class Cursor(sqlite3.Cursor):
    """A cursor whose queries are spans."""

    __slots__ = ()
    __module__ = "sqlite3"
    execute = QUERIES.around(_KIND, sqlite3.Cursor.execute)
    executemany = QUERIES.around(_KIND, sqlite3.Cursor.executemany)
    executescript = QUERIES.around(_KIND, sqlite3.Cursor.executescript)


class Connection(sqlite3.Connection):
    """A connection whose queries are spans, and whose cursors are ours."""

    __slots__ = ()
    __module__ = "sqlite3"
    execute = QUERIES.around(_KIND, sqlite3.Connection.execute)
    executemany = QUERIES.around(_KIND, sqlite3.Connection.executemany)
    executescript = QUERIES.around(_KIND, sqlite3.Connection.executescript)

    @functools.wraps(sqlite3.Connection.cursor)
    def cursor(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override] # noqa: D102 - the driver's
        factory, *rest = args or (kwargs.pop("factory", sqlite3.Cursor),)
        return super().cursor(between(factory, Cursor), *rest, **kwargs)


def wrap(module: Any) -> None:
    """Let connect() make our connections."""
    connect = module.connect

    def connect_ours(*args: Any, **kwargs: Any) -> Any:
        if len(args) > _FACTORY:
            args = (*args[:_FACTORY], between(args[_FACTORY], Connection), *args[_FACTORY + 1 :])
        else:
            kwargs["factory"] = between(kwargs.get("factory", sqlite3.Connection), Connection)
        return connect(*args, **kwargs)

    module.connect = Builtin(connect_ours, connect, "sqlite3")


def wrap_aiosqlite(module: Any) -> None:
    """Let a query know, in the thread that makes it, that it is part of one of SQLAlchemy's."""
    execute = module.Connection._execute  # noqa: SLF001 - all calls pass it

    @functools.wraps(execute)
    async def execute_inside(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        inside = QUERIES.carried(fn) if QUERIES.inside() else fn
        return await execute(self, inside, *args, **kwargs)

    module.Connection._execute = execute_inside  # noqa: SLF001
