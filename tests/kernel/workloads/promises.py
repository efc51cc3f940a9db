"""
A training with evaluations beside it, agents and lanes: what the presets speak of, in some seconds. Argument: a file.

When it is ready it makes the file with `.ready` behind and waits for a line.
"""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY, FILE = sys.argv[1:]
sys.path.insert(0, REPOSITORY)
from tracekit.probe import Kind, counter, span  # noqa: E402

SECONDS = 8
QUERY = Kind("db.query", system="sqlite", operation="INSERT")
LANES = [Kind("lane", lane=lane) for lane in ("docs", "standard", "heavy")]


def evaluate(until):
    """Half of the time there is an evaluation."""
    while time.monotonic() < until:
        with span("evaluation"), span("game"):
            time.sleep(0.4)
        time.sleep(0.4)


def talk(until):
    """Messages, transactions and lanes, and processes that start."""
    messages, transactions = counter("messages"), counter("transactions")
    while time.monotonic() < until:
        for _ in range(50):
            with span("message"):
                messages.add(1)
            with QUERY():
                transactions.add(1)
        for lane in LANES:
            with lane():
                time.sleep(0.001)
        subprocess.run(["/bin/sleep", "0.001"], check=True)  # its first wait is when it is ready
        time.sleep(0.01)


def main():
    Path(FILE + ".ready").touch()
    sys.stdin.readline()
    until = time.monotonic() + SECONDS
    forking = multiprocessing.get_context("fork")
    others = [forking.Process(target=each, args=(until,)) for each in (evaluate, talk)]
    for other in others:
        other.start()
    while time.monotonic() < until:
        with span("training.step"):
            time.sleep(0.005)
    for other in others:
        other.join()
    time.sleep(0.5)  # what they counted goes with them: the collector needs a moment


main()
