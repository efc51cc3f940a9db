"""What kernel tests share: the compiled workloads, and a machine that can be traced."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import Lab
from tests.kernel.unprivileged import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SOURCES = HERE / "workloads"
COMPILER = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-no-pie", "-fno-pie"]
HOSTED = ["-D_GNU_SOURCE", "-pthread"]
FREE = ["-nostdlib", "-ffreestanding", "-fno-stack-protector"]
FLAGS = {"nothing.c": FREE, "unmapped.c": FREE, "compat32.c": [*FREE, "-m32"]}
"""Static programs make no call but their own; those without a C library need no 32-bit one either."""


TOGETHER = {"db_libraries", "help", "names", "presets", "tutorial"}
"""What is in these files counts, and bounds no time: other tests may run beside it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, whoever writes the next."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)
            if item.path.stem.removeprefix("test_") in TOGETHER:
                item.add_marker(pytest.mark.together)


def missing() -> str:
    """Return what this machine lacks for kernel tests, "" if nothing."""
    if os.geteuid() != 0:
        return "kernel tests load BPF programs and need root: sudo scripts/test, or pytest -m 'not kernel'"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "kernel tests need a kernel with CONFIG_DEBUG_INFO_BTF (/sys/kernel/btf/vmlinux is missing)"
    if not shutil.which("gcc"):
        return "kernel tests compile their workloads: apt install gcc libc6-dev"
    return ""


@pytest.fixture(scope="session")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return the folder of the compiled workloads.

    They are kept between runs, as a compiler takes long on an emulated machine, which sees
    this folder of the real one.
    """
    lack = missing()
    if lack:
        pytest.fail(lack, pytrace=False)
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in (Path(__file__), *sorted(SOURCES.glob("*.[ch]")))))
    kept = _own(Path(tempfile.gettempdir()) / f"tracekit-workloads-{os.geteuid()}") / digest.hexdigest()[:16]
    kept.mkdir(exist_ok=True)
    for source in sorted(SOURCES.glob("*.c")):
        _build(source, kept / source.stem)
    folder = tmp_path_factory.mktemp("workloads")
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return folder


def _own(folder: Path) -> Path:
    """Make *folder* if it is missing. Nobody else may lay programs there that we would run."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        pytest.fail(f"{folder} belongs to somebody else", pytrace=False)
    return folder


def _build(source: Path, program: Path) -> None:
    if program.exists():
        return
    fresh = program.with_suffix(".new")
    command = [*COMPILER, *FLAGS.get(source.name, HOSTED), "-o", str(fresh), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"cannot compile {source.name}:\n{done.stderr}", pytrace=False)
    fresh.rename(program)


@pytest.fixture(scope="module")
def lab(workloads: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Return a place to record in."""
    return Lab(workloads, tmp_path_factory.mktemp("lab"))


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """Yield a folder of nobody's, which that user can get to."""
    with tempfile.TemporaryDirectory(prefix="tracekit-test-") as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)
