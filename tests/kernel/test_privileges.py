"""What a collector may still do once it is attached, whose its file is, and what it records with less."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kernel.lab import PATIENCE_S, ROOT, TRACEKIT, until
from tests.kernel.unprivileged import AS_NOBODY, NOBODY, busy, missing_of
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.lab import Lab

BITS = {"dac_override": 1, "dac_read_search": 2, "sys_ptrace": 19, "sys_admin": 21, "syslog": 34}
BITS |= {"perfmon": 38, "bpf": 39, "checkpoint_restore": 40}
IN_EFFECT = {"bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore", "syslog"}
SLA = """
[[objective]]
series = "io.read"
total = ">= 0B"
[[objective]]
series = "cost.bpf"
rate = "< 100%"
[[objective]]
series = "runq.wait"
p50 = "< 1h"
"""


def status(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status; none: it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def held(pid: int, which: str) -> set[str]:
    """Return the capabilities in a set, `Eff`, `Prm`, `Inh`, `Bnd` or `Amb`; unknown bits are numbers."""
    bits, names = int(status(pid)[f"Cap{which}"], 16), {bit: name for name, bit in BITS.items()}
    return {names.get(bit, str(bit)) for bit in range(64) if bits >> bit & 1}


def children(pid: int) -> list[int]:
    """Return the processes that *pid* has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in tasks for child in path.read_text().split()]


@contextmanager
def attached(folder: Path, target: int, *options: str, user: str = "") -> Iterator[subprocess.Popen[str]]:
    """Yield an attached collector; *user*: of whom sudo is to have been."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"SUDO_UID": user} if user else {})
    command = [*TRACEKIT, "attach", "-p", str(target), "-i", "100ms", "-o", str(folder / "run.tk"), *options]
    with subprocess.Popen(command, cwd="/", env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert "attached in" in process.stderr.readline()
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def collector(lab: Lab) -> Iterator[int]:
    """Yield the id of a collector that is attached, and has given up what it does not need."""
    with busy() as target, attached(lab.folder(), target) as process:
        until(lambda: status(process.pid)["NoNewPrivs"] == "1", "the collector to have given up the rest")
        yield process.pid


def test_a_collector_keeps_what_it_needs(collector: int):
    """Of root's 41 capabilities six are in effect, and one more is there for the moments that need it."""
    assert held(collector, "Prm") == held(collector, "Bnd") == IN_EFFECT | {"sys_admin"}
    until(lambda: held(collector, "Eff") == IN_EFFECT, "nothing else to be in effect")
    assert held(collector, "Inh") == held(collector, "Amb") == set()
    assert status(collector)["Seccomp"] == "2"


def test_threads_of_a_collector_have_no_more(collector: int):
    """Capabilities belong to threads: none keeps more than the first."""

    def tasks() -> list[int]:
        return [int(task.name) for task in Path(f"/proc/{collector}/task").iterdir()]

    until(lambda: len(tasks()) > 1, "a thread that names frames")
    until(lambda: all(held(each, "Prm") <= IN_EFFECT | {"sys_admin"} for each in tasks()), "all to have no more")


def test_who_reads_the_targets_files_may_nothing(collector: int):
    """The worker that makes tables of ELF files has no capability, and a filter that lets it open nothing."""

    def workers() -> list[int]:
        return [pid for pid in children(collector) if status(pid).get("Seccomp_filters") == "2"]

    until(workers, "the worker to have given up everything")
    (worker,) = workers()

    assert held(worker, "Eff") == held(worker, "Prm") == held(worker, "Amb") == set()
    assert (status(worker)["Seccomp"], status(worker)["NoNewPrivs"]) == ("2", "1")


def test_a_collector_behind_sudo_is_the_user(lab: Lab):
    """It gives up root with what it does not need, and writes as that user; a folder of others is written to still."""
    folder = lab.folder()
    os.chown(folder, NOBODY, NOBODY)
    theirs = lab.folder()

    with busy() as target, attached(folder, target, user=str(NOBODY)) as process:
        until(lambda: status(process.pid)["NoNewPrivs"] == "1", "the collector to have given up the rest")
        users, kept = status(process.pid)["Uid"].split(), held(process.pid, "Prm")
    with busy() as target, attached(theirs, target, user=str(NOBODY)) as process:
        until(lambda: status(process.pid)["NoNewPrivs"] == "1", "the collector to have given up the rest")
        kept_for_theirs = held(process.pid, "Prm")

    assert users == [str(NOBODY)] * 4
    assert kept == IN_EFFECT | {"sys_admin"}
    assert kept_for_theirs == kept | {"dac_override"}
    for each in (folder, theirs):
        found = (each / "run.tk").stat()
        assert [path.name for path in each.iterdir()] == ["run.tk"]
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (NOBODY, 0o600)
        assert not missing_of(Recording(each / "run.tk"))


def test_what_is_launched_is_not_limited(lab: Lab):
    """`run` limits itself, not the program: sudo in it works as before."""
    program = "grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status"
    here = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True).stdout

    run = lab.run(program)

    assert run.stdout == here
    assert run.code == 0


def test_two_capabilities_record(nobodys: Path):
    """
    CAP_BPF and CAP_PERFMON record a process of one's own whole but for what the kernel costs, and another user's
    without what is in its memory; each thing that is missing is said once, and no objective on it passes.
    """
    with busy("setpriv", *AS_NOBODY) as own, busy() as other:
        mine = limited(nobodys, "attach", "-d", "2s", "-p", str(own))
        theirs = limited(nobodys, "attach", "-d", "2s", "-p", str(other))
    launched = limited(nobodys, "run", "--", sys.executable, "-c", "import time; time.sleep(0.4)")

    others = ["frames of some processes", "io.read, io.write", "spans of some processes"]
    assert mine.missing == ["cost.bpf", "kernel frames have no names"]
    assert theirs.missing == sorted([*mine.missing, *others])
    assert set(launched.missing) <= set(mine.missing)  # it may be too short for stacks
    assert any("(<string>" in frame for frame in mine.frames)
    assert not any("(<string>" in frame for frame in theirs.frames)
    for each in (mine, theirs, launched):
        assert each.states["runq.wait"] == "PASS"
        assert each.states["cost.bpf"] == "NOT MEASURED"
    assert (mine.states["io.read"], theirs.states["io.read"]) == ("PASS", "NOT MEASURED")


class Limited(NamedTuple):
    """A recording: what it says was missing, its frames, and the verdict by metric."""

    missing: list[str]
    frames: set[str]
    states: dict[str, str]


def limited(folder: Path, command: str, *words: str) -> Limited:
    """Record as nobody with CAP_BPF and CAP_PERFMON, and read that; no line may name a capability that is there."""
    kept = "+bpf,+perfmon"
    (folder / "sla.toml").write_text(SLA)
    before = ["setpriv", *AS_NOBODY, "--inh-caps", kept, "--ambient-caps", kept, *TRACEKIT]
    made = tracekit(folder, *before, command, "-i", "100ms", "-f", "-o", "run.tk", *words)
    judged = tracekit(folder, *TRACEKIT, "verdict", "run.tk", "-s", "sla.toml", "--json")
    recording = Recording(folder / "run.tk")
    missing = missing_of(recording)
    report = tracekit(folder, *TRACEKIT, "report", "run.tk").stdout

    assert made.returncode == 0, made.stderr
    assert [line for line in made.stderr.splitlines() if line.startswith("missing")] == [
        f"missing   {m}" for m in missing
    ]
    for line in missing:
        assert line.partition(":")[0] in report
    states = {each["metric"]: each["state"] for each in json.loads(judged.stdout)["objectives"]}
    frames = {frame for found in recording.samples().values() for stack in found.frames.values() for frame in stack}
    return Limited(sorted(line.partition(":")[0] for line in missing), frames, states)


def tracekit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Return what a command in *folder* said."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
