"""Nothing of stacks where nobody wants them, and nothing left behind where somebody did."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import ROOT, go, until
from tests.kernel.stacked import descriptors, rows, started, walked

if TYPE_CHECKING:
    from tests.kernel.lab import Lab, Tracer

PROGRAM = Path(__file__).parent / "workloads" / "requests.py"


KINDS = ("prog", "map", "link")


def on_machine() -> dict[tuple[str, int], str]:
    """Return the BPF programs, maps and links of the machine: names by kind and id."""
    tool = shutil.which("bpftool", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert tool, "apt install bpftool"
    found = {}
    for kind in KINDS:
        command = [tool, "-j", kind, "list"]
        while (done := subprocess.run(command, check=False, capture_output=True, text=True)).returncode:
            pass  # one went while it was looked at
        found |= {(kind, each["id"]): each.get("name", "") for each in json.loads(done.stdout)}
    return found


def held(pid: int) -> set[tuple[str, int]]:
    """Return those that a process holds."""
    all_fields = descriptors(pid).values()
    return {(kind, int(fields[f"{kind}_id"])) for fields in all_fields for kind in KINDS if f"{kind}_id" in fields}


def children(pid: int) -> set[int]:
    """Return the processes that the threads of a process have started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for file in files for child in file.read_text().split()}


def names_of(tracer: Tracer) -> set[str]:
    """Return the names of the programs that a tracekit holds."""
    machine = on_machine()
    return {machine[each] for each in held(tracer.process.pid) if each in machine and each[0] == "prog"}


def test_without_stacks_there_are_none(lab: Lab) -> None:
    """No program of them is loaded, none is recorded, and all else is as ever."""
    folder = lab.folder()
    with (
        started([sys.executable, PROGRAM, ROOT], "plain", folder) as target,
        lab.attached("-p", str(target.pid), "--no-stacks", folder=folder) as tracer,
    ):
        names = names_of(tracer)
        go(target)
        target.wait()
        tracer.wait()
        run = tracer.result()

    assert "on_switch" in names
    assert not any(name.startswith("on_stack") for name in names)
    assert rows(run, "") == []
    assert run.events("span.latency", span="request").count == 240


@pytest.mark.parametrize("how", ["target ends", "interrupted", "killed"])
def test_nothing_is_left(lab: Lab, how: str) -> None:
    """No program, map, link, or process: however the recording ends."""
    folder = lab.folder()
    with started([sys.executable, PROGRAM, ROOT], "plain", folder) as target:
        with lab.attached("-p", str(target.pid), folder=folder) as tracer:
            until(lambda: walked(tracer, target.pid), "the walkers to know the program")
            names, during = names_of(tracer), held(tracer.process.pid)
            helpers = children(tracer.process.pid)
            end(how, tracer, target)
        with contextlib.suppress(TimeoutError):
            until(lambda: not during & on_machine().keys(), "programs, maps and links to go", 60)
        left = {each: name for each, name in on_machine().items() if each in during}
        until(lambda: not [pid for pid in helpers if Path(f"/proc/{pid}").exists()], "helpers to go")

    assert {"on_stack_sample", "on_stack_switch", "on_stack_failure", "on_switch"} <= names
    assert {kind for kind, _ in during} == set(KINDS)
    assert left == {}


def end(how: str, tracer: Tracer, target: subprocess.Popen[bytes]) -> None:
    """End a recording."""
    if how == "target ends":
        go(target)
        assert target.wait() == 0
        assert tracer.wait() == 0
    else:
        tracer.stop(signal.SIGINT if how == "interrupted" else signal.SIGKILL)
