"""A semaphore that threads and event loops share."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Places:
    """
    So many places, given first come, first served.

    A place that is given back goes to the first who waits without being free in between, so nobody overtakes.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()

    def take(self) -> bool:
        """Take a place if one is free."""
        with self._lock:
            taken = self._free > 0
            self._free -= taken
            return taken

    def give(self) -> None:
        """Give a place back."""
        with self._lock:
            while self._queue:
                waiter = self._queue.popleft()
                if waiter.wake():
                    waiter.has_place = True
                    return
            self._free += 1

    def wait(self, seconds: float | None) -> bool:
        """Wait in this thread; None: for ever. Return whether there is a place."""
        waiter = _InThread()
        if self._takes_instead_of(waiter):
            return True
        try:
            waiter.sleep(seconds)
        except BaseException:  # KeyboardInterrupt
            self._give_up(waiter)
            raise
        return self._leave(waiter)

    async def wait_async(self, seconds: float | None) -> bool:
        """Wait in this task; None: for ever. Return whether there is a place."""
        waiter = _InTask()
        if self._takes_instead_of(waiter):
            return True
        try:
            await waiter.sleep(seconds)
        except BaseException:  # CancelledError
            self._give_up(waiter)
            raise
        return self._leave(waiter)

    def _takes_instead_of(self, waiter: _Waiter) -> bool:
        """Take a free place, or put *waiter* in the queue."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            self._queue.append(waiter)
            return False

    def _leave(self, waiter: _Waiter) -> bool:
        with self._lock:
            if not waiter.has_place and waiter in self._queue:  # not if its loop was closed
                self._queue.remove(waiter)
            return waiter.has_place

    def _give_up(self, waiter: _Waiter) -> None:
        if self._leave(waiter):
            self.give()


class _InThread:
    def __init__(self) -> None:
        self.has_place = False
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def sleep(self, seconds: float | None) -> None:
        self._asleep.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def wake(self) -> bool:
        self._asleep.release()
        return True


class _InTask:
    def __init__(self) -> None:
        self.has_place = False
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    async def sleep(self, seconds: float | None) -> None:
        await asyncio.wait([self._woken], timeout=seconds)

    def wake(self) -> bool:
        """Return False if its loop is closed: nobody waits any more."""
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            return False
        return True

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


_Waiter = _InThread | _InTask
