"""Programs on libraries that nobody here wrote: their spans are as many as they count themselves."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kernel.spanned import PRELUDE, PROBE, failed, made_of, record

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tests.servers import Server

WORK, BLOCK, FAIL = 499, 13, 31
"""Requests by what their handler does."""
EVALUATIONS, WORKERS = 101, 3
QUICK, SLEEPING, REFUSED = 97, 23, 5
"""Queries: those that return at once, those that sleep for 20 ms, those that fail."""

SERVER = f"""
import asyncio, time, uvloop
from aiohttp import web

counted = {{"work": 0, "block": 0, "fail": 0}}
CLIENT = '''
import http.client, sys, threading
def ask(paths):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    for path in paths:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == (500 if path == "/fail" else 200), (path, answer.status)
orders = [["/work"] * 100] * 4 + [["/work"] * {WORK - 400}, ["/block"] * {BLOCK}, ["/fail"] * {FAIL}]
threads = [threading.Thread(target=ask, args=(paths,)) for paths in orders]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
'''

@web.middleware
async def spanned(request, handler):
    route = request.path[1:]
    with Kind("http.request", route=route)():
        counted[route] += 1
        return await handler(request)

async def work(request):
    await asyncio.sleep(0.001)
    a()
    return web.Response(text="done")

async def block(request):
    time.sleep(0.03)
    b()
    return web.Response(text="done")

async def fail(request):
    c()
    raise web.HTTPInternalServerError

async def main():
    app = web.Application(middlewares=[spanned])
    app.add_routes([web.get("/work", work), web.get("/block", block), web.get("/fail", fail)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, str(runner.addresses[0][1]))
    assert await client.wait() == 0
    await runner.cleanup()

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
truth(**counted)
"""


@pytest.fixture(scope="module")
def service(lab: Lab) -> Run:
    """aiohttp on uvloop, under the load of a client with seven connections that waits for each answer."""
    return record(lab, SERVER)


def test_requests_of_a_web_service_are_as_many_as_it_counts(service: Run) -> None:
    """Handlers interleave on one thread, and each has its own errors and failed calls."""
    run = service
    answered = {"work": WORK, "block": BLOCK, "fail": FAIL}

    spans = {route: run.events("span.latency", span="http.request", route=route).count for route in answered}

    assert spans == run.truth["truth"] == answered
    assert run.counts("span.errors", "span", "type") == {("http.request", "HTTPInternalServerError"): FAIL}
    assert run.counts("syscall.errors", "syscall", "route", span="http.request") == {
        ("close", "work"): WORK,
        ("rmdir", "block"): BLOCK,
        ("chdir", "fail"): FAIL,
    }


def test_a_handler_that_blocks_is_seen_in_the_loop_and_in_its_spans(service: Run) -> None:
    """
    It sleeps for 30 ms; the others only await, however long it keeps them.

    That holds too where the machine ran no tracepoint for a switch. A round of the loop without a handler that
    blocks may take as long only if the loop waits for a CPU for most of it.
    """
    run = service
    queued = run.events("runq.wait", role="python").total // 20_000_000

    busy = run.events("loop.busy")
    blocking = made_of(run, "http.request", route="block")
    working = made_of(run, "http.request", route="work")

    assert BLOCK <= round(busy.share_above(29_000_000) * busy.count) <= BLOCK + 5 + queued
    assert blocking.components["poll"] >= BLOCK * 30_000_000
    assert blocking.share("poll") > 0.7
    assert working.share("awaiting") > 0.5
    assert working.components["poll"] == 0
    for found in (blocking, working):
        assert sum(found.components.values()) == found.latency_ns


@pytest.fixture(scope="module")
def evaluator(lab: Lab) -> Run:
    """
    A pool of forked processes, then one of spawned ones.

    Each waits once at its start: one that is late may find its tasks done and its end in the pipe, and never wait.
    A span before the attach, so that the kernel knows where spans are when it begins: what a fork inherits.
    """
    return record(
        lab,
        f"""
        import multiprocessing, time
        def evaluate(method):
            with Kind("evaluation", method=method)():
                a()
                until = time.thread_time() + 0.002
                while time.thread_time() < until:
                    pass
            return os.getpid()
        def evaluated(method):
            with Kind("agent.spawn", method=method)():
                pool = multiprocessing.get_context(method).Pool({WORKERS}, time.sleep, [0.001])
            pids = pool.map(evaluate, [method] * {EVALUATIONS}, 1)
            pool.close()
            pool.join()
            return len(pids)
        if __name__ == "__main__":
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a spawned process runs this file too, and shall not wait
            truth(**{{method: evaluated(method) for method in ("fork", "spawn")}})
        """,
        before=PROBE + "with Kind('before')():\n    pass\n",
    )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_evaluations_of_a_pool_are_as_many_as_it_returns(evaluator: Run, method: str) -> None:
    """In processes that share their parent's memory, or start anew: the kernel learns of them by itself."""
    found = made_of(evaluator, "evaluation", method=method)
    failed = evaluator.count("syscall.errors", span="evaluation", method=method)

    assert evaluator.truth["truth"][method] == found.count == EVALUATIONS
    assert failed == EVALUATIONS
    assert sum(found.components.values()) == found.latency_ns >= EVALUATIONS * 2_000_000
    assert found.components["on-CPU"] + found.components["runq"] > 0.8 * found.latency_ns


def test_processes_of_a_pool_are_spawned_in_the_span_that_makes_it(evaluator: Run) -> None:
    """Spawning starts Python anew, and once a process that tracks resources."""
    forked, spawned = WORKERS, WORKERS + 1

    assert evaluator.counts("spawn.count", "span", "method") == {
        ("agent.spawn", "fork"): forked,
        ("agent.spawn", "spawn"): spawned,
    }
    assert evaluator.events("spawn.exec", span="agent.spawn").count == spawned
    assert evaluator.events("spawn.ready", span="agent.spawn").count == forked + spawned


QUERIES = f"""
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError
from tracekit import probe
facts = dict(queries=0, rollbacks=0, handshake=0)
def count(what):
    def counted(*arguments):
        facts[what] += 1
    return counted
def watch(engine):
    \"""From here on the library's own events count; before, it asked the server what it is.\"""
    facts["handshake"] = sum(span["count"] for span in probe.snapshot()["spans"])
    event.listen(engine, "before_cursor_execute", count("queries"))
    event.listen(engine, "rollback", count("rollbacks"))
WANTED = ["select 1"] * {QUICK} + ["select pg_sleep(0.02)"] * {SLEEPING} + ["select nothing"] * {REFUSED}
"""
SYNC = """
def search(url):
    engine = create_engine(url)
    with engine.connect() as connection:
        watch(engine)
        for query in WANTED:
            try: connection.execute(text(query))
            except DBAPIError: connection.rollback()
"""
ASYNC = """
import asyncio
from sqlalchemy.ext.asyncio import create_async_engine
async def searched(url):
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        watch(engine.sync_engine)
        for query in WANTED:
            try: await connection.execute(text(query))
            except DBAPIError: await connection.rollback()
    await engine.dispose()
def search(url):
    asyncio.run(searched(url))
"""
DRIVERS = [("psycopg2", SYNC), ("pg8000", SYNC), ("asyncpg", ASYNC)]
"""They wait for an answer by poll() on its socket, by reading from it, and in an event loop."""


@pytest.mark.parametrize(("driver", "source"), DRIVERS)
def test_queries_of_sqlalchemy(lab: Lab, postgresql: Server, driver: str, source: str) -> None:
    """Zero code, on a database that sleeps: each query is one span, and its time is that of the answer."""
    folder = lab.folder()
    url = f"postgresql+{driver}://postgres@127.0.0.1:{postgresql.port}/postgres"
    main = f"T = {str(folder)!r}\nimport searching\nsearching.search({url!r})\ntruth(**searching.facts)\n"
    (folder / "tracekit.toml").write_text("[spans]\nsearch = 'searching:search'\n")
    (folder / "searching.py").write_text(QUERIES + source)
    (folder / "program.py").write_text(PRELUDE + main)

    run = lab.run(f"{sys.executable} {folder}/program.py", "-c", str(folder / "tracekit.toml"))

    truth = json.loads((folder / "truth.json").read_text())
    queries, search = made_of(run, "db.query", system="postgresql"), made_of(run, "search")
    own = truth["rollbacks"] if driver == "asyncpg" else 0  # there they are queries like others
    assert run.code == 0
    assert truth["queries"] == QUICK + SLEEPING + REFUSED
    assert queries.count == truth["handshake"] + truth["queries"] + own
    assert search.count == 1
    assert sum(run.counts("span.errors", "span", "type", span="db.query").values()) == REFUSED
    assert queries.components["db"] >= SLEEPING * 19_900_000
    others = queries.components["runq"] + queries.components["awaiting"]  # of a busy machine
    assert queries.components["db"] > 0.8 * (queries.latency_ns - others)
    assert sum(queries.components.values()) == queries.latency_ns <= search.latency_ns


def test_spans_of_opentelemetry_are_as_many_as_its_exporter_gets(lab: Lab) -> None:
    """Threads and tasks of its SDK; what its sampler drops is seen nevertheless."""
    run = record(
        lab,
        """
        import asyncio, threading
        from collections import Counter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, TraceIdRatioBased
        from tracekit.otel import AlwaysRecord, SpanProcessor

        def traced(sampler):
            provider, exporter = TracerProvider(sampler=sampler), InMemorySpanExporter()
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            provider.add_span_processor(SpanProcessor())
            return provider.get_tracer("the.program"), exporter

        tracer, exporter = traced(ALWAYS_ON)
        def work(i):
            for _ in range(37):
                with tracer.start_as_current_span(f"thread.{i}"):
                    a()
                    with tracer.start_as_current_span("query", attributes={"db.system.name": "sqlite"}):
                        b()
        async def step(i):
            with tracer.start_as_current_span(f"task.{i % 3}"):
                await asyncio.sleep(0.001)
                a()
        async def main():
            tasks = [asyncio.create_task(step(i)) for i in range(101)]
            await asyncio.gather(*tasks)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        asyncio.run(main())
        for _ in range(7):
            try:
                with tracer.start_as_current_span("failing"):
                    raise ValueError
            except ValueError:
                pass
        dropping, few = traced(AlwaysRecord(TraceIdRatioBased(0.1)))
        for _ in range(211):
            with dropping.start_as_current_span("dropped"):
                c()
        names = Counter(span.name for span in exporter.get_finished_spans())
        truth(names=names, sampled=len(few.get_finished_spans()))
        """,
    )
    exported = {**run.truth["truth"]["names"], "dropped": 211}
    exported["db.query"] = exported.pop("query")
    called = {(name, "a"): count for name, count in exported.items() if name.startswith(("task", "thread"))}

    spans = {name: run.events("span.latency", span=name).count for name in exported}

    assert spans == exported
    assert sum(exported.values()) == 2 * 4 * 37 + 101 + 7 + 211
    assert run.truth["truth"]["sampled"] < 100
    assert failed(run) == called | {("db.query", "b"): 4 * 37, ("dropped", "c"): 211}
    assert run.counts("span.errors", "span", "type") == {("failing", "ValueError"): 7}
