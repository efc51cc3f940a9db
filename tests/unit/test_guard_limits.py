"""Places that tasks and threads share, growth by real allocations, and breakers that open, try and close."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import suppress

import pytest

from tests.unit.guarded import Told, in_child, name, own_name, violations
from tracekit.guard import (
    Breaker,
    GuardBusyError,
    GuardOpenError,
    GuardTimeoutError,
    guard,
)

__all__ = ["name", "own_name"]


# --- concurrency ----------------------------------------------------------------------------------------------------


def test_tasks_and_threads_share_the_limit(own_name):
    """Twelve of each with four places: never five at a time, and all have their turn."""
    limited = guard(own_name, concurrency=4)
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
    assert violations(own_name) == {}


def test_patience_ends(own_name):
    """Who waits longer is refused, told and counted, in a task and in a thread."""
    told = Told()
    limited = guard(own_name, concurrency=1, patience="50ms", on_violation=told)

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
    assert violations(own_name) == {"concurrency": 2}
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


def test_a_breaker_opens_tries_and_closes(own_name):
    """Three failures in a row; then nothing begins; then one may, and closes it."""
    breaker = Breaker(failures=3, cool_down=0.2)
    limited = guard(own_name, breaker=breaker)

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
    assert violations(own_name) == {"breaker": 2}


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
