"""What processes have in /proc is read or refused: lines of maps, mounts, symbols and status are theirs to shape."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.capture.dump import proc
from tracekit.capture.libraries import mapped
from tracekit.capture.resources.files import Missing
from tracekit.capture.resources.process import Reader
from tracekit.capture.resources.throttle import Throttle
from tracekit.capture.stacks import kallsyms
from tracekit.capture.stacks.jit import Jit
from tracekit.capture.stacks.layout import MAX_CODE
from tracekit.capture.stacks.mappings import bias_of, mappings, served

if TYPE_CHECKING:
    from pathlib import Path

PID = 42
EXAMPLES = settings(max_examples=max(60, settings().max_examples))
# what separates fields and lines there, and what names may have instead
ODD = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b" ", b"\n", b"\0", b"-", b"(deleted)", b")", b"\\040"]))
HEX = st.integers(0, 1 << 64).map(lambda number: b"%x" % number)
PATH = st.one_of(st.sampled_from([b"/usr/lib/libpq.so.5", b"[vdso]", b"/memfd:x (deleted)"]), st.binary(max_size=80))
MAP = st.tuples(
    HEX, HEX, st.sampled_from([b"r-xp", b"rw-p", b"--xs"]), HEX, HEX, HEX, st.integers(0, 1 << 70), PATH
).map(lambda each: b"%s-%s %s %s %s:%s %d    %s\n" % each)
MOUNT = st.tuples(
    st.integers(0, 1 << 40), st.integers(0, 1 << 40), PATH, st.sampled_from([b"ext4", b"fuse.x", b""])
).map(lambda each: b"22 1 %d:%d / /%s rw - %s none rw\n" % (*each[:2], each[2].replace(b" ", b"_"), each[3]))
SYMBOL = st.tuples(st.integers(0, (1 << 64) - 1), st.sampled_from(b"tTwWdD"), st.binary(min_size=1, max_size=30)).map(
    lambda each: b"%016x %c %s\n" % (each[0], each[1], each[2].replace(b"\n", b"_"))
)
STATUS = st.tuples(st.integers(0, 1 << 33), st.integers(0, 1 << 33)).map(
    lambda each: b"Name:\tx\nUid:\t%d\t0\t0\t0\nNSpid:\t%d\nVmExe:\t 8 kB\n" % each
)
STAT = st.tuples(ODD, st.lists(st.integers(-(1 << 70), 1 << 70), max_size=52)).map(
    lambda each: b"42 (%s) S %s\n" % (each[0], b" ".join(b"%d" % number for number in each[1]))
)


def lines(of: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return files of such lines, with odd ones between."""
    return st.lists(st.one_of(of, ODD), max_size=20).map(b"".join)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a machine with one process."""
    path = tmp_path_factory.mktemp("root")
    (path / "proc" / str(PID) / "root/tmp").mkdir(parents=True)
    (path / "proc" / str(PID) / "fd").mkdir()
    (path / "proc" / str(PID) / "task" / str(PID)).mkdir(parents=True)
    return path


def lay(root: Path, **files: bytes) -> Path:
    """Write files of the process, and return its folder."""
    process = root / "proc" / str(PID)
    for name, content in files.items():
        (process / name).write_bytes(content)
    return process


@EXAMPLES
@given(lines(MAP), lines(MOUNT))
def test_mappings_are_ranges_of_addresses(root: Path, maps: bytes, mounts: bytes) -> None:
    """At most so many, sorted, each with a path; what is no line of maps is none."""
    process = lay(root, maps=maps, mountinfo=mounts)

    found, left_out = mappings(process)

    assert len(found) <= MAX_CODE
    assert left_out >= 0
    assert found == sorted(found)
    for mapping in found:
        bias_of(mapping, [])
    served(process)


@EXAMPLES
@given(lines(MAP), lines(MOUNT), st.one_of(STATUS, st.binary(max_size=60)))
def test_libraries_are_those_of_known_names(root: Path, maps: bytes, mounts: bytes, status: bytes) -> None:
    """Nothing is opened that is no regular file."""
    process = lay(root, maps=maps, mountinfo=mounts, status=status)

    for library in mapped.libraries(process):
        with pytest.raises((OSError, mapped.UnfitError)):
            os.close(mapped.opened(process, library)[0])

    assert mapped.code_size(process) >= -1


@EXAMPLES
@given(st.lists(SYMBOL, max_size=30), st.integers(0, (1 << 64) - 1))
def test_kernel_symbols_are_found_by_address(symbols: list[bytes], address: int) -> None:
    """What modules call their functions is what stands there."""
    table = kallsyms.read(symbols)

    assert list(table.starts) == sorted(table.starts)
    assert isinstance(table.function(address), bytes)
    assert isinstance(table.program(address), bytes)


@EXAMPLES
@given(
    lines(st.tuples(HEX, HEX, st.binary(max_size=50)).map(lambda each: b"%s %s %s\n" % each)), st.integers(0, 1 << 64)
)
def test_perf_maps_name_or_do_not(root: Path, written: bytes, address: int) -> None:
    """A process may write anything there, at any length of address and name."""
    owner = b"Name:\tx\nUid:\t%d\t%d\t0\t0\nNSpid:\t%d\n" % (os.geteuid(), os.geteuid(), PID)
    process = lay(root, status=owner, mountinfo=b"")
    (process / f"root/tmp/perf-{PID}.map").write_bytes(written)
    jit = Jit(PID, root / "proc")

    jit.refresh()

    assert isinstance(jit.name(address), bytes)


@EXAMPLES
@given(st.one_of(STAT, st.binary(max_size=80)), st.one_of(STATUS, st.binary(max_size=80)), st.binary(max_size=60))
def test_processes_are_read_or_gone(root: Path, stat: bytes, status: bytes, other: bytes) -> None:
    """
    The name of a program may hold parentheses, spaces and newlines: fields count from behind the last one.

    The kernel's part of the line is the kernel's: it is never torn.
    """
    process = lay(
        root, stat=b"42 (" + stat[:60] + b") S " + b" ".join([b"1"] * 50) + b"\n", status=status, cmdline=other
    )
    (process / "statm").write_bytes(b"10 5 1 1 0 1 0\n")
    (process / "comm").write_bytes(other)
    (process / f"task/{PID}/comm").write_bytes(other)

    reading = Reader(root, Missing()).read(PID)

    assert reading is None or reading.start_ticks == 1
    assert isinstance(proc.command(PID, root / "proc"), str)
    assert isinstance(proc.name(PID, PID, root / "proc"), str)
    with contextlib.suppress(OSError):
        proc.children([PID], root / "proc")


@EXAMPLES
@given(st.lists(MOUNT), st.lists(PATH))
def test_cgroups_are_those_that_exist(root: Path, lines_of_mounts: list[bytes], groups: list[bytes]) -> None:
    """
    What a container has mounted where, and how its group is called, leads nowhere it should not.

    The kernel writes no line in pieces: it escapes blanks in mounts, and takes no group with a newline in its name.
    """
    mounts = b"".join(line[:-1].replace(b"\n", b"_") + b"\n" for line in lines_of_mounts if line.count(b" ") == 9)
    cgroup = b"".join(b"0::/%s\n" % group.replace(b"\n", b"_") for group in groups)
    process = lay(root, mountinfo=mounts, cgroup=cgroup)
    (root / "proc/self").mkdir(exist_ok=True)
    (root / "proc/self/mountinfo").write_bytes(mounts)
    assert process.is_dir()

    for series, _ in Throttle(root, Missing()).sample([PID]):
        assert series.metric.startswith("throttle.")
