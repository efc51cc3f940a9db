"""Calls of PostgreSQL by the drivers people use: as many as they made, by the server's own books too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.databases import SLEEP_NS, asked, calls, client_of, errors, executed, forget, latency, peers
from tests.kernel.lab import until
from tests.kernel.spanned import PROBE, record
from tests.servers import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab, Run
    from tests.servers import Server

SLEEPS = 23
PIPELINES, PIPELINED = 11, 11 * 13
"""Pipelines, and what is executed in them."""
DRIVERS = f"""
import io
from sqlalchemy import create_engine, event, text
facts = {{}}

with span("psycopg2_tcp"):
    connection = psycopg2_to()
    repeat(199, connection.cursor(), "select %s as psycopg2_tcp", [1])
    connection.close()

with span("psycopg2_unix"):
    connection = psycopg2_to(FOLDER)
    repeat(101, connection.cursor(), "select 1 as psycopg2_unix")

with span("psycopg2_ipv6"):
    connection = psycopg2_to("::1")
    repeat(97, connection.cursor(), "select 1 as psycopg2_ipv6")

connection = psycopg2_to()
connection.cursor().execute("create temporary table numbers (n int)")
connection.autocommit = False
with span("transactions"):
    for n in range(31):
        connection.cursor().execute("insert into numbers values (%s)", [n])
        connection.commit()

connection = psycopg_to()
with span("psycopg"):
    repeat(103, connection, "select %s::int as psycopg", [1])

async def asynchronous():
    to = dict(host="127.0.0.1", dbname="postgres", autocommit=True, **TO)
    async with await psycopg.AsyncConnection.connect(**to) as connection:
        with span("psycopg_async"):
            for n in range(107):
                await connection.execute("select %s::int as psycopg_async", [n])
asyncio.run(asynchronous())

connection = psycopg_to(prepare_threshold=None)
with span("psycopg_pipeline"):
    for _ in range({PIPELINES}):
        with connection.pipeline():
            repeat({PIPELINED // PIPELINES}, connection, "select %s::int as psycopg_pipeline", [1])

async def prepared():
    connection = await asyncpg_to()
    with span("asyncpg"):
        for n in range(109):
            await connection.fetchval("select $1::int as asyncpg", n)
    await connection.execute("create temporary table numbers (n int)")
    with span("asyncpg_many"):
        for _ in range(3):
            await connection.executemany("insert into numbers values ($1)", [(n,) for n in range(7)])
    await connection.close()
asyncio.run(prepared())

async def pooled():
    async with asyncpg.create_pool(host="127.0.0.1", database="postgres", min_size=3, max_size=3, **TO) as pool:
        async def work():
            with span("asyncpg_pool"):
                for _ in range(23):
                    await pool.execute("select 1 as asyncpg_pool")
        await asyncio.gather(*(work() for _ in range(7)))
asyncio.run(pooled())

async def interleaved():
    async def work(name, times, query):
        connection = await asyncpg_to()
        with span(name):
            for _ in range(times):
                await connection.execute(query)
        await connection.close()
    slow, quick = work("slow", 29, "select pg_sleep(0.01) as slow"), work("quick", 211, "select 1 as quick")
    await asyncio.gather(slow, quick)
asyncio.run(interleaved())

engine = create_engine(f"postgresql+psycopg2://postgres@127.0.0.1:{{PORT}}/postgres", pool_size=2)
engine.connect().close()
def count(*arguments):
    facts["sqlalchemy"] = facts.get("sqlalchemy", 0) + 1
event.listen(engine, "before_cursor_execute", count)
with span("sqlalchemy"):
    for n in range(37):
        with engine.begin() as connection:
            connection.execute(text("select :n as sqlalchemy"), dict(n=n))
engine.dispose()

def work():
    connection = psycopg2_to()
    with span("threads"):
        repeat(41, connection.cursor(), "select 1 as threads")
in_threads(5, work)

cursor = psycopg2_to().cursor()
with span("large_requests"):
    repeat(7, cursor, "select length(%s) as large_requests", ["x" * 1_000_000])
with span("large_answers"):
    repeat(11, cursor, "select repeat('x', 5000000) as large_answers")
with span("sleeping"):
    repeat({SLEEPS}, cursor, "select pg_sleep({SLEEP_NS / 1e9}) as sleeping")
with span("failing"):
    failing(13, psycopg2.errors.UndefinedColumn, cursor.execute, "select nothing")
    failing(7, psycopg2.errors.UndefinedTable, cursor.execute, "delete from nowhere")
    failing(5, psycopg2.errors.DivisionByZero, cursor.execute, "select 1 / 0")
with span("connecting"):
    for _ in range(17):
        psycopg2_to().close()
    failing(3, psycopg2.OperationalError, psycopg2.connect, host="127.0.0.1", dbname="nowhere", **TO)

cursor.execute("create temporary table numbers (n int)")
rows = io.StringIO("".join(f"{{n}}\\n" for n in range(100_000)))
with span("copying"):
    for _ in range(5):
        rows.seek(0)
        cursor.copy_expert("copy numbers from stdin", rows)
    for _ in range(7):
        cursor.copy_expert("copy numbers to stdout", io.StringIO())
with span("late_failure"):
    late = "select 1 / (50000 - n) from generate_series(1, 100000) n"
    failing(3, psycopg2.errors.DivisionByZero, cursor.execute, late)
with span("listening"):
    cursor.execute("listen news")
for _ in range(3):
    time.sleep(0.1)
    psycopg2_to().cursor().execute("notify news")
    time.sleep(0.05)
    cursor.connection.poll()
assert len(cursor.connection.notifies) == 3

cursor = psycopg2_to().cursor()
repeat(47, cursor, "values (1)")
truth(**facts)
"""
SPANS = {
    "psycopg2_tcp": {"SELECT": 199},
    "psycopg2_unix": {"SELECT": 101},
    "psycopg2_ipv6": {"SELECT": 97},
    "transactions": {"BEGIN": 31, "INSERT": 31, "COMMIT": 31},
    "psycopg": {"PREPARE": 1, "SELECT": 103},
    "psycopg_async": {"PREPARE": 1, "SELECT": 107},
    "psycopg_pipeline": {"PIPELINE": PIPELINES},
    "asyncpg": {"PREPARE": 1, "SELECT": 109},
    "asyncpg_pool": {"SELECT": 7 * 23},  # its own, which resets the connection, it asks in another task
    "asyncpg_many": {"PREPARE": 1, "PIPELINE": 3},
    "copying": {"COPY": 5 + 7},
    "late_failure": {"SELECT": 3},
    "listening": {"LISTEN": 1},
    "slow": {"SELECT": 29},
    "quick": {"SELECT": 211},
    "sqlalchemy": {"BEGIN": 37, "SELECT": 37, "COMMIT": 37},
    "threads": {"SELECT": 5 * 41},
    "large_requests": {"SELECT": 7},
    "large_answers": {"SELECT": 11},
    "sleeping": {"SELECT": SLEEPS},
    "failing": {"SELECT": 13 + 5, "DELETE": 7},
}
"""What each span calls, by operation; connecting left out. psycopg 3 prepares what it executes for the sixth time."""


@pytest.fixture(scope="module")
def recorded(lab: Lab, postgresql: Server) -> tuple[Run, dict[str, int]]:
    """Record each way of calling in a span of its own; and what the server says of it."""
    forget(postgresql)
    run = record(lab, DRIVERS, before=PROBE + client_of(postgresql, "postgresql"))
    return run, executed(postgresql)


@pytest.fixture(scope="module")
def drivers(recorded: tuple[Run, dict[str, int]]) -> Run:
    return recorded[0]


@pytest.mark.parametrize("name", SPANS)
def test_calls_are_as_many_as_were_made(drivers: Run, name: str) -> None:
    """Round trips by operation, in the span that made them, by whatever driver and way of waiting."""
    found = calls(drivers, span=name, system="postgresql")

    assert {operation: count for operation, count in found.items() if operation != "CONNECT"} == SPANS[name]


def test_the_server_agrees(recorded: tuple[Run, dict[str, int]]) -> None:
    """pg_stat_statements has executed as many statements; those that failed are not in these books."""
    run, books = recorded
    made = calls(run)
    made["INSERT"] += 3 * 7  # of executemany()
    made["SELECT"] += PIPELINED - sum(errors(run, operation="SELECT").values())

    assert run.truth["truth"] == {"sqlalchemy": SPANS["sqlalchemy"]["SELECT"]}
    for word in ("SELECT", "INSERT", "BEGIN", "COMMIT", "ROLLBACK", "VALUES", "SHOW", "CREATE", "COPY"):
        assert (word, made[word]) == (word, books[word])


@pytest.mark.parametrize("way", ["tcp", "unix", "ipv6"])
def test_the_peer_is_who_was_called(drivers: Run, postgresql: Server, way: str) -> None:
    """Address and port, or the path of the socket."""
    assert set(calls(drivers, "peer", span=f"psycopg2_{way}")) == {peers(postgresql)[way]}


def test_errors_are_those_of_the_server(drivers: Run) -> None:
    """By SQLSTATE; a call that failed is a call."""
    assert errors(drivers, span="failing", operation="SELECT") == {"42703": 13, "22012": 5}
    assert errors(drivers, span="failing", operation="DELETE") == {"42P01": 7}
    assert errors(drivers, span="late_failure") == {"22012": 3}
    assert errors(drivers, span="connecting", operation="CONNECT") == {"3D000": 3}
    assert sum(errors(drivers).values()) == 13 + 5 + 7 + 3 + 3


def test_sleeping_takes_as_long_as_it_was_told(drivers: Run) -> None:
    """No call is shorter, and few are much longer; those beside them on the same thread are not."""
    sleeping, slow, quick = (latency(drivers, span=name) for name in ("sleeping", "slow", "quick"))

    assert sleeping.low >= SLEEP_NS
    assert sleeping.share_above(SLEEP_NS * 2) < 0.3
    assert slow.low >= 10_000_000
    assert quick.share_above(9_000_000) < 0.5  # all, of those beside them; on an emulated CPU it is a quarter
    assert latency(drivers, span="listening").high < 90_000_000  # what it hears later is no answer


def test_connecting_is_one_call(drivers: Run) -> None:
    """To ask for TLS, to be refused it, and to say who one is are parts of it, for blocking and async clients."""
    assert calls(drivers, span="connecting") == {"CONNECT": 17 + 3}
    for name in ("psycopg2_tcp", "psycopg2_unix", "psycopg2_ipv6"):
        assert calls(drivers, span=name)["CONNECT"] == 1


def test_calls_outside_of_spans_have_none(drivers: Run) -> None:
    """The last connection is open until the process ends: its last call counts too."""
    assert calls(drivers, span="")["VALUES"] == 47
    assert drivers.lost == {}


@pytest.fixture
def tls(postgresql: Server) -> Iterator[Server]:
    """Let the server answer who asks for TLS; it is for new connections only."""
    made, key = certificate(postgresql)
    for setting in (f"ssl_cert_file = '{made}'", f"ssl_key_file = '{key}'", "ssl = on"):
        asked(postgresql, f"alter system set {setting}")
    asked(postgresql, "select pg_reload_conf()")
    until(lambda: asked(postgresql, "show ssl") == [("on",)], "TLS", 20)
    yield postgresql
    asked(postgresql, "alter system reset all")
    asked(postgresql, "select pg_reload_conf()")


def test_calls_by_tls_are_timed(lab: Lab, tls: Server) -> None:
    """Their number and latency, and nothing of what they say: no operation, no error."""
    run = record(
        lab,
        f"""
        connection = psycopg2_to(sslmode="require")
        cursor = connection.cursor()
        with span("psycopg2"):
            repeat(53, cursor, "select 1")
        with span("sleeping"):
            repeat(7, cursor, "select pg_sleep({SLEEP_NS / 1e9})")
        with span("failing"):
            failing(5, psycopg2.errors.UndefinedColumn, cursor.execute, "select nothing")
        async def main():
            import ssl
            anyone = ssl.create_default_context()
            anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
            connection = await asyncpg_to(ssl=anyone)
            with span("asyncpg"):
                for n in range(43):
                    await connection.execute("select 1")
            await connection.close()
        asyncio.run(main())
        """,
        before=PROBE + client_of(tls, "postgresql"),
    )

    for name, made in {"psycopg2": 53, "sleeping": 7, "failing": 5, "asyncpg": 43}.items():
        assert calls(run, span=name, tls="yes") == calls(run, span=name) == {"-": made}
    assert latency(run, span="sleeping").low >= SLEEP_NS
    assert errors(run) == {}
    assert set(calls(run, "system")) == {"postgresql"}
