"""
What probes in client libraries cost those who call them, per call and per row.

Two copies of each library: tracekit finds one by its name, the other has a name that it does not know. Two
programs do the same with either, both traced, so that only the probes differ; a third, which is not traced, uses
the probed copy too. They take turns, and a cost is the median of the differences in a turn, of CPU time: a trap is
work of its caller. As root, on a quiet
machine: `python -m tests.overhead.bench_db_libraries [--rounds N] [--markdown docs/databases.md]`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import choices

from tests.kernel.lab import Tracer
from tests.overhead.bench_overhead import insert
from tests.overhead.table import machine
from tests.servers import postgresql

MARKS = "<!-- bench db libraries: begin -->\n", "<!-- bench db libraries: end -->\n"
LIBRARIES = ("libsqlite3.so.0", "libpq.so.5")
SYSTEM = Path("/usr/lib/x86_64-linux-gnu")
PYTHON = "/usr/bin/python3"
ROWS = 1000
WORKER = f"""
import ctypes, sqlite3, sys, time
db = sqlite3.connect(":memory:")
db.execute("create table t (a)")
db.executemany("insert into t values (?)", [(n,) for n in range({ROWS})])
db.commit()
pq = ctypes.CDLL("libpq.so.5")
pq.PQconnectdb.restype = pq.PQexec.restype = ctypes.c_void_p
pq.PQclear.argtypes = [ctypes.c_void_p]
pq.PQexec.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
server = pq.PQconnectdb(sys.argv[1].encode())
def commit():
    db.execute("insert into t values (0)")
    db.rollback()
works = {{
    "point": (lambda: db.execute("select 1").fetchone(), 5000),
    "scan": (lambda: db.execute("select a from t").fetchall(), 50),
    "transaction": (commit, 1000),
    "pq": (lambda: pq.PQclear(pq.PQexec(server, b"select 1")), 300),
}}
print("ready", flush=True)
for line in sys.stdin:
    work, times = works[line.strip()]
    start = time.thread_time_ns()
    for _ in range(times): work()
    print((time.thread_time_ns() - start) / times, flush=True)
"""
STRANGER = """
import ctypes, sys
ctypes.CDLL("libsqlite3.so.0")
print("ready", flush=True)
sys.stdin.read()
"""
WORKS = {
    "point": "`sqlite3`: `select 1`, prepared before",
    "scan": f"`sqlite3`: a scan of {ROWS} rows",
    "transaction": "`sqlite3`: BEGIN, INSERT, ROLLBACK",
    "pq": "libpq: `PQexec` of `select 1`, Unix socket",
}


@dataclass
class Costs:
    """Of one work, ns: what it takes without probes, and what they add; of each turn."""

    bare: list[float] = field(default_factory=list)
    traced: list[float] = field(default_factory=list)
    bystander: list[float] = field(default_factory=list)


class Worker:
    """A program that does a work when told to, and says how long it took."""

    def __init__(self, libraries: Path, server: str, code: str = WORKER) -> None:
        command = ["taskset", "-c", "1", PYTHON, "-c", code, server]
        environment = {"LD_LIBRARY_PATH": str(libraries), "PATH": "/usr/bin:/bin"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self._answer()

    def ns(self, work: str) -> float:
        """Return how long it takes to do *work* once."""
        assert self.process.stdin
        self.process.stdin.write(work + "\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise SystemExit("bench: a worker failed")
        return answer

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def copies(folder: Path) -> tuple[Path, Path]:
    """Return folders with copies of the libraries: with names that are known, and not."""
    known, unknown = folder / "known", folder / "unknown"
    for place in (known, unknown):
        place.mkdir()
        for name in LIBRARIES:
            real = place / name if place == known else place / f"{name}.copy"
            shutil.copy(SYSTEM / name, real)
            if real.name != name:
                (place / name).symlink_to(real)  # /proc/PID/maps has the name of the file
    return known, unknown


def measure(rounds: int, *, rows: bool) -> dict[str, Costs]:
    """Return the costs of each work; *rows*: where another program is traced too that steps through rows itself."""
    results = {work: Costs() for work in WORKS}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder, postgresql() as server:
        known, unknown = copies(Path(folder))
        where = f"host={Path(server.path).parent} port={server.port} user=postgres dbname=postgres"
        probed, bare, bystander = (_started(stack, place, where) for place in (known, unknown, known))
        targets = [probed.process.pid, bare.process.pid]
        if rows:
            targets.append(_started(stack, known, where, STRANGER).process.pid)
        pids = ",".join(map(str, targets))
        tracer = Tracer(Path(folder), "attach", "-p", pids, "--db-uprobes", "-o", str(Path(folder) / "run.tk"))
        stack.callback(tracer.process.communicate)
        stack.callback(tracer.process.kill)
        tracer.wait_attached()
        for turn in range(rounds + 1):
            for work, costs in results.items():
                taken = bare.ns(work), probed.ns(work), bystander.ns(work)
                if turn:  # the first one warms up
                    costs.bare.append(taken[0])
                    costs.traced.append(taken[1] - taken[0])
                    costs.bystander.append(taken[2] - taken[0])
    return results


def _started(stack: ExitStack, libraries: Path, where: str, code: str = WORKER) -> Worker:
    worker = Worker(libraries, where, code)
    stack.callback(worker.end)
    return worker


def interval(values: list[float]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the median."""
    medians = sorted(statistics.median(choices(values, k=len(values))) for _ in range(1000))
    return medians[25], medians[975]


def cell(values: list[float]) -> str:
    """Return a cost in µs, with its interval."""
    low, high = interval(values)
    return f"{statistics.median(values) / 1000:.1f} ({low / 1000:.1f} to {high / 1000:.1f})"


def table(python: dict[str, Costs], others: dict[str, Costs]) -> str:
    """Return the costs as Markdown."""
    lines = [
        f"{machine()}; µs of CPU time of the caller, medians with 95 % intervals.",
        "",
        "| a call | takes | + traced | + not traced | + traced, rows probed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for work, text in WORKS.items():
        costs = python[work]
        more = cell(others[work].traced) if work != "pq" else ""
        row = [text, f"{statistics.median(costs.bare) / 1000:.1f}", cell(costs.traced), cell(costs.bystander), more]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, and put the table into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    found = table(measure(given.rounds, rows=False), measure(given.rounds, rows=True))
    sys.stdout.write(found)
    if given.markdown:
        insert(given.markdown, found, MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
