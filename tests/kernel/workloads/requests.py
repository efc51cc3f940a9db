"""
Spans that work and wait in functions that are known. Arguments: where tracekit is, name of the process, TRUTH.

The truth: "cpu_ns" of functions, how long each slow request took ("slow_ns"), and waited ("waited_ns").
"""

import json
import os
import select
import sys
import time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from tracekit.probe import span

REQUESTS, SLOW_ONE_OF = 240, 12
NESTED = 8
cpu_ns = {}
facts = {"slow_ns": [], "waited_ns": []}


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(3000))


def work(function, seconds):
    began = time.thread_time_ns()
    function(seconds)
    cpu_ns[function.__name__] = cpu_ns.get(function.__name__, 0) + time.thread_time_ns() - began


def quick(seconds):
    burn(seconds)


def slow(seconds):
    burn(seconds)
    waits_for_long()


def waits_for_long():
    began = time.monotonic_ns()
    time.sleep(0.0317)
    facts["waited_ns"].append(time.monotonic_ns() - began)


def nested(seconds):
    burn(seconds)
    time.sleep(0.0023)


def around(seconds):
    burn(seconds)


def stay():
    """Wait for the word to begin, where the walkers meet it often."""
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        pass


def main():
    for i in range(REQUESTS):
        began = time.monotonic_ns()
        with span("request"):
            if i % SLOW_ONE_OF:
                work(quick, 0.0023)
            else:
                work(slow, 0.0117)
        if not i % SLOW_ONE_OF:
            facts["slow_ns"].append(time.monotonic_ns() - began)
    for _ in range(NESTED):
        with span("outer"):
            work(around, 0.0107)
            for _ in range(3):
                with span("inner"):
                    work(nested, 0.0071)
    span("endless").__enter__()
    burn(0.05)


if __name__ == "__main__":
    Path("/proc/self/comm").write_text(sys.argv[2])
    with span("warm up"):
        Path(sys.argv[3] + ".ready").touch()
    stay()
    main()
    Path(sys.argv[3]).write_text(json.dumps({**facts, "cpu_ns": cpu_ns}))
    time.sleep(0.15)  # names are read ten times a second
    os._exit(0)
