"""Names of code that a process made itself, from what it writes about it; which may be a trap."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tracekit.capture.stacks.jit import Jit
from tracekit.capture.stacks.symbols import Symbols

if TYPE_CHECKING:
    from collections.abc import Iterator


def _named(symbols: Symbols, addresses: list[int]) -> list[str]:
    symbols.names(os.getpid(), addresses)
    assert symbols.settle(10)
    found = symbols.names(os.getpid(), addresses)
    return [found[address] for address in addresses]


@pytest.fixture
def symbols() -> Iterator[Symbols]:
    names = Symbols()
    yield names
    names.close()


def test_jit_code(symbols):
    """A perf map, while it is written: names come with the lines, the last one wins, and half a line is none."""
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_text("1000 20 py::work:/app.py\n1020 20 LazyCompile:~go /a b.js:1\n0x1040 0x10 half")
    try:
        first = _named(symbols, [0x1000, 0x103F, 0x1040])
        with path.open("a") as more:
            more.write(" done\n1000 10 again\n\nnot a line\n")
        second = _named(symbols, [0x1001, 0x1011, 0x104F, 0x1050])
    finally:
        path.unlink()

    assert first == ["py::work:/app.py (JIT)", "LazyCompile:~go /a b.js:1 (JIT)", "0x1040 (?)"]
    assert second == ["again (JIT)", "py::work:/app.py (JIT)", "half done (JIT)", "0x1050 (?)"]


@pytest.fixture
def contained(tmp_path: Path) -> Path:
    """Return what /proc says of a process 7, which is 1 in its container."""
    (tmp_path / "7/root/tmp").mkdir(parents=True)
    (tmp_path / "7/status").write_text(f"Uid:\t{os.getuid()}\t{os.getuid()}\t0\t0\nNSpid:\t7\t1\n")
    (tmp_path / "7/mountinfo").write_text("24 1 8:2 / / rw - ext4 /dev/sda2 rw\n")
    return tmp_path


def test_jit_code_of_a_container(contained):
    """The process wrote its own id into the name of the file, and where it sees /tmp."""
    (contained / "7/root/tmp/perf-1.map").write_text("1000 20 work\n")
    jit = Jit(7, contained)

    jit.refresh()

    assert jit.name(0x1010) == b"work"


@pytest.mark.parametrize("trap", ["link", "pipe", "owner", "served"])
def test_jit_files_that_are_traps(contained, trap):
    """Links to files of others, pipes, files of others, file systems that a process serves."""
    path = contained / "7/root/tmp/perf-1.map"
    (contained / "theirs").write_text("1000 20 secret\n")
    if trap == "link":
        path.symlink_to(contained / "theirs")
    elif trap == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("1000 20 secret\n")
    if trap == "owner":
        os.chown(path, 12345, 12345)
        (contained / "7/status").write_text("Uid:\t54321\t54321\t0\t0\nNSpid:\t7\t1\n")
    if trap == "served":
        (contained / "7/mountinfo").write_text("36 24 0:47 / /tmp rw shared:1 - fuse.sshfs box:/ rw\n")
    jit = Jit(7, contained)

    try:
        jit.refresh()
    except OSError:
        assert trap == "link"

    assert jit.name(0x1010) == b""


def test_jit_files_that_are_endless(contained):
    """Sizes that reach everywhere, lines without an end: what is kept is bounded."""
    path = contained / "7/root/tmp/perf-1.map"
    path.write_bytes(b"0 ffffffffffffffff everywhere\n" * 100_000 + b"x" * 5_000_000)
    jit = Jit(7, contained)
    before = time.thread_time()

    jit.refresh()

    assert jit.name(0x1000) == b"everywhere"
    assert time.thread_time() - before < 3
