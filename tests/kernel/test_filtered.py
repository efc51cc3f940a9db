"""The lists of system calls in docs/security.md, and the service in docs/examples, are enough for what they are for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kernel.lab import ROOT
from tests.kernel.unprivileged import AS_NOBODY, busy, missing_of
from tracekit.capture.syscalls import NAMES
from tracekit.recording.reader import Recording

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs/security.md"
UNIT = ROOT / "docs/examples/tracekit@.service"
LAUNCH = """
import sys
from tracekit.capture import seccomp
assert seccomp.allow(sys.argv[1])
sys.argv[:2] = ["tracekit"]
from tracekit.cli import main
main()
"""
systemd_only = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze, of systemd")


def listed() -> tuple[str, str]:
    """Return the calls of commands that read, and of those that attach."""
    section = PAGE.read_text().partition("## System calls\n")[2].partition("\n## ")[0]
    reading, more = re.findall(r"((?:^    .+\n)+)", section, re.MULTILINE)
    return reading, f"{reading} {more}"


def filtered(folder: Path, calls: str, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run tracekit with all other calls refused."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*before, sys.executable, "-c", LAUNCH, " ".join(calls.split()), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_what_attaches_and_what_reads(tmp_path: Path):
    """Nothing is missing of what is there without a filter."""
    reading, attaching = listed()
    with busy() as target:
        made = filtered(tmp_path, attaching, "attach", "-p", str(target), "-d", "2s", "-i", "100ms", "-o", "run.tk")
        dumped = filtered(tmp_path, attaching, "dump", "-p", str(target))
    run = filtered(tmp_path, attaching, "run", "--db-uprobes", "--syscalls", "-o", "b.tk", "--", "/bin/true")
    read = [
        filtered(tmp_path, reading, "report", "run.tk"),
        filtered(tmp_path, reading, "hist", "run.tk", "--json"),
        filtered(tmp_path, reading, "heatmap", "run.tk", "--metric", "runq.wait", "-o", "x.png"),
        filtered(tmp_path, reading, "flamegraph", "run.tk", "-o", "x.svg"),
    ]

    for done in (made, dumped, run, *read):
        assert done.returncode == 0, done.stderr
    assert not missing_of(Recording(tmp_path / "run.tk"))
    assert "<module> (<string>" in dumped.stdout
    assert filtered(tmp_path, reading, "attach", "--all", "-d", "1s").returncode == 4  # so there is a filter


def test_without_samples_the_rest_is_there(tmp_path: Path):
    """As where kernel.perf_event_paranoid is 3, Debian's default: it refuses what CAP_PERFMON allows elsewhere."""
    calls = " ".join(set(listed()[1].split()) - {"perf_event_open"})
    with busy() as target:
        made = filtered(tmp_path, calls, "attach", "-p", str(target), "-d", "1s", "-o", "run.tk")
        dumped = filtered(tmp_path, calls, "dump", "-p", str(target))
    recording = Recording(tmp_path / "run.tk")
    note = "run-queue length, and in which code threads run: perf_event_open: Operation not permitted"

    assert (made.returncode, dumped.returncode) == (0, 0), dumped.stderr
    assert missing_of(recording) == [note]
    assert {series.metric for series in recording.samples()} == {"stack.offcpu"}
    assert f"note: {note}" in dumped.stderr
    assert "_[k]" in dumped.stdout


def settings() -> dict[str, list[str]]:
    """Return the words of each setting of the service."""
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return {name: value.split() for name, _, value in lines}


def expanded(sets: list[str]) -> set[str]:
    """Return the calls that names and @sets of systemd stand for, as far as this kernel knows them."""
    found: set[str] = set()
    for name in sets:
        if not name.startswith("@"):
            found.add(name)
            continue
        done = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
        found |= expanded([line.strip() for line in done.stdout.splitlines()[1:] if line.strip()[:1] not in {"", "#"}])
    return found & set(NAMES.values())


@systemd_only
def test_the_service_records(nobodys: Path):
    """By its user, capabilities and calls alone: all is there but what the kernel's side costs."""
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in settings()["AmbientCapabilities"])
    bound = ("--bounding-set", f"-all,{kept}", "--no-new-privs")
    before = ("setpriv", *AS_NOBODY, "--inh-caps", kept, "--ambient-caps", kept, *bound)
    with busy() as target:
        calls = " ".join(expanded(settings()["SystemCallFilter"]))
        words = ("attach", "-p", str(target), "-d", "2s", "-i", "100ms", "-o", "run.tk")
        done = filtered(nobodys, calls, *words, before=before)

    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in missing_of(Recording(nobodys / "run.tk"))] == ["cost.bpf"]


@systemd_only
def test_the_service_is_one(tmp_path: Path):
    """systemd knows each of its settings, and finds it tight."""
    copy = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/tracekit/bin/tracekit", "/bin/true").replace("User=tracekit", "User=daemon")
    copy.write_text(text)

    verified = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "tracekit@x.service"], capture_output=True, check=False
    )
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", copy], capture_output=True, check=False
    )

    assert (verified.returncode, verified.stderr) == (0, b"")
    assert judged.returncode == 0, judged.stdout.decode()
