"""
Spans that wait for a GPU, in a driver that is a stub. Arguments: repository, the driver, name of the process, a file.

Each computes for 3 ms. One in ten computes for 9 ms more, sleeps in the driver for 30 ms, spins in it for 20 ms of
CPU time, and sleeps elsewhere for 15 ms. When it is ready it makes the file with `.ready` behind and waits for a line.
"""

import ctypes
import sys
import time
from pathlib import Path

REPOSITORY, DRIVER, NAME, FILE = sys.argv[1:]
sys.path.insert(0, REPOSITORY)
from tracekit.probe import span  # noqa: E402

MS = 10**6
driver = ctypes.CDLL(DRIVER)
for call in (driver.cuCtxSynchronize, driver.cuStreamSynchronize):
    call.argtypes = [ctypes.c_longlong]


def compute(ns):
    end = time.thread_time_ns() + ns
    while time.thread_time_ns() < end:
        sum(range(2000))


def rest(ns):
    time.sleep(ns / 1e9)


def infer(slow):
    with span("inference"):
        compute((3 + 9 * slow) * MS)
        if slow:
            driver.cuStreamSynchronize(30 * MS)
            driver.cuCtxSynchronize(20 * MS)
            rest(15 * MS)


Path("/proc/self/comm").write_text(NAME)
Path(FILE + ".ready").touch()
sys.stdin.readline()
for _ in range(200):  # a program is known to the walkers some time after it was first seen
    compute(MS)
    rest(20 * MS)
for number in range(300):
    infer(number % 10 == 9)
