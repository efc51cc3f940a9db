"""
Programs with the probe in them, run as processes of their own: with the extension, and without.

A program has `span`, `Kind`, `traced`, `mark`, `counter`, `gauge`, `snapshot`, and also `spans()`,
{name: its values}, `current()`, the name of the span that a reader outside would see, and
`tell(value)`, which is what `run` returns.
"""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("engine", ["c", "python"])
WITHOUT_EXTENSION = "import sys; sys.modules['tracekit.probe._probe'] = None\n"
FIRST = """
import asyncio, contextlib, contextvars, gc, json, os, sys, threading, time
from tracekit import Kind, counter, gauge, mark, snapshot, span, traced
from tests.unit.record_reader import current
def tell(value): print(json.dumps(value), flush=True)
def spans(): return {found["name"]: found for found in snapshot()["spans"]}
"""


def run(engine, program, first=FIRST, python=sys.executable, **options):
    """Return what the program told. Raises AssertionError if it fails or writes to standard error."""
    text = (WITHOUT_EXTENSION if engine == "python" else "") + first + dedent(program)
    options.setdefault("env", {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})
    done = subprocess.run([python, "-c", text], capture_output=True, text=True, timeout=60, check=False, **options)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.returncode}: {done.stderr}"
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None
