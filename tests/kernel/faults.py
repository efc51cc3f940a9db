"""What tests of faults share: how many, at which moments, and what must be true of the recording afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kernel.lab import PATIENCE_S, truths
from tracekit.errors import TracekitError
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab, Run, Tracer

KILLS = int(os.environ.get("FAULTS_KILLS", "0"))
"""How many, when scripts/faults asks; 0: few, as in every run of the tests."""
LONG = KILLS > 0
AS_EVER = 23
"""What workloads/steady.c ends with, when all was as if nobody had looked."""
JOURNAL = ("run.tk-wal", "run.tk-shm")
_EMPTY = ("the file is empty", "holds nothing", "no such file")


def draw(name: str) -> tuple[int, random.Random]:
    """Return a seed, to be told when something fails, and a source of chance made of it; FAULTS_SEED is one again."""
    seed = int(os.environ.get("FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    return seed, random.Random(f"{name} {seed}")


def tell(test: str, **counts: object) -> None:
    """Add a line to the table of scripts/faults."""
    if "FAULTS_TABLE" in os.environ:
        words = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        with Path(os.environ["FAULTS_TABLE"]).open("a") as file:
            file.write(f"{test}\t{words}\n")


def check_recording(path: Path) -> str:
    """
    Return `complete`, `incomplete`, or `none`: nothing had been recorded yet, and reading says so. Fail if it lies.

    All that is in it can be read, its intervals are one after the other, and its sums are those of its intervals.
    """
    try:
        recording = Recording(path)
    except TracekitError as error:
        assert any(text in str(error) for text in _EMPTY), error
        return "none"
    with recording:
        for before, after in zip(recording.intervals, recording.intervals[1:], strict=False):
            assert before.start_ns < before.end_ns == after.start_ns
        for metric in {each.metric for each in recording.series() if each.kind == "histogram"}:
            found = recording.histograms(metric)
            assert recording.cells(list(found)).count.sum() == sum(each.count for each in found.values()), metric
        for each, values in recording.values().items():
            assert each.kind == "gauge" or (values >= 0).all(), each
        lives = recording.processes()
        assert len({(life.tgid, life.start_ns) for life in lives}) == len(lives)
        recording.stacks(), recording.samples(), recording.parts(), recording.exemplars(), recording.in_flight()
        return "complete" if recording.complete else "incomplete"


@contextmanager
def steady(lab: Lab, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield workloads/steady.c, which goes on until its standard input ends: see check_target."""
    command = [lab.workloads / "steady", folder / "steady.json"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, start_new_session=True) as target:
        try:
            yield target
        finally:
            with suppress(ProcessLookupError):
                os.killpg(target.pid, signal.SIGKILL)


def check_target(target: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """End workloads/steady.c by its standard input, and return what it says of itself: nothing was wrong."""
    target.communicate(timeout=PATIENCE_S)
    truth: dict[str, Any] = truths(folder)["steady"]
    assert (target.returncode, truth["wrong"]) == (AS_EVER, [0, 0, 0, 0])
    return truth


def check_counts(run: Run, truth: dict[str, Any]) -> None:
    """Every child and every failed call of workloads/steady.c is recorded, or what was lost is counted."""
    lost = sum(run.lost.values())
    children = sum(process.exit_code == 7 for process in run.recording.processes())
    failed = run.count("syscall.errors", role="steady", syscall="openat", errno="ENOENT")

    assert children <= truth["rounds"] <= children + lost
    assert failed <= truth["rounds"] <= failed + lost


def words_of(tracer: Tracer) -> list[str]:
    """Return the lines of the error that a tracekit ended with: one, and perhaps what to try. No traceback."""
    lines = tracer.stderr.splitlines()
    said = [line for line in lines if line.startswith("tracekit: cannot ")]
    hints = [line for line in lines if line.startswith("  try: ")]
    assert "Traceback" not in tracer.stderr, tracer.stderr
    assert len(said) == 1, tracer.stderr
    assert len(hints) <= 1, tracer.stderr
    return said + hints
