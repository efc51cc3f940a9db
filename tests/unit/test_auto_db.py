"""Each query is one span `db.query`, with the real drivers, on real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.unchanged import run
from tracekit.auto.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

DB = Settings(db=True)


def queries(system: str) -> str:
    """Return the name of the series."""
    return f"db.query{{system={system}}}"


def check(
    folder: Path, source: str, system: str, spans: int, errors: dict[str, int] | None = None, **given: str
) -> None:
    """Run *source*, which prints nothing, and compare what was counted of *system*."""
    done = run(folder, source, DB, **given)

    assert (done.stdout, done.stderr, done.code) == ("", "", 0)
    assert (done.spans, done.counters) == ({queries(system): spans}, {})
    assert done.errors == {f"{queries(system)} {name}": count for name, count in (errors or {}).items()}


def test_sqlite(tmp_path: Path) -> None:
    """By connection and by cursor; what fails is an error of its type."""
    source = """
        import sqlite3, tally
        connection = sqlite3.connect(":memory:")
        for _ in range(7): connection.execute("select 1").fetchall()
        cursor = connection.cursor()
        for _ in range(3): cursor.execute("select 1").fetchall()
        connection.executescript("create table t (n); create table u (n);")
        cursor.executemany("insert into t values (?)", [(n,) for n in range(10)])
        with connection: connection.executemany("insert into t values (?)", [(n,) for n in range(10)])
        assert connection.execute("select count(*) from t").fetchone() == (20,)
        for _ in range(2):
            try: connection.execute("select nothing")
            except sqlite3.OperationalError: pass
        tally.write()
    """
    check(tmp_path, source, "sqlite", 16, {"OperationalError": 2})


def test_sqlite_with_factories_of_the_program(tmp_path: Path) -> None:
    """Its classes stay what they are, and their own methods run; a factory that is a function is left alone."""
    source = """
        import sqlite3, tally
        class Cursor(sqlite3.Cursor):
            asked = 0
            def execute(self, *args):
                self.asked += 1
                return super().execute(*args)
        class Connection(sqlite3.Connection):
            def cursor(self): return super().cursor(Cursor)
        for connection in (sqlite3.connect(":memory:", factory=Connection),
                           sqlite3.connect(":memory:", 5, 0, None, True, Connection)):
            assert isinstance(connection, Connection) and type(connection).__name__ == "Connection"
            cursor = connection.cursor()
            assert isinstance(cursor, Cursor) and repr(cursor).startswith("<__main__.Cursor object")
            for _ in range(5): cursor.execute("select 1")
            assert cursor.asked == 5 and cursor.connection is connection
        made = sqlite3.connect(":memory:", factory=lambda *args, **kwargs: sqlite3.Connection(*args, **kwargs))
        assert type(made) is sqlite3.Connection and made.execute("select 7").fetchone() == (7,)
        tally.write()
    """
    check(tmp_path, source, "sqlite", 10)


def test_a_class_that_cannot_be_derived_from_is_used_as_it_is(tmp_path: Path) -> None:
    """The queries go on uncounted, and the report says so."""
    source = """
        import sqlite3, tally
        class Refusing(type):
            def __new__(cls, name, bases, names):
                if len(bases) > 1: raise TypeError("one base only")
                return super().__new__(cls, name, bases, names)
        class Connection(sqlite3.Connection, metaclass=Refusing): pass
        for _ in range(2):
            connection = sqlite3.connect(":memory:", factory=Connection)
            assert type(connection) is Connection and connection.execute("select 7").fetchone() == (7,)
        tally.write()
    """
    done = run(tmp_path, source, DB)

    assert (done.stdout, done.stderr, done.code, done.spans) == ("", "", 0, {})
    assert done.counters == {"tracekit.hook_failed{hook=__main__.Connection,why=TypeError: one base only}": 1}


def test_aiosqlite_and_sqlalchemy_on_it(tmp_path: Path) -> None:
    """The query runs in another thread, and is still one: SQLAlchemy's, where it asks, else the driver's."""
    source = """
        import asyncio, aiosqlite, tally
        from sqlalchemy import text
        from sqlalchemy.exc import OperationalError
        from sqlalchemy.ext.asyncio import create_async_engine
        from tracekit import probe

        def counted():
            return sum(span["count"] for span in probe.snapshot()["spans"])

        async def main():
            async with aiosqlite.connect(":memory:") as connection:
                for _ in range(5): await connection.execute("select 1")
                assert counted() == 5
            engine = create_async_engine("sqlite+aiosqlite://")
            async with engine.connect() as connection:
                before = counted()
                for _ in range(7): await connection.execute(text("select 1"))
                assert counted() == before + 7
                try: await connection.execute(text("select nothing"))
                except OperationalError: pass
                await asyncio.gather(*(asyncio.to_thread(sum, [1]) for _ in range(3)))
                assert counted() == before + 8
        asyncio.run(main())
    """
    done = run(tmp_path, source, DB)

    assert (done.stdout, done.stderr, done.code) == ("", "", 0)


def test_sqlalchemy_counts_once_whatever_the_driver(tmp_path: Path, postgresql: Server, mariadb: Server) -> None:
    """Of its query and the driver's, the outermost counts, in sync and async engines; errors too."""
    source = """
        import asyncio, os
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.ext.asyncio import create_async_engine
        from tracekit import probe

        def counted(what):
            spans = [span for span in probe.snapshot()["spans"] if span["labels"]["system"] != "sqlite"]
            return sum(span["count"] if what == "count" else sum(span["errors"].values()) for span in spans)

        def sync(url):
            with create_engine(url).connect() as connection:
                before, failed = counted("count"), counted("errors")
                for _ in range(7): connection.execute(text("select 1"))
                try: connection.execute(text("select nothing"))
                except DBAPIError: connection.rollback()
                connection.execute(text("create temporary table t (n int)"))
                connection.execute(text("insert into t values (:n)"), [{"n": n} for n in range(5)])
                print(url.split(":")[0], counted("count") - before, counted("errors") - failed)

        async def asynchronous(url):
            async with create_async_engine(url).connect() as connection:
                before = counted("count")
                for _ in range(7): await connection.execute(text("select 1"))
                try: await asyncio.wait_for(connection.execute(text("select pg_sleep(9)")), 0.1)
                except asyncio.TimeoutError: pass
                print(url.split(":")[0], counted("count") - before)

        at = f"://postgres@127.0.0.1:{os.environ['POSTGRESQL']}/postgres"
        sync("postgresql+psycopg2" + at)
        sync("postgresql+psycopg" + at)
        sync(f"mysql+pymysql://root@127.0.0.1:{os.environ['MARIADB']}/test")
        asyncio.run(asynchronous("postgresql+psycopg" + at))
        asyncio.run(asynchronous("postgresql+asyncpg" + at))
    """
    done = run(tmp_path, source, DB, POSTGRESQL=str(postgresql.port), MARIADB=str(mariadb.port))

    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        [
            "postgresql+psycopg2 10 1",
            "postgresql+psycopg 10 1",
            "mysql+pymysql 10 1",
            "postgresql+psycopg 8",
            "postgresql+asyncpg 8",
        ],
    )


def test_psycopg2(tmp_path: Path, postgresql: Server) -> None:
    """Its own classes of connections and cursors, those of its extras, and its registries that look at them."""
    source = """
        import os, psycopg2
        from psycopg2 import extensions, extras
        import tally

        def connect(**given):
            return psycopg2.connect(f"host=127.0.0.1 port={os.environ['PORT']} user=postgres dbname=postgres", **given)

        connection = connect()
        assert isinstance(connection, extensions.connection)
        cursor = connection.cursor()
        assert isinstance(cursor, extensions.cursor) and isinstance(connection.cursor("named"), extensions.cursor)
        for _ in range(7): cursor.execute("select %s", [1])
        for _ in range(3): connection.cursor("named").execute("select 1"), connection.rollback()
        rows = connection.cursor(cursor_factory=extras.RealDictCursor)
        rows.execute("select 7 as seven")
        assert isinstance(rows, extras.RealDictCursor) and rows.fetchone() == {"seven": 7}
        for factory in (extras.DictConnection, extras.NamedTupleConnection):
            with connect(connection_factory=factory) as other, other.cursor() as cursor:
                cursor.execute("select 7 as seven")
                assert isinstance(other, factory) and cursor.fetchone()[0] == 7
        with connect(cursor_factory=extras.DictCursor) as other, other.cursor() as cursor:
            cursor.execute("select 7 as seven")
            assert cursor.fetchone()["seven"] == 7
        cursor = connection.cursor()
        cursor.execute("create temporary table t (n int)")
        cursor.executemany("insert into t values (%s)", [(1,), (2,)])
        extras.execute_values(cursor, "insert into t values %s", [(1,), (2,)])
        cursor.callproc("pg_backend_pid")
        extras.register_uuid(conn_or_curs=connection)
        extensions.register_type(extensions.UNICODE, cursor)
        for _ in range(2):
            try: cursor.execute("select nothing")
            except psycopg2.errors.UndefinedColumn: connection.rollback()
        tally.write()
    """
    check(tmp_path, source, "postgresql", 20, {"UndefinedColumn": 2}, PORT=str(postgresql.port))


def test_psycopg_3(tmp_path: Path, postgresql: Server) -> None:
    """Sync and async, cursors of the server and of the client."""
    source = """
        import asyncio, os, psycopg, tally
        to = dict(host="127.0.0.1", port=os.environ["PORT"], user="postgres", dbname="postgres")

        with psycopg.connect(**to, cursor_factory=psycopg.ClientCursor) as connection:
            for _ in range(7): connection.execute("select 1")
            with connection.cursor() as cursor:
                cursor.execute("create temporary table t (n int)")
                cursor.executemany("insert into t values (%s)", [(n,) for n in range(5)])
            with connection.cursor("of_server") as cursor:
                assert cursor.execute("select 7").fetchall() == [(7,)]

        async def main():
            async with await psycopg.AsyncConnection.connect(**to) as connection:
                for _ in range(5): await connection.execute("select 1")
                async with connection.cursor("of_server") as cursor:
                    await cursor.execute("select 7")
                try: await connection.execute("select nothing")
                except psycopg.errors.UndefinedColumn: pass
        asyncio.run(main())
        tally.write()
    """
    check(tmp_path, source, "postgresql", 17, {"UndefinedColumn": 1}, PORT=str(postgresql.port))


def test_asyncpg(tmp_path: Path, postgresql: Server) -> None:
    """Connections, prepared statements, cursors and pools, whose reset is a query too."""
    source = """
        import asyncio, os, asyncpg, tally

        async def main():
            to = dict(host="127.0.0.1", port=os.environ["PORT"], user="postgres", database="postgres")
            connection = await asyncpg.connect(**to)
            for _ in range(5): await connection.fetch("select $1::int", 1)
            for _ in range(3): assert await connection.fetchval("select 7") == 7
            await connection.fetchrow("select 1")
            await connection.execute("create temporary table t (n int)")
            await connection.executemany("insert into t values ($1)", [(1,), (2,)])
            statement = await connection.prepare("select n from t where n > $1")
            assert await statement.fetchval(1) == 2 and len(await statement.fetch(0)) == 2
            try: await connection.execute("select nothing")
            except asyncpg.UndefinedColumnError: pass
            await connection.close()
            async with asyncpg.create_pool(**to, min_size=1, max_size=1) as pool:
                for _ in range(3): await pool.fetch("select 1")
        asyncio.run(main())
        tally.write()
    """
    check(tmp_path, source, "postgresql", 20, {"UndefinedColumnError": 1}, PORT=str(postgresql.port))


def test_pymysql(tmp_path: Path, mariadb: Server) -> None:
    """executemany() is one call, also where it is many statements."""
    source = """
        import os, pymysql, tally
        connection = pymysql.connect(host="127.0.0.1", port=int(os.environ["PORT"]), user="root", database="test")
        with connection.cursor() as cursor:
            for _ in range(7): cursor.execute("select 1")
            cursor.execute("create temporary table t (n int)")
            cursor.executemany("insert into t values (%s)", [1, 2])
            cursor.executemany("update t set n = %s", [1, 2])
            try: cursor.execute("select nothing")
            except pymysql.err.OperationalError: pass
        with connection.cursor(pymysql.cursors.SSDictCursor) as cursor:
            cursor.execute("select 7 as seven")
            assert cursor.fetchall() == [{"seven": 7}]
        tally.write()
    """
    check(tmp_path, source, "mysql", 12, {"OperationalError": 1}, PORT=str(mariadb.port))


def test_redis(tmp_path: Path, redis: Server) -> None:
    """Commands and pipelines, sync and async; what a pipeline only queues is no query."""
    source = """
        import asyncio, os, redis, redis.asyncio, tally
        port = int(os.environ["PORT"])
        client = redis.Redis(port=port)
        for n in range(7): client.set("key", n)
        pipeline = client.pipeline()
        assert pipeline.get("key").get("none").execute() == [b"6", None]
        with client.pipeline() as pipeline:
            pipeline.watch("key")
            assert pipeline.get("key") == b"6"
        try: client.lpush("key", 1)
        except redis.ResponseError: pass

        async def main():
            async with redis.asyncio.Redis(port=port) as client:
                for n in range(5): await client.set("key", n)
                async with client.pipeline() as pipeline:
                    await pipeline.get("key").get("none").execute()
        asyncio.run(main())
        tally.write()
    """
    check(tmp_path, source, "redis", 17, {"ResponseError": 1}, PORT=str(redis.port))
