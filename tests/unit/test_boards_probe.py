"""What the probe writes is what the collector reads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.unit.probing import BOTH, ROOT, WITHOUT_EXTENSION
from tracekit.capture.probes import Boards, layout

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = """
import asyncio, os, sys, time
from tracekit.probe import Kind, counter, gauge, mark, span

def work():
    for _ in range(3):
        with span("evaluation"):
            time.sleep(0.001)
    with Kind("db.query", system="postgresql")():
        pass
    try:
        with span("failing"):
            raise ValueError(42)
    except ValueError:
        pass
    counter("tokens", model="small").add(7)
    gauge("queue.depth").set(3)
    mark("ready")

async def suspended():
    with span("suspended"):
        await asyncio.sleep(0.005)

async def many():
    await asyncio.gather(*(suspended() for _ in range(5)))

def child():
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        with span("evaluation"):
            pass
        os.write(tell, b"1")
        time.sleep(60)
        os._exit(0)
    os.read(told, 1)
    print(pid, flush=True)

for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Process:
    """A program with the probe in it, that runs the lines it is given."""

    def __init__(self, engine: str) -> None:
        program = (WITHOUT_EXTENSION if engine == "python" else "") + PROGRAM
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, text=True, **pipes)
        self.tgid = self.process.pid
        self.do("pass")

    def do(self, code: str) -> list[str]:
        """Run *code*; return what it printed."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        return list(iter(lambda: self.process.stdout.readline().strip(), "done"))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()


@pytest.fixture
def process(engine: str) -> Iterator[Process]:
    """Return a program that waits."""
    found = Process(engine)
    yield found
    found.end()


@BOTH
def test_a_program_is_read_as_it_wrote(process: Process, boards: Boards) -> None:
    """Spans, errors, counters, gauges and marks of a real program come with their names, labels and numbers."""
    boards.scan([process.tgid])
    process.do("work()")

    found = boards.collect()

    histograms = {series.labels: slots for series, slots in found.histograms}
    worker = ("role", "worker")
    evaluation = histograms[worker, ("span", "evaluation")]
    values = {(series.metric, series.kind, series.labels): value for series, value in found.values}
    assert sum(evaluation.counts) == 3
    assert 1_000_000 <= evaluation.low <= evaluation.total // 3 <= evaluation.high
    assert sum(histograms[worker, ("span", "db.query"), ("system", "postgresql")].counts) == 1
    assert values == {
        ("span.errors", "counter", (worker, ("span", "failing"), ("type", "ValueError"))): 1,
        ("app.tokens", "counter", (("model", "small"), worker)): 7,
        ("app.queue.depth", "gauge", (worker,)): 3,
        ("mark", "counter", (("mark", "ready"), worker)): 1,
    }
    assert [tgid for tgid, _ in boards.ready()] == [process.tgid]
    assert boards.losses() == []
    assert boards.missing == []


@BOTH
def test_where_the_current_span_is_makes_sense(process: Process, boards: Boards, engine: str) -> None:
    """The extension has thread-local records, the fallback a table; the collector believes both."""
    boards.scan([process.tgid])

    (facts,) = boards.opened()

    if engine == "python":
        assert (facts.mode, facts.mask) == (layout.TABLE, 1023)
        assert facts.threads_at > 0
    else:
        assert facts.mode in {layout.STATIC, layout.DYNAMIC}
        assert facts.tls_offset != 0


@pytest.mark.parametrize("engine", ["c"])
def test_time_that_was_awaited_is_known(process: Process, boards: Boards) -> None:
    """Of spans that were suspended all latency is in `awaited`; of others none is."""
    boards.scan([process.tgid])
    process.do("work()")
    process.do("asyncio.run(many())")

    parts = boards.collect().parts

    suspended = [part for (series, _), part in parts.items() if series.label("span") == "suspended"]
    others = [part for (series, _), part in parts.items() if series.label("span") != "suspended"]
    assert sum(latency for latency, _ in suspended) >= 5 * 5_000_000
    assert all(latency == awaited for latency, awaited in suspended)
    assert all(awaited == 0 for _, awaited in others)


@BOTH
def test_a_child_of_a_program_has_its_own_counts(process: Process, boards: Boards) -> None:
    """What a child counts is the child's, what the parent counted is not counted again."""
    boards.scan([process.tgid])
    process.do("work()")
    (pid,) = process.do("child()")
    living = [process.tgid, int(pid)]
    boards.scan(living)

    (evaluation,) = [s for series, s in boards.collect().histograms if series.label("span") == "evaluation"]

    subprocess.run(["kill", pid], check=True)
    assert sum(evaluation.counts) == 4
    assert len(boards) == 2
