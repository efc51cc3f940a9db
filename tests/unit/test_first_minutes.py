"""What a stranger runs into first, each as one line, what to try, and a documented exit code."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit import recordings
from tracekit.capture.workload import Command
from tracekit.errors import UsageError
from tracekit.recording.writer import Writer, refuse_existing
from tracekit.records import Clocks

ROOT = Path(__file__).parents[2]
TRACEKIT = [sys.executable, "-m", "tracekit"]


def run(*words: str | Path, before: tuple[str, ...] = (), **more: object) -> subprocess.CompletedProcess[str]:
    """Run tracekit as a user does, behind *before*."""
    return subprocess.run(
        [*before, *TRACEKIT, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **more,
    )  # fmt: skip


def record_to(path: Path, *, force: bool) -> None:
    """Begin a recording, as attach does."""
    if not force:
        refuse_existing(path)
    Writer(path, recordings.HOST, recordings.TARGET, Clocks(1, 2, 3), {}, force=force)


@pytest.mark.parametrize("force", [False, True])
def test_a_device_is_not_replaced_by_a_recording(tmp_path: Path, force: bool) -> None:
    """`-o /dev/null -f`, as root, would take the machine's /dev/null away."""
    path = tmp_path / "null"
    os.mkfifo(path)  # as a device is, no regular file, and to be had without root

    with pytest.raises(UsageError, match="it is not a regular file"):
        record_to(path, force=force)

    assert stat.S_ISFIFO(path.lstat().st_mode)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_needs_a_name_in_it(tmp_path: Path, force: bool) -> None:
    """The folder is there already: -f would not help."""
    with pytest.raises(UsageError, match="it is a folder") as error:
        record_to(tmp_path, force=force)

    assert error.value.hint == f"-o {tmp_path}/run.tk"


def test_a_file_that_is_no_program_is_not_called_missing() -> None:
    """It is there: what it lacks is the right to be run."""
    with pytest.raises(UsageError, match="not a program that you may run"):
        Command((str(Path(__file__)),))
    with pytest.raises(UsageError, match="no such program"):
        Command(("no-such-program",))


def test_a_recording_of_somebody_else_is_no_usage_error(sample: Path) -> None:
    """Exit code 4, not 2: the command is right, the right to read is missing."""
    if os.geteuid():
        pytest.skip("root is needed to become another user")
    sample.chmod(0o600)
    for folder in sample.parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)

    end = run("report", sample, before=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))

    assert (end.returncode, end.stdout) == (4, "")
    assert end.stderr == f"tracekit: cannot read {sample}: Permission denied\n  try: run as the file's owner\n"


@pytest.mark.parametrize("command", ["report", "hist", "flamegraph", "heatmap --metric=runq.wait", "doctor", "--help"])
@pytest.mark.parametrize(
    "bare",
    [{}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"TMPDIR": "/nonexistent", "TERM": "dumb"}],
    ids=["empty", "ascii", "no-tmp"],
)
def test_it_works_in_a_bare_environment(sample: Path, command: str, bare: dict[str, str]) -> None:
    """No HOME, no PATH, no LANG: as cron, systemd and containers start programs."""
    file = [] if command in {"doctor", "--help"} else [sample]

    end = run(*command.split(), *file, env=bare)

    assert end.returncode in ({0, 4} if command == "doctor" else {0})
    assert "Traceback" not in end.stderr
    assert end.stdout
    if "LC_ALL" in bare:
        assert end.stdout.isascii()
