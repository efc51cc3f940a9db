"""Guards around real bodies: that yield, that block, that grow, that fail, in tasks, threads and child processes."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time

import pytest

from tests.unit.guarded import Told, in_child, name, own_name, span, violations
from tracekit.guard import (
    GuardError,
    GuardMemoryError,
    GuardTimeoutError,
    guard,
)

__all__ = ["name", "own_name"]


# --- time -----------------------------------------------------------------------------------------------------------


def test_a_body_that_yields_is_cancelled_in_time(own_name):
    """It ends when the limit is hit, not when it would have; the error is a TimeoutError."""
    limited = guard(own_name, timeout=0.1)

    async def main():
        async with limited:
            await asyncio.sleep(30)

    begin = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main())

    assert 0.1 <= time.monotonic() - begin < 2
    assert isinstance(caught.value, GuardTimeoutError)
    assert (caught.value.violation.guard, caught.value.violation.limit) == (own_name, "time")
    assert caught.value.violation.value >= caught.value.violation.allowed == 100_000_000
    assert violations(own_name) == {"time": 1}
    assert span(own_name)["errors"] == {"GuardTimeoutError": 1}


def test_a_body_that_never_yields_is_told_of_in_time(name):
    """The loop is blocked; a thread outside it tells at the limit, and the end of the body is no success."""
    told = Told()
    limited = guard(name, timeout=0.1, on_violation=told)

    async def main():
        async with limited:
            time.sleep(0.8)
            told.append("body ended")

    begin = time.monotonic()
    with pytest.raises(GuardTimeoutError):
        asyncio.run(main())

    (violation, at, thread), ended = told
    assert ended == "body ended"
    assert violation.limit == "time"
    assert 0.1 <= at - begin < 0.6
    assert thread == "tracekit-guard"


def test_a_body_that_blocks_and_then_yields_is_cancelled_there(name):
    """What comes after the await does not run."""
    reached = []
    limited = guard(name, timeout=0.1)

    async def main():
        async with limited:
            time.sleep(0.3)
            reached.append(1)
            await asyncio.sleep(30)
            reached.append(2)

    with pytest.raises(GuardTimeoutError):
        asyncio.run(main())

    assert reached == [1]


def test_a_sync_body_is_told_of_in_time_and_raises_at_its_end(name):
    """A thread cannot be stopped safely; it can ask whether it went beyond a limit."""
    told = Told()
    limited = guard(name, timeout=0.1, on_violation=told)
    rounds = 0

    begin = time.monotonic()
    with pytest.raises(GuardTimeoutError), limited as use:
        while not use.violation:
            rounds += 1
            time.sleep(0.01)

    assert told.limits == ["time"]
    assert 0.1 <= told[0][1] - begin < 1
    assert 5 <= rounds < 60


def test_a_use_that_keeps_the_limits_is_silent(own_name):
    """Its value is returned; nothing is counted."""

    @guard(own_name, timeout=5)
    async def answer():
        await asyncio.sleep(0.01)
        return 42

    assert asyncio.run(answer()) == 42
    assert violations(own_name) == {}
    assert span(own_name)["count"] == 1


def test_without_enforcing_nothing_is_cancelled_nor_raised(own_name):
    """It is told and counted, once."""
    told = Told()
    limited = guard(own_name, timeout=0.05, enforce=False, on_violation=told)

    async def main():
        async with limited:
            await asyncio.sleep(0.3)
            return "done"

    assert asyncio.run(main()) == "done"
    assert told.limits == ["time"]
    assert violations(own_name) == {"time": 1}


def test_the_bodys_own_error_comes_through(name):
    """A limit that was hit as well does not hide why the body failed."""
    limited = guard(name, timeout=0.05)

    with pytest.raises(ZeroDivisionError), limited:
        time.sleep(0.2)
        1 / 0  # noqa: B018


def test_cancelling_from_outside_stays_a_cancelling(name):
    """Also when the time is up as well: who cancelled wants to see it."""
    limited = guard(name, timeout=0.1)

    async def body():
        async with limited:
            time.sleep(0.3)
            await asyncio.sleep(30)

    async def main():
        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        task.cancel()
        await task

    if sys.version_info < (3, 11):
        pytest.skip("tasks do not count who cancels them before Python 3.11")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def test_the_task_goes_on_after_a_timeout(name):
    """The cancelling is taken back: what the task awaits next is not cancelled."""
    limited = guard(name, timeout=0.05)

    async def main():
        with pytest.raises(GuardTimeoutError):
            async with limited:
                await asyncio.sleep(30)
        await asyncio.sleep(0.01)
        return asyncio.current_task().cancelling() if sys.version_info >= (3, 11) else 0

    assert asyncio.run(main()) == 0


# --- what is called -------------------------------------------------------------------------------------------------


def test_an_async_callback_is_awaited_on_the_loop(name):
    """While the body waits, before it is cancelled; and to its end before the use has ended."""
    steps = []

    async def tell(violation):
        steps.append((violation.limit, threading.current_thread() is threading.main_thread()))
        await asyncio.sleep(0.05)
        steps.append("told")

    async def main():
        async with guard(name, timeout=0.05, on_violation=tell):
            await asyncio.sleep(30)

    with pytest.raises(GuardTimeoutError):
        asyncio.run(main())

    assert steps == [("time", True), "told"]


def test_an_async_callback_is_awaited_also_if_the_body_never_yields(name):
    """Then at the end of the body."""
    steps = []

    async def tell(violation):
        await asyncio.sleep(0)
        steps.append(violation.limit)

    async def main():
        async with guard(name, timeout=0.05, on_violation=tell):
            time.sleep(0.3)
            steps.append("ended")

    with pytest.raises(GuardTimeoutError):
        asyncio.run(main())

    assert steps == ["ended", "time"]


def test_an_async_callback_needs_a_loop(name):
    """Refused before anything begins."""

    async def tell(violation):
        pass

    with pytest.raises(TypeError, match="async with"), guard(name, on_violation=tell):
        pass


def test_a_callback_that_fails_breaks_nothing(name, caplog):
    """The thread goes on watching the others; the log says what happened."""

    def tell(violation):
        raise RuntimeError("of the user")

    with caplog.at_level(logging.ERROR, "tracekit.guard"):
        for _ in range(2):
            with pytest.raises(GuardTimeoutError), guard(name, timeout=0.02, on_violation=tell):
                time.sleep(0.15)

    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError, RuntimeError]


@pytest.mark.parametrize("ending", ["returns", "raises", "times out", "is cancelled"])
def test_clean_ups_run_however_it_ends(name, ending):
    """The last one given first, async ones awaited, all of them also where one fails."""
    ran = []

    async def later(word):
        await asyncio.sleep(0)
        ran.append(word)

    async def body():
        async with guard(name, timeout=0.05) as use:
            use.cleanup(ran.append, "first")
            use.cleanup(later, "second")
            if ending == "raises":
                raise OSError
            if ending != "returns":
                await asyncio.sleep(30)

    async def main():
        task = asyncio.create_task(body())
        await asyncio.sleep(0.01)
        if ending == "is cancelled":
            task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        return type(result)

    expected = {"returns": type(None), "raises": OSError, "times out": GuardTimeoutError}
    assert asyncio.run(main()) is expected.get(ending, asyncio.CancelledError)
    assert ran == ["second", "first"]


def test_a_clean_up_that_fails_gives_the_place_back_all_the_same(name):
    """And does not keep the others from running."""
    ran = []
    limited = guard(name, concurrency=1, patience=0)

    with pytest.raises(OSError), limited as use:
        use.cleanup(ran.append, 1)
        use.cleanup(os.stat, "/nonexistent")

    with limited:
        pass
    assert ran == [1]


# --- using it -------------------------------------------------------------------------------------------------------


def test_a_decorated_function_is_guarded_call_by_call(own_name):
    """Sync and async; its own_name and signature stay."""
    limited = guard(own_name)

    @limited
    def double(number):
        """Twice."""
        return number * 2

    @limited
    async def triple(number):
        return number * 3

    assert (double(4), asyncio.run(triple(5)), double.__name__, double.__doc__) == (8, 15, "double", "Twice.")
    assert asyncio.iscoroutinefunction(triple)
    assert span(own_name)["count"] == 2


def test_generators_are_refused(name):
    """Their body runs between the steps of others."""

    def steps():
        yield

    async def async_steps():
        yield

    for function in (steps, async_steps):
        with pytest.raises(TypeError, match="generator"):
            guard(name)(function)


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"timeout": "5 apples"}, {"memory_growth": "5s"}, {"patience": "1MB"}]
)
def test_limits_that_are_none_are_refused(name, wrong):
    """When the guard is made, not when it is used."""
    with pytest.raises(ValueError):
        guard(name, **wrong)


def test_an_async_generator_that_is_closed_elsewhere_gives_its_place_back(name):
    """The loop closes abandoned ones in a task of its own."""
    limited = guard(name, concurrency=1, patience=1)

    async def rows():
        async with limited:
            yield 1
            yield 2

    async def main():
        async for row in rows():
            assert row == 1
            break
        async with limited:
            return "free"

    assert asyncio.run(main()) == "free"


def test_a_forked_child_has_its_own_limits(name):
    """A use of the parent's takes no place in the child, its end there gives none back, and time is watched."""
    limited = guard(name, concurrency=1, patience=0, timeout=0.1)

    def child():
        try:
            with limited:
                time.sleep(0.3)
        except GuardTimeoutError:
            return 7
        return 1

    with limited:
        pid = os.fork()
        if not pid:
            os._exit(child())
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 7


def test_errors_are_one_family():
    """`except GuardError` is enough; each says what happened in words."""
    with pytest.raises(GuardError) as caught, guard("words", timeout=0.02):
        time.sleep(0.1)

    assert issubclass(GuardMemoryError, GuardError)
    assert str(caught.value).startswith("words: ran for ")
    assert str(caught.value).endswith(", limit 20 ms")


def test_the_process_of_the_user_stays_small():
    """Nothing but the standard library and what is in the package for it; no thread before the first use."""
    script = """
        import sys, threading
        import tracekit.guard
        guard = tracekit.guard.guard("x")
        foreign = {"numpy", "psutil", "click", "sqlite3"} & set(sys.modules)
        rooms = {name for name in sys.modules if name.startswith("tracekit.") and name.count(".") == 1}
        print(sorted(foreign), sorted(rooms), threading.active_count())
    """

    words = " ".join(in_child(script))

    assert words == "[] ['tracekit.guard', 'tracekit.probe', 'tracekit.units'] 1"
