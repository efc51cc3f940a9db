"""OpenTelemetry's spans are tracekit's: as many, under the names that reports know."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

from tests.unit.unchanged import run
from tracekit import probe
from tracekit.otel import AlwaysRecord, SpanProcessor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NUMBERS = count()


@pytest.fixture
def name() -> str:
    """Return a name that no other test has used: what is counted stays for the process's life."""
    return f"work.{next(_NUMBERS)}"


@pytest.fixture
def tracer() -> trace.Tracer:
    """Return a tracer whose spans are tracekit's."""
    return traced_by(ALWAYS_ON)


@pytest.fixture
def counted() -> Callable[[], dict[str, int]]:
    """Return a function that tells what was counted since the test began, by name and labels."""
    before = tally()
    return lambda: dict(tally() - before)


def traced_by(sampler: object, *processors: object, **options: int) -> trace.Tracer:
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    for processor in (SpanProcessor(**options), *processors):
        provider.add_span_processor(processor)
    return provider.get_tracer("the.program")


def tally() -> Counter[str]:
    found: Counter[str] = Counter()
    snapshot = probe.snapshot()
    for span in snapshot["spans"]:
        labels = ",".join(f"{label}={value}" for label, value in span["labels"].items())
        found[f"{span['name']}{{{labels}}}"] += span["count"]
        for error, number in span["errors"].items():
            found[f"{span['name']} {error}"] += number
    for value in snapshot["counters"]:
        found["/".join([value["name"], *value["labels"].values()])] += value["count"]
    return found


def test_each_span_is_one_with_its_errors(tracer, name, counted) -> None:
    """An exception in a span sets its status; so may the program."""
    for number in range(23):
        with suppress(ValueError), tracer.start_as_current_span(name):
            if number < 5:
                raise ValueError(number)
    tracer.start_span(name).set_status(trace.StatusCode.OK)
    failed = tracer.start_span(name)
    failed.set_status(trace.StatusCode.ERROR)
    failed.end()
    timed_out = tracer.start_span(name, attributes={"error.type": "asyncio.exceptions.TimeoutError"})
    timed_out.set_status(trace.StatusCode.ERROR)
    timed_out.end()
    gc.collect()

    errors = {f"{name} ValueError": 5, f"{name} failed": 1, f"{name} TimeoutError": 1}
    assert counted() == {f"{name}{{}}": 25, **errors}


def test_ended_on_another_thread_or_context_or_twice(tracer, name, counted) -> None:
    """Where and how often a program ends its span is its own affair."""
    spans = [tracer.start_span(name) for _ in range(7)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda span: span.end(), spans))
    spans[0].end()
    span = tracer.start_span(name)
    token = context.attach(trace.set_span_in_context(span))
    span.end()
    context.detach(token)

    assert counted() == {f"{name}{{}}": 8}


def test_a_span_that_never_ends_leaves_nothing(name, counted) -> None:
    """Neither a count nor memory."""
    processor = SpanProcessor()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    for _ in range(101):
        provider.get_tracer("x").start_span(name)
    gc.collect()

    assert counted() == {}
    assert len(processor._open) == 0


def test_spans_of_tasks_that_take_turns(tracer, name, counted) -> None:
    """Each in its own task, 100 at once, nested; some are cancelled."""

    async def work(number: int) -> None:
        with tracer.start_as_current_span(name):
            await asyncio.sleep(0)
            with tracer.start_as_current_span(f"{name}.inner"):
                await asyncio.sleep(9 if number < 3 else 0.001)

    async def main() -> None:
        tasks = [asyncio.create_task(work(number)) for number in range(101)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())

    assert counted() == {f"{name}{{}}": 101, f"{name}.inner{{}}": 101}


@pytest.mark.parametrize(
    ("attributes", "becomes"),
    [
        ({"gen_ai.operation.name": "create_agent", "gen_ai.agent.name": "a"}, "agent.spawn{}"),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, "agent.invoke{}"),
        ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get"}, "tool.call{tool=get}"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool.call{}"),
        (
            {"gen_ai.operation.name": "evaluate", "gen_ai.evaluation.name": "Relevance"},
            "evaluation{evaluation=Relevance}",
        ),
        ({"gen_ai.evaluation.name": "Relevance"}, "evaluation{evaluation=Relevance}"),
        ({"db.system.name": "postgresql", "db.operation.name": "SELECT"}, "db.query{system=postgresql}"),
        ({"db.system": "redis"}, "db.query{system=redis}"),
        (
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "a\nb\0c" + "é" * 99},
            f"tool.call{{tool=a b c{'é' * 27}}}",
        ),
    ],
)
def test_names_of_the_conventions(tracer, counted, attributes: dict[str, str], becomes: str) -> None:
    """What is known when the span starts decides; values are one line and short."""
    for _ in range(3):
        tracer.start_span("any name", attributes=attributes).end()

    assert counted() == {becomes: 3}


def test_an_instrumentation_that_names_its_database_late(counted) -> None:
    """Those by DB-API set db.system when the span has begun: their own name says which it is."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())
    tracer = provider.get_tracer("opentelemetry.instrumentation.psycopg2")

    with tracer.start_as_current_span("SELECT") as span:
        span.set_attribute("db.system", "postgresql")

    assert counted() == {"db.query{system=postgresql}": 1}


def test_a_query_made_of_queries_is_one(tracer, counted) -> None:
    """SQLAlchemy's instrumentation around that of its driver; the next one counts again."""
    for _ in range(3):
        outer = tracer.start_span("outer", attributes={"db.system": "mysql"})
        tracer.start_span("inner", attributes={"db.system": "mysql"}).end()
        outer.end()
    forgotten = tracer.start_span("never ended", attributes={"db.system": "mysql"})
    del forgotten
    gc.collect()
    tracer.start_span("next", attributes={"db.system": "mysql"}).end()

    assert counted() == {"db.query{system=mysql}": 4}


def test_results_of_evaluations_are_counted(tracer, name, counted) -> None:
    """They are events of a span: they have no length."""
    for result in ("pass", "pass", "fail"):
        with tracer.start_as_current_span(name) as span:
            attributes = {"gen_ai.evaluation.name": "Relevance", "gen_ai.evaluation.score.label": result}
            span.add_event("gen_ai.evaluation.result", attributes)
            span.add_event("another")

    expected = {"evaluation.results/Relevance/pass": 2, "evaluation.results/Relevance/fail": 1}
    assert counted() == {f"{name}{{}}": 3, **expected}


def test_a_sampler_hides_spans_and_always_record_shows_them(name, counted) -> None:
    """Nothing is exported that would not have been; everything is counted."""
    exported = InMemorySpanExporter()
    for sampler in (
        ALWAYS_OFF,
        AlwaysRecord(ALWAYS_OFF),
        AlwaysRecord(ParentBased(ALWAYS_OFF)),
        AlwaysRecord(ALWAYS_ON),
    ):
        tracer = traced_by(sampler, SimpleSpanProcessor(exported))
        for _ in range(7):
            with tracer.start_as_current_span(name, attributes={"a": 1}) as span:
                assert sampler is ALWAYS_OFF or span.attributes == {"a": 1}

    assert counted() == {f"{name}{{}}": 21}
    assert len(exported.get_finished_spans()) == 7
    assert AlwaysRecord(TraceIdRatioBased(0.01)).get_description() == "AlwaysRecord{TraceIdRatioBased{0.01}}"


def test_names_without_end_do_not_take_the_room_of_others(name, counted) -> None:
    """A program that puts ids into its names has them counted together."""
    tracer = traced_by(ALWAYS_ON, most_names=3)

    for number in range(103):
        tracer.start_span(f"{name}/{number % 53}").end()

    found = counted()
    assert found.pop("<other>{}") == 103 - 2 * 3
    assert found == {f"{name}/{number}{{}}": 2 for number in range(3)}


def test_types_of_errors_without_end_are_failures(name, counted) -> None:
    """As with names: the first have their own, the others are counted together."""
    tracer = traced_by(ALWAYS_ON, most_names=3)

    for number in range(11):
        span = tracer.start_span(name, attributes={"error.type": f"E{number}\n"})
        span.set_status(trace.StatusCode.ERROR)
        span.end()

    assert counted() == {f"{name}{{}}": 11, f"{name} E0": 1, f"{name} E1": 1, f"{name} E2": 1, f"{name} failed": 8}


def test_a_span_of_a_thread_that_ended(tracer, name, counted) -> None:
    """It began there, and ends here."""
    spans: list[trace.Span] = []
    thread = threading.Thread(target=lambda: spans.append(tracer.start_span(name)))
    thread.start()
    thread.join()

    spans[0].end()

    assert counted() == {f"{name}{{}}": 1}


def test_with_hooks_of_drivers_a_query_is_still_one(tmp_path: Path) -> None:
    """OpenTelemetry's instrumentation of a driver, and ours of the same, in one program."""
    source = """
        import sqlite3, tally
        from opentelemetry.sdk.trace import TracerProvider
        from tracekit.otel import SpanProcessor
        provider = TracerProvider()
        provider.add_span_processor(SpanProcessor())
        tracer = provider.get_tracer("opentelemetry.instrumentation.sqlite3")
        connection = sqlite3.connect(":memory:")
        for _ in range(7):
            with tracer.start_as_current_span("SELECT"): connection.execute("select 1")
        for _ in range(3): connection.execute("select 1")
        tally.write()
    """
    done = run(tmp_path, source)

    assert (done.stderr, done.spans) == ("", {"db.query{system=sqlite}": 10})
