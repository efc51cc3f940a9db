"""Which span is current: known numbers of failing calls in each, in every way a Python program can suspend its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.spanned import PRELUDE, PROBE, failed, record

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

TASKS = """
import asyncio
async def work(i, n):
    b()
    with span(f"K{i % 5}"):
        for _ in range(n):
            a()
            await asyncio.sleep(0)
            c()
    await asyncio.sleep(0)
    b()
async def main():
    await asyncio.gather(*(work(i, 7) for i in range(50)))
"""
FIVE = {(f"K{i}", call): 70 for i in range(5) for call in "ac"} | {("", "b"): 100}


def test_nested_spans_and_what_is_outside(lab: Lab) -> None:
    """The innermost span has the call; after an exception it is the one around it."""
    run = record(
        lab,
        """
        a(11)
        with span("A"):
            a(101)
            with span("B"):
                a(31)
                with span("A"):
                    a(7)
            a(13)
        try:
            with span("E"):
                a()
                raise ValueError
        except ValueError:
            pass
        a(17)
        """,
    )

    assert failed(run) == {("", "a"): 28, ("A", "a"): 121, ("B", "a"): 31, ("E", "a"): 1}
    assert run.events("span.latency", span="A").count == 2
    assert run.counts("span.errors", "span", "type") == {("E", "ValueError"): 1}


def test_threads_have_spans_of_their_own(lab: Lab) -> None:
    """Eight threads at once, each in its own span, within a common one."""
    run = record(
        lab,
        """
        import threading
        def work(i):
            for _ in range(50):
                with span(f"T{i}"):
                    a()
                    with span("inner"):
                        b()
                c()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        """,
    )

    assert failed(run) == {(f"T{i}", "a"): 50 for i in range(8)} | {("inner", "b"): 400, ("", "c"): 400}


def test_a_thread_that_is_older_than_the_probe(lab: Lab) -> None:
    """Its thread-local storage was made before the library was loaded."""
    before = """
    import queue, threading
    go_on, done = threading.Event(), queue.Queue()
    def work():
        go_on.wait()
        a(11)
        with span("late"):
            a(101)
        done.put(1)
    threading.Thread(target=work).start()
    from tracekit.probe import span
    """

    run = record(lab, "go_on.set()\ndone.get()", before=before)

    assert failed(run) == {("", "a"): 11, ("late", "a"): 101}


def test_a_forked_child_is_not_in_its_parent_s_span(lab: Lab) -> None:
    """It has spans of its own; what was open at the fork is its parent's, whose latency counts once."""
    run = record(
        lab,
        """
        with span("parent"):
            pid = os.fork()
            if not pid:
                b(41)
                with span("child"):
                    b(61)
                b(5)
                import time
                time.sleep(0.5)  # its board goes with it: the collector needs a moment
                os._exit(0)
            os.waitpid(pid, 0)
            a(23)
        """,
    )

    assert failed(run) == {("", "b"): 46, ("child", "b"): 61, ("parent", "a"): 23}
    assert run.events("span.latency", span="parent").count == 1
    assert run.events("span.latency", span="child").count == 1
    assert run.count("spawn.count", span="parent") == 1


def test_a_child_that_is_gone_at_once_is_counted(lab: Lab) -> None:
    """Its board goes with it: either the collector was fast enough, or the process is counted as lost."""
    run = record(
        lab,
        """
        for _ in range(53):
            pid = os.fork()
            if not pid:
                with span("brief"):
                    pass
                os._exit(0)
            os.waitpid(pid, 0)
        """,
    )

    read = run.events("span.latency", span="brief").count
    assert read + run.lost.get("probe", 0) == 53


@pytest.mark.parametrize("extension", ["with the extension", "in Python"])
def test_a_program_that_is_new_has_its_first_span(lab: Lab, extension: str) -> None:
    """
    From its first call on, however late the collector comes to look: the probe tells the kernel where spans are.

    It must come while the process lives, which therefore waits: else nobody knows what the span is called.
    """
    without = "" if extension.startswith("with") else "sys.modules['tracekit.probe._probe'] = None\n"
    new = f"{PRELUDE}{without}{PROBE}with span('new'):\n    a(11)\nimport time\ntime.sleep(2)\n"
    run = record(
        lab,
        f"""
        import subprocess
        with open(T + "/new.py", "w") as file:
            file.write({new!r})
        [child.wait() for child in [subprocess.Popen([sys.executable, T + "/new.py"]) for _ in range(3)]]
        """,
        before="",
    )

    assert failed(run) == {("new", "a"): 3 * 11}


def test_processes_are_spawned_in_a_span(lab: Lab) -> None:
    """vfork and exec: the new program is in no span, but it is known in which it was started."""
    run = record(
        lab,
        """
        import subprocess
        with span("agent.spawn"):
            for _ in range(7):
                subprocess.run(["/bin/true"])
            a(3)
        subprocess.run(["/bin/true"])
        """,
    )

    assert failed(run) == {("agent.spawn", "a"): 3}
    assert run.count("spawn.count", span="agent.spawn") == 7
    assert run.count("spawn.count") == 8
    assert run.events("spawn.exec", span="agent.spawn").count == 7
    assert sum(process.span == "agent.spawn" for process in run.recording.processes()) == 7


def test_tasks_of_asyncio_interleave(lab: Lab) -> None:
    """The span goes with the Context of the task, not with the thread."""
    run = record(lab, TASKS + "asyncio.run(main())")

    assert failed(run) == FIVE
    assert run.events("span.latency", span="K3").count == 10


def test_a_span_around_the_loop_is_not_that_of_its_tasks(lab: Lab) -> None:
    """`asyncio.run` inside of a span: tasks run in Contexts of their own."""
    run = record(lab, TASKS + "with span('OUT'):\n    a()\n    asyncio.run(main())\n    a()\n")

    assert failed(run) == FIVE | {("OUT", "a"): 2}


@pytest.mark.parametrize("loop", ["uvloop", "trio", "greenlet"])
def test_other_loops(lab: Lab, loop: str) -> None:
    """What switches tasks in C, without asyncio, or under Python's feet is as exact."""
    programs = {
        "uvloop": TASKS + "import uvloop\nuvloop.install()\nasyncio.run(main())\n",
        "trio": """
        import trio
        async def work(i):
            with span(f"K{i % 5}"):
                for _ in range(7):
                    a()
                    await trio.sleep(0)
                    c()
        async def main():
            async with trio.open_nursery() as nursery:
                for i in range(50):
                    nursery.start_soon(work, i)
        trio.run(main)
        b(100)
        """,
        "greenlet": """
        import greenlet
        def work(i):
            with span(f"K{i % 5}"):
                for _ in range(7):
                    a()
                    main.switch()
                    c()
        main = greenlet.getcurrent()
        all_of_them = [greenlet.greenlet(work) for _ in range(50)]
        for i, one in enumerate(all_of_them):
            one.switch(i)
        while any(all_of_them):
            for one in all_of_them:
                if one:
                    one.switch()
        b(100)
        """,
    }

    run = record(lab, programs[loop])

    assert failed(run) == FIVE


def test_cancelled_timed_out_and_closed(lab: Lab) -> None:
    """A span that ends by being cancelled, or is closed from another Context or by the collector of garbage."""
    run = record(
        lab,
        """
        import asyncio, contextvars, gc
        async def slow(name):
            with span(name):
                a()
                try:
                    await asyncio.sleep(30)
                finally:
                    c()
        async def main():
            tasks = [asyncio.create_task(slow("C")) for _ in range(11)]
            await asyncio.sleep(0.01)
            [task.cancel() for task in tasks]
            await asyncio.gather(*tasks, return_exceptions=True)
            for _ in range(5):
                try:
                    await asyncio.wait_for(slow("T"), 0.01)
                except asyncio.TimeoutError:
                    pass
            b()
        async def never():
            with span("G"):
                a()
                await asyncio.sleep(0)
        asyncio.run(main())
        for _ in range(7):
            coroutine = never()
            coroutine.send(None)
            c()
            coroutine.close()
            b()
        for _ in range(7):
            context = contextvars.copy_context()
            coroutine = never()
            context.run(coroutine.send, None)
            b()
            del coroutine
            gc.collect()
            b()
        """,
    )

    expected = {("C", "a"): 11, ("C", "c"): 11, ("T", "a"): 5, ("T", "c"): 5, ("G", "a"): 14, ("G", "c"): 7}
    assert failed(run) == expected | {("", "b"): 22}
    assert run.counts("span.errors", "span", "type") == {
        ("C", "CancelledError"): 11,
        ("T", "CancelledError"): 5,
    }


def test_generators_that_cross(lab: Lab) -> None:
    """Two open spans of one Context that end in the order they began: nothing stays behind."""
    run = record(
        lab,
        """
        def generator(name):
            with span(name):
                for _ in range(5):
                    a()
                    yield
        first, second = generator("GA"), generator("GB")
        next(first)
        next(second)
        next(first)
        first.close()
        b()
        second.close()
        c()
        """,
    )

    assert failed(run) == {("GA", "a"): 1, ("GB", "a"): 2, ("GB", "b"): 1, ("", "c"): 1}


def test_a_generator_that_hops_threads(lab: Lab) -> None:
    """As Starlette iterates: each step on another thread. The latency counts once, and no thread keeps the span."""
    run = record(
        lab,
        """
        import concurrent.futures
        def generator():
            with span("HOP"):
                for _ in range(20):
                    a()
                    yield
        steps = generator()
        for _ in range(21):
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(lambda: next(steps, None)).result()
        b()
        """,
    )

    assert failed(run) == {("HOP", "a"): 1, ("", "a"): 19, ("", "b"): 1}
    assert run.events("span.latency", span="HOP").count == 1


def test_work_handed_to_a_thread(lab: Lab) -> None:
    """`to_thread` copies the Context: the work is not in the task's span, but may be in its own."""
    run = record(
        lab,
        """
        import asyncio
        def blocking():
            a()
            with span("blocking"):
                b()
        async def work():
            with span("task"):
                c()
                await asyncio.to_thread(blocking)
                c()
        async def main():
            await asyncio.gather(*(work() for _ in range(50)))
        asyncio.run(main())
        """,
    )

    assert failed(run) == {("task", "c"): 100, ("", "a"): 50, ("blocking", "b"): 50}


def test_twenty_thousand_suspended_tasks(lab: Lab) -> None:
    """Each is inside of its span while all the others wake up."""
    run = record(
        lab,
        """
        import asyncio
        gate = None
        async def work(i):
            with span(f"K{i % 5}"):
                await gate.wait()
                a()
        async def main():
            global gate
            gate = asyncio.Event()
            tasks = [asyncio.create_task(work(i)) for i in range(20000)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*tasks)
        asyncio.run(main())
        """,
    )

    assert failed(run) == {(f"K{i}", "a"): 4000 for i in range(5)}
    assert run.events("span.latency", span="K0").count == 4000


def test_without_contexts_the_numbers_would_be_wrong(lab: Lab) -> None:
    """The negative control: were the last entered span the current one, these tests would see it."""
    run = record(
        lab,
        """
        import asyncio
        last = None
        async def work(i):
            global last
            with span(f"K{i}"):
                last = i
                await asyncio.sleep(0)
                if last != i:
                    a()
        async def main():
            await asyncio.gather(*(work(i) for i in range(5)))
        asyncio.run(main())
        """,
    )

    assert failed(run) == {(f"K{i}", "a"): 1 for i in range(4)}


def test_the_pure_python_probe(lab: Lab) -> None:
    """Where the extension cannot be built: the span of synchronous code is as exact."""
    before = """
    import sys
    sys.modules["tracekit.probe._probe"] = None
    """ + PROBE.replace("\n", "\n    ")
    run = record(
        lab,
        """
        import threading
        assert "fallback" in span.__module__, span.__module__
        def work(i):
            for _ in range(50):
                with span(f"T{i}"):
                    a()
                    with span("inner"):
                        b()
                c()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        """,
        before=before,
    )

    assert failed(run) == {(f"T{i}", "a"): 50 for i in range(8)} | {("inner", "b"): 400, ("", "c"): 400}
    assert run.events("span.latency", span="inner").count == 400


def test_every_metric_of_the_kernel_has_the_span(lab: Lab) -> None:
    """23 sleeps inside, 7 outside: waits, run queue, slices of CPU, switches and latencies of calls tell them apart."""
    run = record(
        lab,
        """
        import time
        with span("inside"):
            for _ in range(23):
                time.sleep(0.002)
        for _ in range(7):
            time.sleep(0.002)
        """,
        "--syscalls",
    )

    sleep = "clock_nanosleep"
    for labels, metric in (({"syscall": sleep}, "blocked"), ({"syscall": sleep}, "syscall.latency")):
        assert run.events(metric, **labels, span="inside").count == 23
        assert run.events(metric, **labels).count == 30
    assert run.events("offcpu", reason="poll", span="inside").count == 23
    for metric in ("runq.wait", "oncpu"):
        inside = run.events(metric, span="inside").count
        assert 23 - sum(run.holes.values()) <= inside < run.events(metric).count
    assert run.count("switches", kind="voluntary", span="inside") >= 23
