"""Time in the GPU's driver, recorded with a driver that is a stub: the split of a verdict knows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import PATIENCE_S, ROOT, go
from tests.kernel.stacked import HZ, started
from tracekit.analysis.sla import parse
from tracekit.analysis.verdict import State, judge
from tracekit.commands import evidence

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Run

PROGRAM = Path(__file__).parent / "workloads" / "gpu.py"
STUB = ROOT / "tests" / "unit" / "stubs" / "cuda.c"
SLA = """[[objective]]\nseries = 'span.latency{span="inference"}'\np95 = "< 10ms"\n"""
NAME, FILE = "infer", "libcuda.so.999.1"


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Return the stub, named as the driver's file is and reached by the name that programs know."""
    library = tmp_path / FILE
    flags = ["-O2", "-fPIC", "-shared", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", library, STUB], check=True)
    link = tmp_path / "libcuda.so.1"
    link.symlink_to(library.name)
    return link


def record(lab: Lab, driver: Path, *options: str) -> Run:
    """Record the program to its end."""
    folder = lab.folder()
    with (
        started([sys.executable, PROGRAM, ROOT, driver], NAME, folder) as target,
        lab.attached("-p", str(target.pid), "--stack-hz", str(HZ), *options, folder=folder) as tracer,
    ):
        go(target)
        target.wait(PATIENCE_S)
        tracer.wait()
        return tracer.result()


def test_the_share_of_the_gpu_in_the_tail_is_what_the_program_did(lab: Lab, driver: Path) -> None:
    """Asleep in the driver or spinning in it; what slept and computed elsewhere is not the GPU's."""
    run = record(lab, driver)

    (verdict,) = judge(parse(SLA, "s"), evidence.of(run.recording)).verdicts

    assert verdict.state is State.FAIL
    found = dict(verdict.why.split.shares)
    assert sum(found.values()) == pytest.approx(1)
    calls = dict(verdict.why.split.calls)
    asleep = beside(calls[f"cuStreamSynchronize ({FILE})"], found["poll"])
    spun = beside(calls[f"cuCtxSynchronize ({FILE})"], found["on-CPU"])
    assert asleep == pytest.approx(30 / 45, abs=0.04)
    assert spun == pytest.approx(20 / 29, abs=0.2)  # four standard errors of some 80 samples
    assert sum(share for _, share in verdict.why.split.calls) == pytest.approx(found["gpu"])
    assert verdict.why.split.code[0].component == "gpu"
    assert verdict.why.split.code[0].place.startswith("infer (")


def test_without_stacks_the_same_is_not_measured(lab: Lab, driver: Path) -> None:
    """The time is part of poll and on-CPU then, which it is too."""
    run = record(lab, driver, "--no-stacks")

    (verdict,) = judge(parse(SLA, "s"), evidence.of(run.recording)).verdicts

    found = dict(verdict.why.split.shares)
    assert "gpu" not in found
    assert found["poll"] > 0
    assert verdict.why.split.code == ()


def beside(one: float, other: float) -> float:
    """Return the share of *one* of both: what all waited for a CPU depends on who else ran."""
    return one / (one + other)
