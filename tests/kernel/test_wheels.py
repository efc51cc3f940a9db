"""What others install: a wheel in a clean virtual environment, far from this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import sample
from tests.kernel.lab import ROOT
from tracekit.recording.reader import Recording

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture(scope="module")
def wheel() -> Path:
    """Return the wheel for this CPython, made by scripts/wheels."""
    subprocess.run([ROOT / "scripts" / "wheels", sys.executable], check=True, capture_output=True)
    tag = f"cp3{sys.version_info.minor}"
    return max((ROOT / "dist").glob(f"tracekit-*-{tag}-{tag}-*.whl"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `tracekit` of a virtual environment that has this wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)  # for others to read
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "--quiet", "install", wheel], check=True)
    return folder / "bin" / "tracekit"


def test_it_runs_on_many_linuxes_and_holds_no_source_of_the_kernel_side(wheel: Path) -> None:
    """Its tag says how old a C library may be; licences of what is in it are in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    kinds = {Path(name).suffix for name in names}
    assert "-manylinux_2_" in wheel.name
    assert not {".c", ".h"} & kinds
    assert {".so", ".lskel"} <= kinds
    assert any(name.endswith("man1/tracekit.1") for name in names)
    assert {"LICENSE", "GPL-2.0-only.txt", "BSD-2-Clause.txt", "MIT.txt"} <= {Path(name).name for name in names}


def test_it_reads_recordings_for_anybody(installed: Path, tmp_path: Path) -> None:
    """No root, no kernel, no checkout."""
    tmp_path.chmod(0o755)
    file = tmp_path / "sample.tk"
    sample.write(file)
    file.chmod(0o644)

    for words in (["report"], ["hist"], ["flamegraph"], ["heatmap", "--metric", "runq.wait"]):
        done = subprocess.run(
            [*NOBODY, installed, words[0], file, *words[1:]], cwd="/", check=True, capture_output=True, text=True
        )
        assert done.stdout


def test_it_records(installed: Path, tmp_path: Path) -> None:
    """BPF programs, stacks and the probe in C are in it."""
    file = tmp_path / "run.tk"
    python = installed.with_name("python")
    program = "import time, tracekit.probe._probe\nfrom tracekit import span\nwith span('work'): time.sleep(0.5)"

    command = [installed, "run", "-i", "100ms", "-o", file, "--", python, "-c", program]
    subprocess.run(command, cwd="/", env={**os.environ, "PYTHONPATH": ""}, check=True, capture_output=True)

    recording = Recording(file)
    assert [line for line in recording.end["missing"] if not line.startswith("gpu: ")] == []
    assert sum(h.count for h in recording.histograms("span.latency", {"span": "work"}).values()) == 1
