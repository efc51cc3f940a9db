"""Finding the CPython in a process: of any build, under any name, and for any user."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from dataclasses import fields
from pathlib import Path

import pytest

from tests.unit.python_headers import offsets as of_headers
from tests.unit.pythons import INCLUDES, PYTHONS, TOO_OLD, running
from tracekit.capture import elf
from tracekit.capture.stacks import interpreter, layout, offsets
from tracekit.capture.stacks.interpreter import UnknownPythonError, find
from tracekit.capture.stacks.memory import read

DEBIAN = PYTHONS[0]
ROOT = Path(__file__).parents[2]
WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"


@pytest.mark.parametrize("include", INCLUDES, ids=lambda path: path.name)
def test_offsets_are_those_of_the_headers(include: Path):
    """Of the table, and of what an interpreter says itself from 3.13 on."""
    minor, truth = of_headers(include)
    found = offsets.TABLE.get(minor)
    if not found:
        with running(str(include.parents[1] / "bin/python3"), "-c", WAITS) as (process, _):
            said = find(process.pid)
            assert said
            found = said.offsets

    assert found == truth


@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_kernel_is_told(python: str):
    """struct python: its list of threads begins where the address says."""
    with running(python, "-c", WAITS) as (process, _):
        found = find(process.pid)
        assert found
        said = layout.PYTHON.unpack(found.packed())
        (head,) = read(process.pid, [(said[0], 8)])

    names = ["interpreter_next", "interpreter_threads", "thread_next", "thread_id", "thread_frame", "cframe_frame"]
    names += ["thread_chunk", "frame_code", "frame_back", "frame_at", "frame_owner", "frame_is_entry", "code_units"]
    assert head and any(head)
    assert said[1] == found.code_type
    assert said[2:15] == tuple(getattr(found.offsets, name) for name in names)
    assert said[15:] == (found.minor, 3 if found.minor >= 12 else 0, 0)
    assert found.minor == int(subprocess.check_output([python, "-c", "import sys; print(sys.version_info[1])"]))


def test_a_child_costs_little(monkeypatch: pytest.MonkeyPatch):
    """No file is read again, of a fork or of another process with the same program: only its place differs."""
    forks = f"import os\nif os.fork(): os.wait()\n{WAITS}"
    with running(DEBIAN, "-c", forks) as (parent, child), running(DEBIAN, "-c", WAITS) as (other, _):
        first = find(parent.pid)

        monkeypatch.setattr(interpreter, "_read", None)

        assert first
        assert find(int(child)) == first
        assert find(other.pid)
        os.kill(int(child), 9)


@pytest.mark.parametrize("python", PYTHONS)
def test_a_python_that_just_begins(python: str):
    """It has no threads, or not even the library that it is linked with: it is there some milliseconds later."""
    for _ in range(5):
        with subprocess.Popen([python, "-c", WAITS], stdout=subprocess.DEVNULL) as process:
            until = time.monotonic() + 10
            while not (found := find(process.pid)) and time.monotonic() < until:
                pass
            process.kill()
        assert found


def test_no_python():
    """A program of something else, a thread of the kernel, and nobody."""
    with subprocess.Popen(["sleep", "100"]) as process:
        time.sleep(0.05)
        assert find(process.pid) is None
        process.kill()
    assert find(process.pid) is None
    assert find(2) is None


@pytest.mark.parametrize("python", TOO_OLD)
def test_pythons_that_are_too_old(python: str):
    """They are named, and so are those that are known."""
    code = "import sys, time; print(1); sys.stdout.flush(); time.sleep(100)"
    with running(python, "-c", code) as (process, _), pytest.raises(UnknownPythonError, match=r"3\.8 to 3\.14"):
        find(process.pid)


def test_something_else_with_the_name_of_a_python(tmp_path: Path):
    """Somebody would miss its frames: there is a reason to read."""
    false = tmp_path / "python3.11"
    shutil.copy("/bin/sleep", false)
    with subprocess.Popen([false, "100"]) as process:
        time.sleep(0.05)
        with pytest.raises(UnknownPythonError, match=r"python3\.11: it is not a CPython"):
            find(process.pid)
        process.kill()


def test_a_python_under_another_name_that_was_deleted(tmp_path: Path):
    """As uWSGI is, or a program that was upgraded under its own feet."""
    server = tmp_path / "application server"
    shutil.copy(Path(DEBIAN).resolve(), server)
    with running(str(server), "-c", WAITS, env={"PYTHONHOME": "/usr"}) as (process, _):
        server.unlink()

        found = find(process.pid)

    assert found
    assert found.path == f"{server} (deleted)"


@pytest.mark.parametrize("python", [python for python in PYTHONS if "/3.8" not in python and "/3.9" not in python])
def test_a_python_without_symbols(python: str, monkeypatch: pytest.MonkeyPatch):
    """From 3.10 on _PyRuntime is a section of its own, and the version is in names."""
    with running(python, "-c", WAITS) as (process, _):
        truth = find(process.pid)
        monkeypatch.setattr(interpreter, "_binaries", {})
        monkeypatch.setattr(elf, "objects", lambda file, names: {})

        found = find(process.pid)

    assert truth
    assert found
    assert (found.interpreters, found.minor, found.code_type) == (truth.interpreters, truth.minor, 0)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return where everybody may import tracekit.capture.stacks from, without what stands in its front."""
    shutil.copytree(ROOT / "tracekit", tmp_path / "tracekit", ignore=shutil.ignore_patterns("__pycache__", "objects"))
    (tmp_path / "tracekit/capture/stacks/__init__.py").write_text("")
    for place in (tmp_path, *tmp_path.parents):
        if place.owner() == "root" and place.stat().st_mode & 0o777 == 0o700:
            place.chmod(0o755)
    return tmp_path


def as_nobody(package: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [DEBIAN, "-c", "from tracekit.capture.stacks.interpreter import find\n" + code]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=package, user=65534, group=65534, extra_groups=[]
    )


def test_who_is_not_root_finds_his_own(package: Path):
    """Files are opened by their paths where map_files may not be looked into."""
    code = f"""
import subprocess
child = subprocess.Popen(["/usr/bin/python3", "-c", {WAITS!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(find(child.pid).path)
child.kill()
"""

    done = as_nobody(package, code)

    assert done.stdout.strip() == str(Path(DEBIAN).resolve()), done.stderr


def test_who_may_not_look_is_told(package: Path):
    """Another user's process."""
    with running(DEBIAN, "-c", WAITS) as (process, _):
        done = as_nobody(package, f"find({process.pid})")

    assert "ClosedError: they may not be looked at" in done.stderr


def test_threads_that_make_no_sense(tmp_path: Path):
    """A process whose list of threads leads nowhere is not said to have a CPython that can be read."""
    with running(DEBIAN, "-c", WAITS) as (process, _):
        found = find(process.pid)
        assert found
        with Path(f"/proc/{process.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(found.interpreters)
            memory.write(struct.pack("<Q", found.code_type))

        with pytest.raises(UnknownPythonError, match="threads are not where"):
            find(process.pid)


def table(minor: int, free_threaded: int = 0, word: int = 24) -> bytes:
    """Return what an interpreter would say of itself: *word* everywhere."""
    return offsets.COOKIE + struct.pack("<QQ", 0x03000000 | minor << 16, free_threaded) + struct.pack("<Q", word) * 61


def test_what_3_14_says_of_itself():
    """By the place of the words in the header: two structures before a field have grown since 3.13."""
    words = list(struct.unpack("<64Q", table(14)))
    words[3:] = range(100, 100 + 61)

    minor, found = offsets.said(struct.pack("<64Q", *words))

    assert minor == 14
    assert (found.head, found.interpreter_next, found.interpreter_threads) == (102, 105, 106)
    assert (found.thread_next, found.thread_frame, found.thread_id, found.thread_chunk) == (121, 123, 124, 126)
    assert (found.frame_back, found.frame_code, found.frame_at, found.frame_owner) == (129, 130, 131, 133)
    assert (found.code_file, found.code_name, found.code_table, found.code_first) == (137, 139, 140, 141)
    assert found.code_units == 145


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (table(13, free_threaded=1), "without a GIL"),
        (table(15), "version is not known"),
        (table(12), "version is not known"),
        (table(13, word=1 << 16), "makes no sense"),
        (offsets.COOKIE + bytes(offsets.SAID_BYTES), "version is not known"),
    ],
)
def test_what_is_not_understood_is_not_used(said: bytes, reason: str):
    """A build or a version of which the table is another one."""
    with pytest.raises(offsets.UnknownLayoutError, match=reason):
        offsets.said(said)


def test_offsets_fit_in_what_crosses():
    """All of them are 16 bits wide there."""
    for found in offsets.TABLE.values():
        assert all(0 <= getattr(found, field.name) < 1 << 16 for field in fields(found))
