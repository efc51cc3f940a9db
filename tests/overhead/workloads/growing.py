"""
A target of a given size that does next to nothing: its parts wake up in turn, a hundred a second of all together.

usage: growing.py processes|threads|spans NUMBER

Prints a line when all of it is there, and ends with its standard input. Processes are forked, so that thousands fit.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

WAKES_A_SECOND = 100


def processes(number: int, period_s: float) -> None:
    for _ in range(number - 1):
        if not os.fork():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            while os.getppid() == PARENT:
                time.sleep(period_s)
            os._exit(0)


def threads(number: int, period_s: float) -> None:
    threading.stack_size(64 << 10)

    def wake() -> None:
        while True:
            time.sleep(period_s)

    for _ in range(number - 1):
        threading.Thread(target=wake, daemon=True).start()


def spans(number: int, period_s: float) -> None:
    from tracekit import span

    def work() -> None:
        while True:
            for name in names:
                with span(name):
                    pass
            time.sleep(period_s)

    names = [f"kind-{place}" for place in range(number)]
    threading.Thread(target=work, daemon=True).start()


if __name__ == "__main__":
    PARENT = os.getpid()
    size = int(sys.argv[2])
    {"processes": processes, "threads": threads, "spans": spans}[sys.argv[1]](size, max(1.0, size / WAKES_A_SECOND))
    print("ready", flush=True)
    sys.stdin.read()
