"""
Spans `db.query{system}` around the calls of database drivers.

Where a driver is written in Python, its methods are wrapped in place; where it is written in C, its
connections and cursors are made of subclasses, as its own factories provide for. One span is one
call of the program: SQLAlchemy's around its driver's, executemany() around its execute().
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from tracekit.auto.imports import Hooks

SPAN = "db.query"


def watch_queries(hooks: Hooks) -> None:
    """Wrap each driver when the program imports it."""
    hooks.add("sqlite3.dbapi2", "sqlite3", _sqlite)
    hooks.add("aiosqlite.core", "aiosqlite", _aiosqlite)
    hooks.add("psycopg2", "psycopg2", _psycopg2)
    hooks.add("sqlalchemy", "sqlalchemy", _sqlalchemy)
    for module in ("psycopg", "pymysql.cursors", *_ASYNCPG, *_REDIS):
        hooks.add(module, module, _methods)


_ASYNCPG = ("asyncpg.connection", "asyncpg.prepared_stmt", "asyncpg.cursor")
_REDIS = ("redis.client", "redis.cluster", "redis.asyncio.client", "redis.asyncio.cluster")


def _sqlite(module: ModuleType) -> None:
    from tracekit.auto.db import sqlite  # noqa: PLC0415 - a program loads what its drivers need

    sqlite.wrap(module)


def _aiosqlite(module: ModuleType) -> None:
    from tracekit.auto.db import sqlite  # noqa: PLC0415

    sqlite.wrap_aiosqlite(module)


def _psycopg2(module: ModuleType) -> None:
    from tracekit.auto.db import psycopg2  # noqa: PLC0415

    psycopg2.wrap(module)


def _sqlalchemy(_module: ModuleType) -> None:
    from tracekit.auto.db import alchemy  # noqa: PLC0415

    alchemy.listen()


def _methods(module: ModuleType) -> None:
    from tracekit.auto.db import methods  # noqa: PLC0415

    methods.wrap(module)
