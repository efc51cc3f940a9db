"""Which span is current follows the Context, in whatever order tasks, greenlets and threads take turns."""

import pytest

from tests.unit.probing import BOTH, run

TASKS = """
wrong = []
async def work(i, n):
    name = f"K{i % 5}"
    wrong.append(current() is not None)
    with span(name):
        for _ in range(n):
            wrong.append(current() != name)
            await asyncio.sleep(0)
            with span("inner"):
                wrong.append(current() != "inner")
                await asyncio.sleep(0)
    wrong.append(current() is not None)
async def main(tasks=100, n=5):
    await asyncio.gather(*(work(i, n) for i in range(tasks)))
"""


def test_tasks_that_take_turns():
    """Each sees its own span after every await, and all of them count as awaited."""
    found = run("c", TASKS + "asyncio.run(main())\ntell([sum(wrong), len(wrong), spans(), current()])")

    assert found[:2] == [0, 1200]
    assert sum(found[2][f"K{i}"]["count"] for i in range(5)) == 100
    assert all(found[2][f"K{i}"]["awaited_ns"] == found[2][f"K{i}"]["total_ns"] for i in range(5))
    assert found[3] is None


def test_a_span_around_the_loop_is_not_the_tasks():
    """It is of the Context outside; their own Contexts have no span."""
    found = run(
        "c", TASKS + "with span('out'):\n    asyncio.run(main())\n    inside = current()\ntell([sum(wrong), inside])"
    )

    assert found == [0, "out"]


def test_twenty_thousand_suspended_tasks():
    """The table of Contexts grows, and is read within 16 steps of the hash."""
    found = run("c", TASKS + "asyncio.run(main(20_000, 1))\ntell([sum(wrong), len(wrong), current()])")

    assert found == [0, 80_000, None]


def test_sync_spans_are_not_awaited_and_tasks_are():
    """What the kernel side takes as on-CPU of a span depends on it."""
    found = run(
        "c",
        """
        from tests.unit.record_reader import ends
        with span("sync"): time.sleep(0.001)
        async def main():
            with span("async"):
                await asyncio.sleep(0.001)
            with span("async without await"):
                time.sleep(0.001)
        asyncio.run(main())
        def step():
            with span("moved"): yield
        it = step(); next(it); time.sleep(0.001)
        thread = threading.Thread(target=lambda: next(it, None)); thread.start(); thread.join()
        contextvars.copy_context().run(lambda: None)
        all = spans()
        tell([{name: all[name]["awaited_ns"] > 0 for name in all}, [e[0::2] for e in ends(True)]])
        """,
    )

    assert found[0] == {"sync": False, "async": True, "async without await": False, "moved": True}
    assert found[1] == [["sync", False], ["async", True], ["async without await", False]]


def test_other_loops():
    """uvloop and trio, where they are installed."""
    pytest.importorskip("uvloop")
    found = run("c", TASKS + "import uvloop\nuvloop.run(main())\ntell([sum(wrong), len(wrong)])")

    assert found == [0, 1200]


def test_greenlets_of_traced_functions():
    """A greenlet's part of the C stack is moved away while a traced call is open on it."""
    pytest.importorskip("greenlet")
    found = run(
        "c",
        """
        import greenlet
        wrong = []
        main = greenlet.getcurrent()
        def work(name):
            @traced(name)
            def call(depth):
                if depth:
                    call(depth - 1)
                for _ in range(5):
                    wrong.append(current() != name)
                    main.switch()
            call(10)
        all = [greenlet.greenlet(work) for _ in range(8)]
        for i, each in enumerate(all):
            each.switch(f"L{i}")
        while any(all):
            for each in all:
                if each:
                    each.switch()
        tell([sum(wrong), len(wrong), spans()["L3"]["count"], current()])
        """,
    )

    assert found == [0, 8 * 11 * 5, 11, None]


@BOTH
def test_threads_have_spans_of_their_own(engine):
    """Counts of all are kept when they end."""
    found = run(
        engine,
        """
        wrong = []
        def work(i):
            for _ in range(200):
                with span(f"T{i}"):
                    wrong.append(current() != f"T{i}")
                    with span("inner"):
                        wrong.append(current() != "inner")
            wrong.append(current() is not None)
        with span("main"):
            threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            wrong.append(current() != "main")
        all = spans()
        tell([sum(wrong), [all[f"T{i}"]["count"] for i in range(8)], all["inner"]["count"]])
        """,
    )

    assert found == [0, [200] * 8, 1600]


@BOTH
def test_a_thread_older_than_the_import(engine):
    """Its record is made when it enters its first span."""
    found = run(
        engine,
        """
        import threading, queue, json, sys
        go, back = threading.Event(), queue.Queue()
        def work():
            go.wait()
            from tracekit import span
            from tests.unit.record_reader import current
            seen = [current()]
            with span("late"): seen.append(current())
            back.put(seen + [current()])
        threading.Thread(target=work).start()
        import tracekit.probe
        go.set()
        print(json.dumps(back.get()))
        """,
        first="",
    )

    assert found == [None, "late", None]


def test_a_generator_that_hops_threads():
    """As Starlette drives one: a thread per step. It leaves nothing on any of them."""
    found = run(
        "c",
        """
        from concurrent.futures import ThreadPoolExecutor
        def held():
            with span("hop"):
                for _ in range(20):
                    yield
        it, seen = held(), []
        for _ in range(21):
            with ThreadPoolExecutor(1) as pool:
                seen.append(pool.submit(lambda: (next(it, None), current())[1]).result())
        tell([seen[0], set(map(str, seen[1:])) == {"None"}, spans()["hop"]["count"], current()])
        """,
    )

    assert found == ["hop", True, 1, None]


def test_threads_that_end_with_spans_open():
    """The spans may be left later, elsewhere, or never; records are used again by other threads."""
    found = run(
        "c",
        """
        kept = []
        def work(i):
            entered = [span(f"a{i % 3}"), span("b")]
            for each in entered: each.__enter__()
            kept.append(entered)
        for turn in range(20):
            threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            if turn % 2:
                for entered in kept:
                    for each in entered: each.__exit__(None, None, None)
            kept.clear()
            gc.collect()
        tell([spans()["b"]["count"], current()])
        """,
    )

    assert found == [100, None]


def test_the_last_ends_are_told_by_class():
    """Short spans that waited and long ones have rings of their own; shorter ones are in none."""
    found = run(
        "c",
        """
        from tests.unit.record_reader import ends
        def lasting(name, ns):
            with span(name):
                until = time.monotonic_ns() + ns
                while time.monotonic_ns() < until: pass
        for i in range(300):
            lasting(f"s{i % 100}", 4000)
        for i in range(3):
            lasting("long", 200_000)
        try:
            with span("bad"):
                time.sleep(0.001)
                raise OSError
        except OSError:
            pass
        for _ in range(10):
            with span("tiny"): pass
        names = [end[0] for end in ends(False)]
        short = [end[1] for end in ends(False)]
        tell([len(names), names[-1], max(short) < 100_000, min(short) >= 3000,
              [end[0::3] for end in ends(True)][-4:]])
        """,
    )

    assert found[0] == 256
    assert found[1][0] in "st"
    assert found[2:4] == [True, True]
    assert found[4] == [["long", False]] * 3 + [["bad", True]]


def test_a_span_inherits_no_context():
    """to_thread and child tasks have a copy of the Context: another one, without spans."""
    found = run(
        "c",
        """
        async def main():
            with span("task"):
                seen = [await asyncio.to_thread(current), await asyncio.create_task(child())]
                return seen + [current(), contextvars.copy_context().run(current)]
        async def child(): return current()
        tell(asyncio.run(main()))
        """,
    )

    assert found == [None, None, "task", None]


def test_spans_in_the_fallback_say_nothing_of_coroutines():
    """Rather no label than another task's."""
    found = run(
        "python",
        """
        def plain():
            with span("plain"): return current()
        async def work():
            with span("task"):
                await asyncio.sleep(0)
                return [current(), plain(), current()]
        async def main(): return await asyncio.gather(work(), work())
        def generator():
            with span("generator"): yield current()
        tell([asyncio.run(main()), list(generator()), spans()["task"]["awaited_ns"] > 0])
        """,
    )

    assert found == [[[None, "plain", None]] * 2, [None], True]


def test_more_threads_than_slots_of_the_fallback():
    """Slots of threads that are gone are used again."""
    found = run(
        "python",
        """
        def work():
            with span("x"): wrong.append(current() != "x")
        wrong = []
        for _ in range(60):
            threads = [threading.Thread(target=work) for _ in range(50)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
        tell([sum(wrong), spans()["x"]["count"], snapshot()["lost"]["threads"]])
        """,
    )

    assert found == [0, 3000, 0]
