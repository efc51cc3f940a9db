"""Examples of commands that look at processes, as `--help` shows them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests import examples
from tests.kernel.lab import CGROUP2, PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.lab import Lab

EXAMPLES = [line for name in ("attach", "run", "dump", "doctor") for line in examples.of(name)]
CODES = {"doctor": {0, 4}}
"""It may find that something is missing."""
CGROUP = CGROUP2 / "system.slice" / "agents.service"
LAUNCHED = "import time; time.sleep(0.2)"
OTHERS = {
    "sudo": 'exec "$@"',
    "pgrep": "echo $TARGET",
    "make": "exec sleep 0.2",
    "python": f'exec {sys.executable} "$@"',
}
"""Programs that are not here, or would find others than the one that is meant."""


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_work(lab: Lab, line: str) -> None:
    """They do what they are there for, until their target ends or they are told to stop: a recording is whole."""
    folder = lab.folder()
    for name in ("app.py", "train.py"):
        (folder / name).write_text(LAUNCHED)
    (folder / "tracekit.toml").write_text("[spans]\nwork = 'app:work'\n")
    with target() as process:
        environment = examples.shell(folder, OTHERS) | {"TARGET": str(process.pid)}
        code = finished(line.replace("4242", str(process.pid)), folder, environment, process)

    assert code in CODES.get(line.removeprefix("sudo ").split()[1], {0}), (folder / "said").read_text()


@contextmanager
def target() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that sleeps, in the control group that an example names."""
    missing = [path for path in (CGROUP, CGROUP.parent) if not path.exists()]
    CGROUP.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as process:
        (CGROUP / "cgroup.procs").write_text(str(process.pid))
        try:
            yield process
        finally:
            process.kill()
    for path in missing:
        until(lambda path=path: not (path / "cgroup.procs").read_text(), "the control group to be empty")
        path.rmdir()


def finished(line: str, folder: Path, environment: dict[str, str], process: subprocess.Popen[bytes]) -> int:
    """Run *line*: once it has attached *process* ends, then comes Ctrl-C. Return the exit code."""
    said = folder / "said"
    with said.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    until(lambda: b"attached in" in said.read_bytes() or shell.poll() is not None, "tracekit to attach")
    process.kill()
    process.wait()
    if {"--comm", "--cgroup", "--all"} & set(line.split()):
        os.killpg(shell.pid, signal.SIGINT)
        return shell.wait(PATIENCE_S) % 130
    return shell.wait(PATIENCE_S)
