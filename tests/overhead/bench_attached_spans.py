"""
What reading spans from outside costs the program that has them: an attached tracekit against none, A B A B.

Each number is the smallest of many short windows, which noise of the machine does not reach, as a ratio to the
same program untraced. `python -m tests.overhead.bench_attached_spans`, as root.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROUNDS = 9
PROGRAM = """
import os, sys, time
from contextlib import nullcontext
from tracekit.probe import span

def calls(n, call, *arguments):
    t = time.perf_counter_ns()
    for _ in range(n):
        call(*arguments)
    return (time.perf_counter_ns() - t) / n

def smallest(windows, measure, *arguments):
    return min(measure(*arguments) for _ in range(windows))

def ping_pong(spanned):
    os.sched_setaffinity(0, {0})
    (r1, w1), (r2, w2) = os.pipe(), os.pipe()
    if not os.fork():
        with span("pong") if spanned else nullcontext():
            while os.read(r1, 1) != b"q":
                os.write(w2, b"x")
        os._exit(0)
    def turn():
        os.write(w1, b"x")
        os.read(r2, 1)
    with span("ping") if spanned else nullcontext():
        took = smallest(80, calls, 300, turn)
    os.write(w1, b"q")
    os.wait()
    return took

open(sys.argv[1], "w").close()
sys.stdin.readline()
nothing = smallest(80, calls, 3000, id, None)
print("getppid", smallest(80, calls, 3000, os.getppid) - nothing)
with span("outer"):
    print("getppid in a span", smallest(80, calls, 3000, os.getppid) - nothing)
    print("failing access in a span", smallest(80, calls, 1000, os.access, "/missing", 0) - nothing)
print("failing access", smallest(80, calls, 1000, os.access, "/missing", 0) - nothing)
print("ping-pong", ping_pong(False))
print("ping-pong in a span", ping_pong(True))
"""
VARIANTS = {"untraced": None, "--no-errors": ["--no-errors"], "default": []}


def measure(folder: Path, options: list[str] | None) -> dict[str, float]:
    """Run the program once, attached to with *options*, and return ns by row."""
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-c", PROGRAM, str(ready)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        while not ready.exists():
            assert program.poll() is None, "the program did not start"
        tracer = _attach(program.pid, folder, options) if options is not None else None
        out, _ = program.communicate("go\n")
        if tracer:
            tracer.communicate()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in out.splitlines())}


def _attach(pid: int, folder: Path, options: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tracekit", "attach", "-p", str(pid), "-f", "-o", str(folder / "run.tk"), *options]
    tracer = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr
    line = tracer.stderr.readline()
    assert "attached in" in line, line
    return tracer


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rounds = [{v: measure(folder, options) for v, options in VARIANTS.items()} for _ in range(ROUNDS)]
    bare = statistics.median(one["untraced"]["getppid"] for one in rounds)
    print(f"| {ROUNDS} rounds, median (min-max) | `--no-errors` | default |\n| --- | --- | --- |")
    for row in rounds[0]["untraced"]:
        cells = [_ratio([one[v][row] / one["untraced"][row] for one in rounds]) for v in ("--no-errors", "default")]
        print(f"| {row} | {cells[0]} | {cells[1]} |")
    row = "failing access in a span"
    added = [one["default"][row] - one["untraced"][row] for one in rounds]
    print(f"\nA failing call in a span costs {statistics.median(added) / bare:.2f} bare getppid more.")
    return 0


def _ratio(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
