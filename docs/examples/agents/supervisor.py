"""
A small agent system to look at: starts evaluators and agents until its time is over.

Evaluators are forked and stay (multiprocessing); agents are programs of their own and
come and go (subprocess). All of them talk through lists of a Redis server, and every
result is committed to a SQLite file. Spans say which work is whose.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import evaluator
from names import be_called
from redis_lists import RedisLists

from tracekit import gauge, span

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENTS_PER_SECOND = 3
EVALUATORS = 2
QUEUE_DEPTH = gauge("queue.depth")


def main() -> None:
    """Run for --seconds, then leave nothing behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis-port", type=int, required=True, help="of a Redis server on this machine")
    parser.add_argument("--folder", type=Path, required=True, help="where results and transcripts go")
    parser.add_argument("--seconds", type=float, default=60, help="how long to run")
    options = parser.parse_args()
    be_called("supervisor")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        redis = RedisLists(options.redis_port)
    except ConnectionError as error:
        sys.exit(f"supervisor: no Redis server on port {options.redis_port}: {error.strerror}")
    with evaluators(options.redis_port, options.folder / "results.db"):
        program = Path(__file__).with_name("agent.py")
        agent = [sys.executable, str(program), str(options.redis_port), str(options.folder / "transcripts")]
        failed = spawn(agent, redis, time.monotonic() + options.seconds)
    print(f"supervisor: {failed} agents gave up", file=sys.stderr)  # noqa: T201


@contextmanager
def evaluators(redis_port: int, database: Path) -> Iterator[None]:
    """Keep EVALUATORS forked processes while the block runs."""
    evaluator.create(database)
    forking = multiprocessing.get_context("fork")
    pool = [forking.Process(target=evaluator.work, args=(redis_port, database)) for _ in range(EVALUATORS)]
    for process in pool:
        process.start()
    try:
        yield
    finally:
        for process in pool:
            process.terminate()
            process.join()


def spawn(agent: list[str], redis: RedisLists, until: float) -> int:
    """Start *agent* NUMBER at an even pace, collect those that ended; return how many failed."""
    running: list[subprocess.Popen[bytes]] = []
    codes: list[int] = []
    number = 0
    try:
        while time.monotonic() < until:
            number += 1
            with span("agent.spawn"):
                running.append(subprocess.Popen([*agent, str(number)]))
            watch(redis, time.monotonic() + 1 / AGENTS_PER_SECOND)
            codes += [process.returncode for process in running if process.poll() is not None]
            running = [process for process in running if process.returncode is None]
    finally:
        for process in running:
            process.terminate()
            process.wait()
    return sum(code != 0 for code in codes)


def watch(redis: RedisLists, until: float) -> None:
    """Wait, and keep the gauge of the queue up to date."""
    while time.monotonic() < until:
        QUEUE_DEPTH.set(redis.length("candidates"))
        time.sleep(0.02)


if __name__ == "__main__":
    main()
