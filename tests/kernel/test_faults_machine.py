"""CPUs that go and come back, clocks that are set, a machine that stands still: times and counts stay true."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.faults import LONG, check_counts, check_recording, check_target, steady, tell
from tests.kernel.lab import ROOT, until
from tests.kernel.leftovers import Inventory
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab

CPUS = Path("/sys/devices/system/cpu")
STEP_S = 2.0
STILL_S = 5.0
LATER = 4
"""Intervals, in each of which a CPU has some 10 samples."""


@contextmanager
def without(cpu: Path) -> Iterator[None]:
    """Take a CPU off line."""
    (cpu / "online").write_text("0")
    try:
        yield
    finally:
        (cpu / "online").write_text("1")


@pytest.fixture
def spare_cpu() -> Path:
    """The last CPU."""
    cpus = [path for path in CPUS.glob("cpu[0-9]*") if (path / "online").exists()]
    if not cpus:
        pytest.skip("this machine has no CPU that can go off line")
    return max(cpus, key=lambda path: int(path.name[3:]))


def sampled(path: Path, cpu: Path) -> list[int]:
    """Return in which intervals a CPU was sampled."""
    with Recording(path) as recording:
        found = recording.histograms("runq.length", {"cpu": cpu.name[3:]})
        return sorted({int(number) for number in recording.cells(list(found)).interval})


def intervals(path: Path) -> int:
    """Return how many intervals there are."""
    with Recording(path) as recording:
        return len(recording.intervals)


def test_a_cpu_that_goes_and_comes_back(lab: Lab, spare_cpu: Path) -> None:
    """It is sampled again, and neither switches nor calls are lost to it."""
    folder = lab.folder()
    inventory = Inventory(folder)
    with steady(lab, folder) as target, lab.attached("-p", str(target.pid), folder=folder) as tracer:
        until(lambda: sampled(tracer.file, spare_cpu), "a sample of the CPU")
        with without(spare_cpu):
            gone = intervals(tracer.file)
            time.sleep(0.5)
        back = intervals(tracer.file)
        until(
            lambda: len([each for each in sampled(tracer.file, spare_cpu) if each > back]) > LATER, "samples again", 60
        )
        truth = check_target(target, folder)
        code = tracer.wait()

    inventory.check()
    assert (code, check_recording(tracer.file)) == (0, "complete")
    tell("CPU off line", intervals_before=gone, intervals_without=back - gone, rounds=truth["rounds"])


def test_a_clock_that_is_set(lab: Lab) -> None:
    """Forward, back, and right again: intervals, counts and ages are of a clock that nobody sets."""
    folder = lab.folder()
    tracer = lab.tracer(folder, "run", "--", lab.workloads / "steady", folder / "steady.json", "151")
    tracer.wait_attached()
    began = time.monotonic()
    try:
        for step_s in (STEP_S, -2 * STEP_S, STEP_S):
            time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + step_s)
            time.sleep(0.1)
    except PermissionError:
        pytest.skip("the clock of this machine may not be set")
    code = tracer.wait()
    lasted = time.monotonic() - began
    run = tracer.result()

    assert (code, check_recording(tracer.file)) == (23, "complete")
    assert run.recording.duration_ns / 1e9 < lasted + 1
    check_counts(run, run.truth["steady"])
    assert not run.lost


@pytest.mark.skipif(not LONG, reason="takes a minute of an emulated machine: scripts/faults")
def test_a_machine_that_is_suspended(tmp_path: Path) -> None:
    """All of it stands still for some seconds: an interval is long, and says so."""
    name = f"suspended-{os.getpid()}"
    recorded = "tracekit run --no-stacks --no-db -o /mnt/run.tk -- sleep 9"
    command = f"mount -t tmpfs none /mnt; .venv/bin/{recorded}; cp /mnt/run.tk {name}.tk"
    machine = subprocess.Popen(
        [ROOT / "scripts" / "vm", "-t", "400", "sh", "-c", f"({command}) 2>&1"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert machine.stdout
    try:
        said = ""
        while "attached in" not in said:
            said = machine.stdout.readline()
            assert said, "the machine has ended"
        time.sleep(1)
        os.killpg(machine.pid, signal.SIGSTOP)
        time.sleep(STILL_S)
        os.killpg(machine.pid, signal.SIGCONT)
        machine.communicate()
        path = tmp_path / "run.tk"
        (ROOT / f"{name}.tk").rename(path)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(machine.pid, signal.SIGKILL)
        (ROOT / f"{name}.tk").unlink(missing_ok=True)

    assert check_recording(path) == "complete"
    with Recording(path) as recording:
        longest_s = max(interval.duration_ns for interval in recording.intervals) / 1e9
        tell(
            "machine suspended",
            seconds=STILL_S,
            longest_interval=f"{longest_s:.1f} s",
            partial=sorted(recording.partial),
        )
        assert longest_s < 2 * STILL_S
        assert recording.partial or longest_s < 2
