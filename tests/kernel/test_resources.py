"""What the target used and the host suffered, against the kernel's own files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.kernel.lab import go, has_disk, quota_cgroup

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

DISK = Path(__file__).parent / "workloads" / "python_disk.py"
PRESSURE = Path("/proc/pressure/cpu")


def stalled_ns() -> int:
    """Return how long tasks of the host waited for a CPU, since boot."""
    return int(PRESSURE.read_text().split()[4].partition("=")[2]) * 1000


def test_cpu_is_what_the_target_used(lab: Lab) -> None:
    """
    The gauge, added up over the recording, is the CPU clock of the program; /proc counts in 10 ms.

    The process is older than its program: what becoming it took may be in it, half a second on an emulated CPU.
    """
    run = lab.run("exec $W/hog $T/hog.json 1500 0", "--no-errors")

    (shares,) = run.recording.values("cpu").values()
    lengths = [interval.duration_ns for interval in run.recording.intervals]
    used_ns = float(np.nansum(shares * lengths))
    truth = run.truth["hog"]
    assert 0.9 * truth["cpu_ns"] - 60e6 < used_ns < 1.1 * truth["process_cpu_ns"] + 60e6
    assert truth["process_cpu_ns"] > truth["cpu_ns"] > 0


@pytest.mark.skipif(not has_disk(), reason="needs a disk; this machine has none")
def test_what_is_written_to_the_disk_is_counted(lab: Lab) -> None:
    """61 blocks of 4096 bytes, written around the page cache, and read again, by a process that a tick sees."""
    run = lab.run(f"exec {sys.executable} -B {DISK} $T/data", "--no-errors")

    assert run.count("io.write") >= 61 * 4096
    assert run.count("io.read") >= 61 * 4096


def test_throttling_is_the_cgroup_s(lab: Lab) -> None:
    """A program that may use a twentieth of a CPU is throttled: as long as cpu.stat says."""
    folder = lab.folder()
    with (
        quota_cgroup(5) as (cgroup, throttled_ns),
        lab.started("read go; $W/hog $T/hog.json 1500 0", folder) as target,
    ):
        (cgroup / "cgroup.procs").write_text(str(target.pid))
        with lab.attached("-p", str(target.pid), folder=folder) as tracer:
            before_ns = throttled_ns()
            go(target)
            target.wait()
            truth_ns = throttled_ns() - before_ns
            tracer.wait()
            run = tracer.result()

    found = run.count("throttle.time", cgroup=f"/{cgroup.name}")
    assert truth_ns > 300e6
    assert found == pytest.approx(truth_ns, rel=0.15)
    assert run.count("throttle.periods", cgroup=f"/{cgroup.name}") >= 5


@pytest.mark.skipif(not PRESSURE.exists(), reason="this kernel has no pressure stall information")
def test_pressure_is_the_host_s(lab: Lab) -> None:
    """Two programs that want one CPU stall each other: `psi` grows by what the kernel's file grows."""
    before = stalled_ns()
    run = lab.run("$W/hog $T/a.json 1000 0 & $W/hog $T/b.json 1000 0; wait", "--no-errors")
    after = stalled_ns()

    stalled = run.count("psi", resource="cpu", kind="some")

    assert 0.3 * run.recording.duration_ns <= stalled <= after - before
