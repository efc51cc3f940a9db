"""Programs that call databases, and what a recording, or the server itself, says of their calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracekit.histogram import merge
from tracekit.records import WAITS

if TYPE_CHECKING:
    from tests.kernel.lab import Run
    from tests.servers import Server
    from tracekit.histogram import Histogram
    from tracekit.records import Series

SLEEP_NS = 50_000_000
"""How long a server is asked to sleep, where it is."""
CLIENTS = """
import asyncio, socket, threading, time
from tracekit.probe import span

def address(where):
    return dict(tcp=("127.0.0.1", PORT), ipv6=("::1", PORT), unix=PATH)[where]

def connected(where="tcp"):
    family = dict(tcp=socket.AF_INET, ipv6=socket.AF_INET6, unix=socket.AF_UNIX)[where]
    client = socket.socket(family)
    client.connect(address(where))
    return client

def in_threads(count, work):
    threads = [threading.Thread(target=work) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

def failing(times, error, call, *arguments, **named):
    for _ in range(times):
        try: call(*arguments, **named)
        except error: pass
        else: raise AssertionError(f"{arguments} did not fail")
"""
POSTGRESQL = """
import psycopg2, psycopg, asyncpg
TO = dict(user="postgres", port=PORT)

def psycopg2_to(host="127.0.0.1", **more):
    connection = psycopg2.connect(host=host, dbname="postgres", **TO, **more)
    connection.autocommit = True
    return connection

def psycopg_to(host="127.0.0.1", **more):
    return psycopg.connect(host=host, dbname="postgres", autocommit=True, **TO, **more)

async def asyncpg_to(host="127.0.0.1", **more):
    return await asyncpg.connect(host=host, database="postgres", **TO, **more)

def repeat(times, cursor, query, *arguments):
    for _ in range(times):
        cursor.execute(query, *arguments)
"""

RAW = """
def command(*words):
    return b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(word), word) for word in words)
GET = command(b"GET", b"key")
def answer(client, size=len(b"$5\\r\\nvalue\\r\\n")):
    got = b""
    while len(got) < size:
        got += client.recv(size - len(got))
    return got
"""


def client_of(server: Server, system: str = "") -> str:
    """Return the first lines of a program that calls *server*: PORT, PATH and how to connect."""
    facts = f"PORT, PATH, FOLDER = {server.port}, {server.path!r}, {str(server.folder)!r}\n"
    return facts + CLIENTS + (POSTGRESQL if system == "postgresql" else "")


def peers(server: Server) -> dict[str, str]:
    """Return how a recording names *server*, by the way to it."""
    return {"tcp": f"127.0.0.1:{server.port}", "ipv6": f"[::1]:{server.port}", "unix": server.path}


def seen(run: Run, **labels: str) -> dict[Series, Histogram]:
    """Return the calls that were seen at sockets, all that have *labels*; "" is for absent."""
    found = run.recording.histograms("db.latency", {"source": "socket"}).items()
    return {one: calls for one, calls in found if all(one.label(name) == labels[name] for name in labels)}


def latency(run: Run, **labels: str) -> Histogram:
    """Return the latency of all of them."""
    return merge(list(seen(run, **labels).values()))


def calls(run: Run, by: str = "operation", **labels: str) -> dict[str, int]:
    """Return how many calls were seen at sockets, by a label."""
    found: dict[str, int] = {}
    for series, histogram in seen(run, **labels).items():
        name = series.label(by)
        found[name] = found.get(name, 0) + histogram.count
    return {name: count for name, count in found.items() if count}


def errors(run: Run, **labels: str) -> dict[str, int]:
    """Return how many calls failed, by error."""
    return {error: count for (error,), count in run.counts("db.errors", "error", source="socket", **labels).items()}


def executed(server: Server) -> dict[str, int]:
    """Return how many statements PostgreSQL says it has executed since forget(), by their first word."""
    query = r"""select upper(substring(query from '^\w+')), sum(calls) from pg_stat_statements
                where query !~ 'pg_stat_statements' group by 1"""
    return {word: int(count) for word, count in asked(server, query)}


def forget(server: Server) -> None:
    """Let PostgreSQL count from 0."""
    asked(server, "create extension if not exists pg_stat_statements")
    asked(server, "select pg_stat_statements_reset()")


def asked(server: Server, query: str) -> list[tuple]:
    """Return what PostgreSQL answers."""
    import psycopg2

    connection = psycopg2.connect(host="127.0.0.1", port=server.port, user="postgres", dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows = cursor.fetchall() if cursor.description else []
    connection.close()
    return rows


def commands(server: Server) -> dict[str, int]:
    """Return how often Redis says it was given each command since forget_commands()."""
    import redis

    with redis.Redis(port=server.port) as client:
        found = client.info("commandstats")
    return {name.removeprefix("cmdstat_").upper(): stat["calls"] for name, stat in found.items()}


def forget_commands(server: Server) -> None:
    """Let Redis count from 0; what a client says of itself when it connects is not counted then."""
    import redis

    with redis.Redis(port=server.port) as client:
        client.config_resetstat()


def statements(server: Server) -> dict[str, int]:
    """Return how many statements MariaDB says it has executed since it began, by their first word."""
    import pymysql

    connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root")
    with connection.cursor() as cursor:
        cursor.execute("show global status like 'Com\\_%'")
        rows = cursor.fetchall()
    connection.close()
    return {name.removeprefix("Com_").upper(): int(count) for name, count in rows}


def parts(run: Run, **labels: str) -> dict[str, float]:
    """Return what calls were made of: shares of their latency, by wait, `client` for what is none of these."""
    found = run.recording.parts({"source": "socket", **labels}, metric="db.latency").values()
    whole = sum(int(one.latency_ns.sum()) for one in found)
    assert whole == latency(run, **labels).total, "the parts are of other calls than the latencies"
    waits = sum((one.waits + one.async_waits).sum(axis=0, dtype=float) for one in found)
    shares = dict(zip(WAITS, (waits / whole).tolist(), strict=True))
    return {**shares, "client": 1 - sum(shares.values())}


def highest(run: Run, metric: str, **labels: str) -> float:
    """Return the highest sum of the gauges of *metric*, over all intervals; 0 if there is none."""
    found = [np.nan_to_num(values) for values in run.recording.values(metric, labels).values()]
    return float(np.sum(found, axis=0).max()) if found else 0.0
