"""
Tasks of asyncio, all at once: each waits for its turn, hands something on, and sleeps once.

usage: tasks.py TASKS ROUNDS CPU
"""

from __future__ import annotations

import asyncio

from rounds import main


async def task(number: int, queue: asyncio.Queue[int]) -> None:
    await asyncio.sleep(0)
    queue.put_nowait(number)
    await asyncio.sleep(0.001)
    await queue.get()


async def all_of(count: int) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    await asyncio.gather(*(task(number, queue) for number in range(count)))


if __name__ == "__main__":
    main(lambda count: asyncio.run(all_of(count)))
