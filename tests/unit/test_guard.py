"""Guards around real bodies: that yield, that block, that grow, that fail, in tasks, threads and child processes."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tracekit import probe
from tracekit.guard import (
    Breaker,
    GuardBusyError,
    GuardError,
    GuardMemoryError,
    GuardOpenError,
    GuardTimeoutError,
    guard,
)

ROOT = Path(__file__).parents[2]
NUMBERS = iter(range(10**6))
"""The board of a process remembers names: each test has its own."""


@pytest.fixture
def name():
    return f"evaluation-{next(NUMBERS)}"


def violations(name):
    counters = probe.snapshot()["counters"]
    return {
        each["labels"]["limit"]: each["value"]
        for each in counters
        if each["name"] == "guard.violations" and each["labels"]["guard"] == name and each["value"]
    }


def span(name):
    return next(each for each in probe.snapshot()["spans"] if each["name"] == name)


class Told(list):
    """Violations, and when and in which thread they were told."""

    def __call__(self, violation):
        self.append((violation, time.monotonic(), threading.current_thread().name))

    @property
    def limits(self):
        return [violation.limit for violation, *_ in self]


# --- time -----------------------------------------------------------------------------------------------------------


def test_a_body_that_yields_is_cancelled_in_time(name):
    """It ends when the limit is hit, not when it would have; the error is a TimeoutError."""
    limited = guard(name, timeout=0.1)

    async def main():
        async with limited:
            await asyncio.sleep(30)

    begin = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main())

    assert 0.1 <= time.monotonic() - begin < 2
    assert isinstance(caught.value, GuardTimeoutError)
    assert (caught.value.violation.guard, caught.value.violation.limit) == (name, "time")
    assert caught.value.violation.value >= caught.value.violation.allowed == 100_000_000
    assert violations(name) == {"time": 1}
    assert span(name)["errors"] == {"GuardTimeoutError": 1}


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


def test_a_use_that_keeps_the_limits_is_silent(name):
    """Its value is returned; nothing is counted."""

    @guard(name, timeout=5)
    async def answer():
        await asyncio.sleep(0.01)
        return 42

    assert asyncio.run(answer()) == 42
    assert violations(name) == {}
    assert span(name)["count"] == 1


def test_without_enforcing_nothing_is_cancelled_nor_raised(name):
    """It is told and counted, once."""
    told = Told()
    limited = guard(name, timeout=0.05, enforce=False, on_violation=told)

    async def main():
        async with limited:
            await asyncio.sleep(0.3)
            return "done"

    assert asyncio.run(main()) == "done"
    assert told.limits == ["time"]
    assert violations(name) == {"time": 1}


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


# --- concurrency ----------------------------------------------------------------------------------------------------


def test_tasks_and_threads_share_the_limit(name):
    """Twelve of each with four places: never five at a time, and all have their turn."""
    limited = guard(name, concurrency=4)
    lock, now, most, done = threading.Lock(), 0, 0, 0

    def change(step):
        nonlocal now, most, done
        with lock:
            now += step
            most = max(most, now)
            done += step < 0

    def in_thread():
        with limited:
            change(1)
            time.sleep(0.01)
            change(-1)

    async def in_task():
        async with limited:
            change(1)
            await asyncio.sleep(0.01)
            change(-1)

    async def tasks():
        await asyncio.gather(*(in_task() for _ in range(12)))

    threads = [threading.Thread(target=in_thread) for _ in range(12)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()

    assert most == 4
    assert done == 24
    assert violations(name) == {}


def test_patience_ends(name):
    """Who waits longer is refused, told and counted, in a task and in a thread."""
    told = Told()
    limited = guard(name, concurrency=1, patience="50ms", on_violation=told)

    async def one_more():
        async with limited:
            pass

    with limited:
        with pytest.raises(GuardBusyError) as caught:
            asyncio.run(one_more())
        with pytest.raises(GuardBusyError), limited:
            pass

    assert caught.value.violation.value >= 50_000_000
    assert told.limits == ["concurrency", "concurrency"]
    assert violations(name) == {"concurrency": 2}
    with limited:  # nobody kept the place
        pass


def test_a_loop_is_never_made_to_wait(name):
    """`with` in a coroutine would stop the very tasks that could give their place back: refused at once."""
    limited = guard(name, concurrency=1)

    async def main():
        async with limited:
            with limited:
                pass

    with pytest.raises(GuardBusyError):
        asyncio.run(main())


def test_a_waiter_that_is_cancelled_gives_its_place_on(name):
    """Whether before its turn or in the moment of it."""
    limited = guard(name, concurrency=1)

    async def use(order, number):
        async with limited:
            order.append(number)
            await asyncio.sleep(0)

    async def main():
        order = []
        async with limited:
            waiters = [asyncio.create_task(use(order, number)) for number in range(3)]
            await asyncio.sleep(0.01)
            waiters[0].cancel()
        waiters[1].cancel()  # it has been given the place, and has not run
        await asyncio.gather(*waiters, return_exceptions=True)
        return order

    assert asyncio.run(main()) == [2]


def test_a_waiter_of_a_closed_loop_is_passed_over(name):
    """Its future will never be looked at."""
    limited = guard(name, concurrency=1)

    async def wait():
        async with limited:
            pass

    with limited:
        loop = asyncio.new_event_loop()
        task = loop.create_task(wait())
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        loop.close()

    with limited:
        pass
    del task
    gc.collect()


# --- memory ---------------------------------------------------------------------------------------------------------


def in_child(program):
    """Run a program of its own: memory that a test gives back may stay with its process. Python 3.12 warns of forks."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


GROWING = """
    import os, subprocess, sys, time
    from tracekit.guard import GuardMemoryError, guard

    def use(body, limit="60MB"):
        try:
            with guard("grows", memory_growth=limit) as use:
                held = body()
                until = time.monotonic() + 2
                while not use.violation and time.monotonic() < until:
                    time.sleep(0.01)
                stop(held)
        except GuardMemoryError as error:
            print(error.violation.value // 10**6)
        else:
            print("fine")

    def stop(held):
        if isinstance(held, subprocess.Popen):
            held.kill()
            held.wait()
        elif isinstance(held, int):
            os.kill(held, 9)
            os.waitpid(held, 0)

    def child(size):
        text = f"held = b'x' * {size}; print(flush=True); import time; time.sleep(60)"
        return subprocess.Popen([sys.executable, "-S", "-c", text], stdout=subprocess.PIPE)

    def fork():
        pid = os.fork()
        if not pid:
            time.sleep(60)
        return pid
"""


def test_growth_of_the_process_is_seen():
    """100 MB with a limit of 60; and not 20 MB."""
    grown, fine = in_child(GROWING + "\n    use(lambda: b'x' * 100_000_000)\n    use(lambda: b'x' * 20_000_000)")

    assert 95 <= int(grown) <= 115
    assert fine == "fine"


def test_growth_of_a_child_is_seen():
    """A child is of the tree from its start on; one that was there before counts by what it grows."""
    before = """
    old = child(100_000_000)
    old.stdout.readline()  # it holds them
    use(lambda: None)
    stop(old)
    use(lambda: child(100_000_000))
    """

    fine, grown = in_child(GROWING + before)

    assert fine == "fine"
    assert 60 <= int(grown) <= 125  # it may be seen while it still grows


def test_what_a_forked_child_shares_is_no_growth():
    """Its RSS counts all pages of its parent again; nothing was allocated."""
    shared = """
    held = bytearray(os.urandom(1)) * 200_000_000
    use(fork)
    """

    assert in_child(GROWING + shared) == ["fine"]


def test_an_async_body_that_grows_is_cancelled():
    """As with time."""
    program = """
    import asyncio
    from tracekit.guard import GuardMemoryError, guard

    async def main():
        async with guard("grows", memory_growth="50MB"):
            held = b"x" * 100_000_000
            await asyncio.sleep(30)

    try:
        asyncio.run(main())
    except GuardMemoryError:
        print("cancelled")
    """

    assert in_child(program) == ["cancelled"]


# --- breaker --------------------------------------------------------------------------------------------------------


def test_a_breaker_opens_tries_and_closes(name):
    """Three failures in a row; then nothing begins; then one may, and closes it."""
    breaker = Breaker(failures=3, cool_down=0.2)
    limited = guard(name, breaker=breaker)

    def fail():
        with limited:
            raise OSError

    for _ in range(3):
        with pytest.raises(OSError):
            fail()
    with pytest.raises(GuardOpenError):
        fail()
    opened = breaker.state
    time.sleep(0.25)
    half = breaker.state
    with limited, pytest.raises(GuardOpenError), limited:
        pass

    assert (opened, half, breaker.state) == ("open", "half-open", "closed")
    assert violations(name) == {"breaker": 2}


def test_a_try_that_fails_opens_it_again(name):
    """And the cool-down begins anew."""
    breaker = Breaker(failures=1, cool_down=0.1)
    limited = guard(name, breaker=breaker)

    for _ in range(2):
        with pytest.raises(OSError), limited:
            raise OSError
        assert breaker.state == "open"
        time.sleep(0.15)

    assert breaker.state == "half-open"


def test_a_success_in_between_starts_the_count_again(name):
    """In a row means in a row; being cancelled is neither."""
    breaker = Breaker(failures=2)
    limited = guard(name, breaker=breaker)

    for error in (OSError, None, OSError, KeyboardInterrupt):
        with suppress(OSError, KeyboardInterrupt), limited:
            if error:
                raise error

    assert (breaker.state, breaker.failures) == ("closed", 1)


def test_who_began_before_it_opened_does_not_close_it(name):
    """Nor does it end the try of another: only that one's result counts."""
    breaker = Breaker(failures=1, cool_down=0.1)
    limited = guard(name, breaker=breaker)

    def fail():
        with limited:
            raise OSError

    async def slow(seconds):
        async with limited:
            await asyncio.sleep(seconds)

    async def main():
        early = [asyncio.create_task(slow(seconds)) for seconds in (0.02, 0.2)]
        await asyncio.sleep(0.01)
        with pytest.raises(OSError):
            fail()
        await early[0]
        after_success = breaker.state
        await asyncio.sleep(0.1)
        trial = asyncio.create_task(slow(0.2))
        await early[1]
        during_trial = breaker.lets_in()
        await trial
        return after_success, during_trial, breaker.state

    assert asyncio.run(main()) == ("open", False, "closed")


def test_a_use_that_cannot_begin_gives_its_place_back(name, monkeypatch):
    """No more threads for the watcher, no /proc: the next one is not shut out."""
    limited = guard(name, concurrency=1, patience=0)
    with monkeypatch.context() as broken:
        broken.setattr("tracekit.guard.use.WATCHER", None)
        with pytest.raises(AttributeError), limited:
            pass

    with limited:
        pass


def test_who_waited_while_it_opened_does_not_begin(name):
    """The breaker has the last word, and the place is given back."""
    breaker = Breaker(failures=1, cool_down=60)
    limited = guard(name, concurrency=1, breaker=breaker)

    async def fail():
        async with limited:
            await asyncio.sleep(0.01)
            raise OSError

    async def main():
        return await asyncio.gather(fail(), fail(), fail(), return_exceptions=True)

    assert [type(each) for each in asyncio.run(main())] == [OSError, GuardOpenError, GuardOpenError]
    assert limited._places.take()


def test_a_timeout_is_a_failure(name):
    """What hangs opens it too."""
    breaker = Breaker(failures=1)

    with pytest.raises(GuardTimeoutError), guard(name, timeout=0.01, breaker=breaker):
        time.sleep(0.1)

    assert breaker.state == "open"


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


def test_a_decorated_function_is_guarded_call_by_call(name):
    """Sync and async; its name and signature stay."""
    limited = guard(name)

    @limited
    def double(number):
        """Twice."""
        return number * 2

    @limited
    async def triple(number):
        return number * 3

    assert (double(4), asyncio.run(triple(5)), double.__name__, double.__doc__) == (8, 15, "double", "Twice.")
    assert asyncio.iscoroutinefunction(triple)
    assert span(name)["count"] == 2


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
