"""What spans are made of: known waits and known work, each of which must show up as itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import SLACK, has_disk
from tests.kernel.spanned import made_of, record

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run
    from tracekit.analysis.breakdown import Breakdown

SPIN = """
import time
def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
"""


def close_to(found: float, expected: float, share: float = 0.01, ns: float = 200_000) -> bool:
    """Is it equal within a share, and what a few clock reads and switches take?"""
    return abs(found - expected) <= SLACK * max(share * expected, ns)


def waits_of(found: Breakdown) -> int:
    """Return all the time off the CPU."""
    return found.latency_ns - found.components["on-CPU"] - found.components["awaiting"]


@pytest.fixture(scope="module")
def mixed(lab: Lab) -> Run:
    """23 spans that each sleep twice and work between, within one that works too; the program measures them."""
    return record(
        lab,
        SPIN
        + """
slept = worked = 0
with span("outer"):
    spin(0.05)
    for _ in range(23):
        with span("inner"):
            w0 = time.thread_time_ns()
            t0 = time.perf_counter_ns(); time.sleep(0.004); t1 = time.perf_counter_ns()
            spin(0.003)
            t2 = time.perf_counter_ns(); time.sleep(0.002); t3 = time.perf_counter_ns()
            a(3)
            w1 = time.thread_time_ns()
            slept += t1 - t0 + t3 - t2
            worked += w1 - w0
    time.sleep(0.1)
truth(slept=slept, worked=worked)
""",
    )


def test_sleeping_and_working_add_up(mixed: Run) -> None:
    """Waits and work are as long as the program found them, and with the run queue they are the latency."""
    truth = mixed.truth["truth"]

    found = made_of(mixed, "inner")

    parts = found.components
    assert found.count == 23
    assert sum(parts.values()) == found.latency_ns
    assert parts["unattributed"] == parts["awaiting"] == 0
    asleep = parts["poll"] + parts["runq"]  # sleep() returns when there is a CPU for it
    assert abs(parts["on-CPU"] - truth["worked"]) <= SLACK * 0.01 * found.latency_ns
    assert parts["poll"] >= 23 * 6_000_000
    assert parts["poll"] <= truth["slept"] <= asleep + 23 * SLACK * 200_000
    assert found.errors == 69


def test_a_span_has_what_those_inside_of_it_have(mixed: Run) -> None:
    """Nested spans: the outer one has its own work and sleep beside theirs."""
    inner, outer = made_of(mixed, "inner"), made_of(mixed, "outer")

    assert outer.count == 1
    assert sum(outer.components.values()) == outer.latency_ns
    assert outer.components["poll"] - inner.components["poll"] >= 100_000_000
    assert close_to(outer.components["poll"] - inner.components["poll"], 100_000_000, 0.02)
    assert outer.components["on-CPU"] - inner.components["on-CPU"] >= 45_000_000
    assert outer.errors == 69


def test_a_lock_shows_as_a_lock(lab: Lab) -> None:
    """A thread that holds it for 20 ms while the other wants it."""
    run = record(
        lab,
        """
        import threading, time
        lock = threading.Lock()
        def hold():
            with lock:
                held.release()
                time.sleep(0.02)
        held = threading.Semaphore(0)
        for _ in range(11):
            thread = threading.Thread(target=hold)
            thread.start()
            held.acquire()
            with span("locked"):
                with lock:
                    pass
            thread.join()
        """,
    )

    found = made_of(run, "locked")

    assert found.count == 11
    assert found.share("lock") > 0.9
    assert found.components["lock"] > 11 * 18_000_000


def test_a_competitor_shows_as_the_run_queue(lab: Lab) -> None:
    """A hog on the same CPU: the work takes twice as long, and what is added is waiting for the CPU."""
    run = record(
        lab,
        SPIN
        + """
import subprocess
os.sched_setaffinity(0, {0})
hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
time.sleep(0.3)
with span("starved"):
    w0 = time.thread_time_ns(); spin(0.4); w1 = time.thread_time_ns()
hog.kill()
hog.wait()
truth(worked=w1 - w0)
""",
    )

    found = made_of(run, "starved")

    assert found.share("runq") > 0.25
    assert close_to(found.components["on-CPU"], run.truth["truth"]["worked"], 0.03)
    assert sum(found.components.values()) == found.latency_ns


@pytest.mark.skipif(not has_disk(), reason="there is no disk here to wait for")
def test_a_disk_shows_as_a_disk(lab: Lab) -> None:
    """fsync of fresh data."""
    run = record(
        lab,
        """
        file = os.open(T + "/data", os.O_CREAT | os.O_WRONLY)
        for _ in range(13):
            with span("checkpoint"):
                os.write(file, b"x" * 65536)
                os.fsync(file)
        """,
    )

    found = made_of(run, "checkpoint")

    assert found.count == 13
    assert found.components["disk"] > 0.9 * (waits_of(found) - found.components["runq"])


def test_children_pipes_and_the_network_show_as_themselves(lab: Lab) -> None:
    """Each wait has its own span, and the span its own wait."""
    run = record(
        lab,
        """
        import socket, subprocess, threading, time
        for _ in range(5):
            with span("child"):
                subprocess.run(["/bin/sleep", "0.02"])
        def answer(end):
            while end.recv(10):
                time.sleep(0.01)
                end.send(b"x")
        near, far = socket.socketpair()
        threading.Thread(target=answer, args=(far,), daemon=True).start()
        for _ in range(11):
            with span("db.query"):
                near.send(b"x")
                near.recv(10)
        read, write = os.pipe()
        def feed():
            for _ in range(7):
                time.sleep(0.01)
                os.write(write, b"x")
        thread = threading.Thread(target=feed)
        thread.start()
        for _ in range(7):
            with span("piped"):
                os.read(read, 1)
        """,
    )

    assert made_of(run, "child").share("child") > 0.5
    assert made_of(run, "db.query").share("network") > 0.8
    assert made_of(run, "piped").share("pipe") > 0.8


def test_an_async_span_awaits_what_it_does_not_do(lab: Lab) -> None:
    """Ten tasks sleep at once on one thread; one of them blocks the loop, and only it has that wait."""
    run = record(
        lab,
        """
        import asyncio, time
        async def wait():
            with span("waiting"):
                await asyncio.sleep(0.05)
        async def block():
            with span("blocking"):
                await asyncio.sleep(0.01)
                time.sleep(0.03)
                await asyncio.sleep(0.01)
        async def main():
            for _ in range(7):
                await asyncio.gather(block(), *(wait() for _ in range(10)))
        asyncio.run(main())
        """,
    )

    waiting, blocking = made_of(run, "waiting"), made_of(run, "blocking")

    assert (waiting.count, blocking.count) == (70, 7)
    assert waiting.share("awaiting") > 0.95
    assert close_to(blocking.components["poll"], 7 * 30_000_000, 0.1)
    assert blocking.share("awaiting") > 0.3
    assert sum(blocking.components.values()) == blocking.latency_ns


def test_the_slowest_are_kept_with_what_they_were_made_of(lab: Lab) -> None:
    """Of 200 spans, those that slept longest."""
    run = record(
        lab,
        """
        import time
        for i in range(200):
            with span("work"):
                time.sleep(0.04 if i % 67 == 1 else 0.0005)
        """,
    )

    found = sorted((one for _, one in run.recording.exemplars()), key=lambda one: -one.duration_ns)

    assert [one.duration_ns > 40_000_000 for one in found[:4]] == [True, True, True, False]
    for one in found[:3]:
        assert one.seen
        assert one.waits[4] > 39_000_000  # poll, in the order of records.WAITS
        assert sum(one.waits) <= one.duration_ns


def test_a_span_that_is_older_than_the_attach_is_not_guessed(lab: Lab) -> None:
    """Half of it was not seen: it has a latency, and nothing is said of its parts."""
    before = """
    import time
    from tracekit.probe import span
    open_span = span("old")
    open_span.__enter__()
    time.sleep(0.2)
    """

    run = record(lab, "import time\ntime.sleep(0.05)\nopen_span.__exit__(None, None, None)", before=before)

    found = made_of(run, "old")
    assert found.count == 1
    assert found.share("unattributed") == 1


def test_the_loop_is_busy_between_two_waits_for_events(lab: Lab) -> None:
    """No probe at all: what keeps an event loop from its other work is seen from its epoll calls."""
    code = """
    import asyncio, time
    async def main():
        for _ in range(17):
            await asyncio.sleep(0.01)
            time.sleep(0.03)
    asyncio.run(main())
    """
    with_returns = record(lab, code, before="")
    without = record(lab, code, "--no-errors", before="")

    for run in (with_returns, without):
        busy = run.events("loop.busy")
        assert busy.quantile(1.0) > 29_000_000
        assert 16 <= round(busy.share_above(25_000_000) * busy.count) <= 17 * SLACK
