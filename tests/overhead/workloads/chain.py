"""
A program that computes at the end of a chain of calls: chain.py DEPTH CPU FILE.

DEPTH Python frames, of which all but the innermost stand still; FILE, 16 bytes, always says how many rounds it has
made and when (CLOCK_MONOTONIC, ns).
"""

import mmap
import os
import struct
import sys
import time
from pathlib import Path

DEPTH = int(sys.argv[1])
ROUND = 200


def leaf(total):
    for i in range(20):
        total = total * 31 + i & 0xFFFF
    return total


def work():
    total = rounds = 0
    while True:
        for _ in range(ROUND):
            total = leaf(total)
        rounds += 1
        struct.pack_into("=qq", shared, 0, rounds, time.perf_counter_ns())


LEVELS = [f"level_{number}" for number in range(DEPTH - 3)]
for caller, called in zip(LEVELS, [*LEVELS[1:], "work"], strict=True):
    exec(compile(f"def {caller}():\n    {called}()\n", __file__, "exec"))

os.sched_setaffinity(0, {int(sys.argv[2])})
with Path(sys.argv[3]).open("r+b") as file:
    shared = mmap.mmap(file.fileno(), 16)
globals()[LEVELS[0]]()
