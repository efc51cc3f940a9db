"""
A program whose threads stay where they are, each in calls of another kind. It runs on CPython 3.8 and newer.

It writes a line when all of them are there. `python still.py span`: one thread is in a span of tracekit.
"""

import asyncio
import functools
import json
import select
import sys
import threading
import time

there = threading.Semaphore(0)


def stay(*_, **__):
    there.release()
    time.sleep(1000)


class Thing:
    def method(self):
        return self.attribute

    @property
    def attribute(self):
        return [stay() for _ in range(2)]


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@decorated
def by_c():
    return sorted([2, 1], key=lambda number: stay())


def recursion(depth=200):
    return recursion(depth - 1) if depth else stay()


def generator():
    yield from (stay() for _ in range(1))


def library():
    return json.loads('{"a": {}}', object_hook=stay)


async def coroutine():
    async def inner():
        stay()

    await inner()


def loop():
    asyncio.run(coroutine())


def selecting():
    there.release()
    select.select([], [], [])


def in_span():
    import tracekit

    with tracekit.span("outer"), tracekit.span("evaluation"):
        stay()


def main():
    ways = [Thing().method, by_c, recursion, lambda: list(generator()), library, loop, selecting]
    if sys.argv[1:] == ["span"]:
        ways = [in_span]
    for way in ways:
        threading.Thread(target=way, daemon=True).start()
    for _ in ways:
        there.acquire()
    time.sleep(0.1)  # until the last one sleeps
    print("there", flush=True)
    time.sleep(1000)


if __name__ == "__main__":
    main()
