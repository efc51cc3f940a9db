"""Drivers whose methods are Python functions: which of them are a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tracekit.auto import db
from tracekit.auto.outermost import QUERIES
from tracekit.probe import Kind

if TYPE_CHECKING:
    from types import ModuleType


class Queries(NamedTuple):
    """Methods of a class, each of whose calls is a query; awaited ones if *asynchronous*."""

    cls: str
    names: str
    asynchronous: bool = False


_FETCHES = "fetch fetchval fetchrow fetchmany executemany"
_TABLE: dict[str, tuple[str, tuple[Queries, ...]]] = {
    "psycopg": (
        "postgresql",
        (
            Queries("Cursor", "execute executemany"),
            Queries("ServerCursor", "execute"),
            Queries("AsyncCursor", "execute executemany", asynchronous=True),
            Queries("AsyncServerCursor", "execute", asynchronous=True),
        ),
    ),
    "asyncpg.connection": ("postgresql", (Queries("Connection", f"execute {_FETCHES}", asynchronous=True),)),
    "asyncpg.prepared_stmt": ("postgresql", (Queries("PreparedStatement", _FETCHES, asynchronous=True),)),
    "asyncpg.cursor": ("postgresql", (Queries("Cursor", "fetch fetchrow forward", asynchronous=True),)),
    "pymysql.cursors": ("mysql", (Queries("Cursor", "execute executemany callproc"),)),
    "redis.client": (
        "redis",
        (Queries("Redis", "execute_command"), Queries("Pipeline", "execute immediate_execute_command")),
    ),
    "redis.cluster": ("redis", (Queries("RedisCluster", "execute_command"), Queries("ClusterPipeline", "execute"))),
    "redis.asyncio.client": (
        "redis",
        (
            Queries("Redis", "execute_command", asynchronous=True),
            Queries("Pipeline", "execute immediate_execute_command", asynchronous=True),
        ),
    ),
    "redis.asyncio.cluster": (
        "redis",
        (
            Queries("RedisCluster", "execute_command", asynchronous=True),
            Queries("ClusterPipeline", "execute", asynchronous=True),
        ),
    ),
}


def wrap(module: ModuleType) -> None:
    """
    Wrap the methods that *module* has: an older version may lack some.

    Raises:
        LookupError: it has none of them.
    """
    system, rows = _TABLE[module.__name__]
    kind = Kind(db.SPAN, system=system)
    if not sum(_wrap(kind, vars(module).get(row.cls), row) for row in rows):
        raise LookupError(f"no method of {module.__name__} is known")


def _wrap(kind: Kind, cls: Any, row: Queries) -> int:
    """Wrap the methods that *cls* itself defines, and return how many."""
    own = [name for name in row.names.split() if cls is not None and name in vars(cls)]
    around = QUERIES.around_async if row.asynchronous else QUERIES.around
    for name in own:
        setattr(cls, name, around(kind, vars(cls)[name]))
    return len(own)
