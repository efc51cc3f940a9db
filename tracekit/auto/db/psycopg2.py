"""psycopg2 by its factories of connections and cursors."""

from __future__ import annotations

import functools
from typing import Any

from psycopg2.extensions import connection as DriverConnection  # noqa: N812 - a class, whatever its name
from psycopg2.extensions import cursor as DriverCursor  # noqa: N812

from tracekit.auto import db
from tracekit.auto.db.factories import between
from tracekit.auto.outermost import QUERIES
from tracekit.probe import Kind

_FACTORY = 1
"""Position of the factory among the arguments of connect() and of cursor()."""
_KIND = Kind(db.SPAN, system="postgresql")


class cursor(DriverCursor):  # type: ignore[misc,unused-ignore] # noqa: N801 - as repr() shows the driver's
    """A cursor whose queries are spans."""

    __slots__ = ()
    __module__ = "psycopg2.extensions"
    execute = QUERIES.around(_KIND, DriverCursor.execute)
    executemany = QUERIES.around(_KIND, DriverCursor.executemany)
    callproc = QUERIES.around(_KIND, DriverCursor.callproc)


class connection(DriverConnection):  # type: ignore[misc,unused-ignore] # noqa: N801
    """A connection whose cursors are ours."""

    __slots__ = ()
    __module__ = "psycopg2.extensions"

    @functools.wraps(DriverConnection.cursor)
    def cursor(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - the driver's docstring
        default = self.cursor_factory or DriverCursor
        return super().cursor(*_chosen(args, kwargs, "cursor_factory", default, cursor), **kwargs)


def wrap(module: Any) -> None:
    """Let connect() make our connections."""
    connect = module.connect

    @functools.wraps(connect)
    def connect_ours(*args: Any, **kwargs: Any) -> Any:
        return connect(*_chosen(args, kwargs, "connection_factory", DriverConnection, connection), **kwargs)

    module.connect = connect_ours


def _chosen(args: tuple[Any, ...], kwargs: dict[str, Any], name: str, default: Any, ours: type) -> tuple[Any, ...]:
    """Put *ours* below the factory that the arguments name, or the *default*; return the positional ones."""
    if len(args) > _FACTORY:
        return (*args[:_FACTORY], between(args[_FACTORY] or default, ours), *args[_FACTORY + 1 :])
    kwargs[name] = between(kwargs.get(name) or default, ours)
    return args
