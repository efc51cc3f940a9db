"""Sampling a tree of processes: what a recording would keep, programs that do as told, and a /proc that is made up."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from tracekit.capture.resources import Resources


class Recorder:
    """Samples a tree and adds up what it is given, as a recording would."""

    def __init__(self, tree, root=Path("/"), budget_ns=10**10):
        self.resources = Resources(tree, os.getpid(), root, budget_ns)
        self.totals = {}
        self.last = {}
        self.sample()

    def sample(self):
        self.last = {}
        for series, value in self.resources.sample():
            self.last[series.metric] = value
            if series.kind == "counter":
                self.totals[series.metric] = self.totals.get(series.metric, 0) + value
        return self


@contextmanager
def program(text):
    """Run a Python program that is told to go on by a line, and tells where it is by one."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    process = subprocess.Popen([sys.executable, "-S", "-c", PRELUDE + dedent(text)], **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def said(process):
    return process.stdout.readline().strip()


def go_on(process):
    process.stdin.write("\n")


PRELUDE = """
import os, signal, sys, time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def write(path, size=5_000_000):
    # to the disk; tells how much of it the kernel counted: nothing, where the folder is in memory
    with open(path, "wb") as file:
        file.write(b"x" * size)
        file.flush()
        os.fsync(file.fileno())
    return int(open("/proc/thread-self/io").read().split("write_bytes: ")[1].split()[0])

def say(text=""):
    print(text, flush=True)

def wait():
    sys.stdin.readline()
"""


def put(root, tgid, *, start=1, io=(0, 0), threads=1):
    """Write the files of a process into *root*; all its I/O is that of its first thread."""
    directory = root / "proc" / str(tgid)
    (directory / "fd").mkdir(parents=True, exist_ok=True)
    thread = directory / "task" / str(tgid)
    thread.mkdir(parents=True, exist_ok=True)
    fields = ["S", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, threads, 0, start, 0, 0]
    (directory / "stat").write_text(f"{tgid} (a) {' '.join(map(str, fields))}\n")
    (directory / "statm").write_text("9 3 0 0 0 0 0\n")
    names = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes")
    values = (0, 0, 0, 0, *io, 0)
    (thread / "io").write_text("".join(f"{name}: {value}\n" for name, value in zip(names, values, strict=True)))
    return directory


def machine(root):
    """A root with the files of the collector and nothing else."""
    put(root, os.getpid())
    return root
