"""Native frames of threads that stand still, against what the unwinder of libgcc says inside of them."""

from __future__ import annotations

import mmap
import os
import select
import subprocess
import sys
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.standing import reader, stopped, words
from tracekit.capture.stacks import layouts
from tracekit.capture.stacks.layout import (
    CODE,
    LAYOUT_BYTES,
    LAYOUT_HEAD,
    MAX_NATIVE_FRAMES,
    MAX_UNWIND_PAGES,
    MAX_UNWIND_ROWS,
    NATIVE_CUT,
    NATIVE_ENDS,
    NATIVE_WHOLE,
    UNWIND_PAGE_SHIFT,
)
from tracekit.capture.stacks.layouts import Layouts
from tracekit.capture.stacks.unwinding import Codes, unwind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = Path(__file__).parent / "stubs" / "deep.c"
FLAGS = ["-O2", "-fomit-frame-pointer", "-fasynchronous-unwind-tables"]
PYTHON = """
import ctypes, functools, sys, time
library = ctypes.CDLL(sys.argv[1])
inner = ctypes.CFUNCTYPE(None)(lambda: functools.reduce(lambda left, right: library.stay(), [1, 2]))
def descend(depth):
    if depth:
        return sorted([1], key=lambda _: descend(depth - 1))
    library.deep(1, 0, inner)
descend(int(sys.argv[2]))
"""
NO_PYTHON = bytes(40)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the program `deep` and the library `deep.so` are."""
    directory = tmp_path_factory.mktemp("deep")
    for output, more in (("deep", ["-pthread"]), ("deep.so", ["-shared", "-fPIC"])):
        subprocess.run(["gcc", *FLAGS, *more, "-o", directory / output, SOURCE], check=True)
    return directory


class Waiting:
    """A process of which one thread waits in `stay`: its number, and the addresses that it said."""

    def __init__(self, *command: object) -> None:
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout
        (count,) = words(self.process.stdout.read(8))
        self.said = words(self.process.stdout.read(8 * count))
        self.thread = self._waiting()

    def _waiting(self) -> int:
        """Return the thread that waits in read(), as soon as one does."""
        while True:
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                if (task / "syscall").read_text().startswith("0 0x0 "):
                    return int(task.name)

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def walk(self, row_of: Callable[[int], int]) -> tuple[list[int], int]:
        """Return the frames of the thread."""
        with stopped(self.thread) as registers:
            return unwind(reader(self.process.pid), row_of, *registers)

    def check(self, found: list[int], end: int) -> None:
        """Compare: all callers of `stay` are said by it, what it calls itself is not."""
        place = found.index(self.said[1])
        room = MAX_NATIVE_FRAMES - place
        assert found[place:] == self.said[1:][:room]
        assert 1 < place < 4
        assert abs(found[place - 1] - self.said[0]) < 512
        assert NATIVE_ENDS[end] == NATIVE_ENDS[NATIVE_WHOLE if len(self.said) - 1 <= room else NATIVE_CUT]


COMMANDS = {
    "program": lambda built: [built / "deep"],
    "thread": lambda built: [built / "deep", "thread"],
    "python": lambda built: [sys.executable, "-c", PYTHON, built / "deep.so", 1],
    "deep python": lambda built: [sys.executable, "-c", PYTHON, built / "deep.so", 30],
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_frames_are_those_that_the_thread_itself_finds(built: Path, kind: str):
    """Through frames by rsp, by rbp, aligned anew, larger than a page, of libc, libffi and CPython."""
    with Waiting(*COMMANDS[kind](built)) as waiting:
        found, end = waiting.walk(Codes(waiting.process.pid).row)

        waiting.check(found, end)


def test_without_rows_it_goes_by_frame_pointers(built: Path):
    """Of code that has them."""
    subprocess.run(["gcc", "-O1", "-fno-omit-frame-pointer", "-o", built / "pointers", SOURCE, "-pthread"], check=True)
    with Waiting(built / "pointers") as waiting:
        maps = Path(f"/proc/{waiting.process.pid}/maps").read_text().splitlines()
        start, _, end = next(line for line in maps if " r-xp " in line and "pointers" in line).split()[0].partition("-")
        own = range(int(start, 16), int(end, 16))
        codes = Codes(waiting.process.pid)

        found, _ = waiting.walk(lambda address: 0 if address in own else codes.row(address))

        assert [address for address in found if address in own][1:5] == [
            address for address in waiting.said if address in own
        ][1:5]


class Arrays:
    """The two arrays of the walkers, and the layouts in them."""

    def __init__(self, *, at_once: bool = True) -> None:
        files = os.memfd_create("rows"), os.memfd_create("pages")
        os.ftruncate(files[0], MAX_UNWIND_ROWS * 8)
        os.ftruncate(files[1], MAX_UNWIND_PAGES * 8)
        self.rows, self.pages = (mmap.mmap(file, 0) for file in files)
        self.layouts = Layouts(*files, at_once=at_once)

    def packed(self, pid: int) -> bytes:
        """Return the layout of a process, all its tables made."""
        packed = self.layouts.pack(pid, NO_PYTHON)
        while not all(rows for *_, rows, _, _ in codes(packed)):
            self.wait()
            packed = self.layouts.pack(pid, NO_PYTHON)
        return packed

    def wait(self) -> None:
        """Wait for tables."""
        while not self.layouts.poll():
            select.select([self.layouts.descriptor], [], [], 0.1)

    def row_of(self, packed: bytes) -> Callable[[int], int]:
        """Return the search of bpf/native.bpf.h: halving within the rows of one page, and the one before."""
        rows, pages = memoryview(self.rows).cast("Q"), memoryview(self.pages).cast("Q")
        found = codes(packed)

        def row_of(address: int) -> int:
            place = bisect_right([start for start, *_ in found], address) - 1
            _, end, bias, first, count, first_page, page_count = found[place]
            if place < 0 or address >= end:
                return 0
            low, high, page = first, first + count, (address - bias) >> UNWIND_PAGE_SHIFT
            if page + 1 < page_count:
                low = first + max(0, pages[first_page + page] - 1)
                high = first + pages[first_page + page + 1]
            behind = bisect_right([row & 0xFFFFFFFF for row in rows[low:high]], address - bias)
            return rows[low + behind - 1] if behind else 0

        return row_of


def codes(packed: bytes) -> list[tuple[int, ...]]:
    _, count, _ = LAYOUT_HEAD.unpack_from(packed)
    return [CODE.unpack_from(packed, LAYOUT_HEAD.size + number * CODE.size) for number in range(count)]


@pytest.fixture(scope="module")
def arrays() -> Iterator[Arrays]:
    arrays = Arrays()
    yield arrays
    arrays.layouts.close()


def test_layouts_lead_to_the_same_frames(built: Path, arrays: Arrays):
    """As the kernel's side searches in them."""
    with Waiting(*COMMANDS["python"](built)) as waiting:
        packed = arrays.packed(waiting.process.pid)

        found, end = waiting.walk(arrays.row_of(packed))

        waiting.check(found, end)
        assert len(packed) == LAYOUT_BYTES
        assert packed[:40] == NO_PYTHON


def test_each_library_has_its_rows_once(built: Path, arrays: Arrays):
    """Two processes of one program: the same rows at other addresses."""
    with Waiting(built / "deep") as one, Waiting(built / "deep") as other:
        packed = [codes(arrays.packed(waiting.process.pid)) for waiting in (one, other)]

        assert [code[3:] for code in packed[0]] == [code[3:] for code in packed[1]]
        assert [code[0] for code in packed[0]] != [code[0] for code in packed[1]]
        assert (arrays.layouts.full, arrays.layouts.torn, arrays.layouts.refused) == (0, 0, 0)


def test_the_table_of_a_large_library_is_made_when_it_is_seen(built: Path, monkeypatch: pytest.MonkeyPatch):
    """The program, libc and the vDSO are at once; libm, in which nobody is, not before somebody was."""
    monkeypatch.setattr(layouts, "_LARGE", 0)
    arrays = Arrays(at_once=False)
    with Waiting(sys.executable, "-c", PYTHON, built / "deep.so", 1) as waiting:
        pid = waiting.process.pid

        def lacking() -> set[str]:
            """Return the names of the files without rows, once all tables are made that were asked for."""
            arrays.layouts.pack(pid, NO_PYTHON)
            while arrays.layouts.is_waiting:
                arrays.wait()
            packed = codes(arrays.layouts.pack(pid, NO_PYTHON))
            maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
            names = {int(start.partition("-")[0], 16): path[0] for start, _, _, _, _, *path in maps if path}
            return {Path(names[start]).name for start, *_, rows, _, _ in packed if not rows}

        before = lacking()
        arrays.layouts.see(pid, waiting.said)
        after = lacking()

        assert {"deep.so", "libm.so.6"} <= before
        assert not before & {"libc.so.6", "[vdso]", Path(sys.executable).resolve().name}
        assert "libm.so.6" in after
        assert "deep.so" in before - after
    arrays.layouts.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to open what is mapped")
def test_files_that_are_deleted_or_torn(built: Path, tmp_path: Path):
    """A deleted program has rows; a file that is no library has none, and is counted."""
    program = tmp_path / "deleted"
    program.write_bytes((built / "deep").read_bytes())
    program.chmod(0o755)
    torn = tmp_path / "torn"
    torn.write_bytes(b"\x7fELF" * 2048)
    arrays = Arrays()
    with Waiting(program) as waiting, torn.open("rb") as file:
        program.unlink()
        mapped = mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)

        packed = codes(arrays.packed(waiting.process.pid))
        arrays.layouts.pack(os.getpid(), NO_PYTHON)
        while not arrays.layouts.torn:
            arrays.wait()

        assert all(rows for *_, rows, _, _ in packed)
        assert arrays.layouts.torn == 1
    mapped.close()
    arrays.layouts.close()


def test_the_process_that_makes_tables_may_die(built: Path):
    """One library has no rows then; the others have."""
    arrays = Arrays()
    with Waiting(built / "deep") as waiting:
        arrays.layouts.pack(waiting.process.pid, NO_PYTHON)
        worker = arrays.layouts._tables._worker
        assert worker
        worker.kill()
        worker.wait()

        lacking = 5
        while lacking > 1:
            arrays.wait()
            packed = codes(arrays.layouts.pack(waiting.process.pid, NO_PYTHON))
            lacking = sum(not rows for *_, rows, _, _ in packed)

        assert (lacking, arrays.layouts.torn) == (1, 1)
    arrays.layouts.close()


def test_a_process_that_cannot_be_started_is_tried_again(built: Path, monkeypatch: pytest.MonkeyPatch):
    """Where no more processes may run, tables come later."""
    arrays = Arrays()
    with Waiting(built / "deep") as waiting:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/nowhere/python")
            arrays.layouts.pack(waiting.process.pid, NO_PYTHON)
            assert not arrays.layouts.poll()

        assert all(rows for *_, rows, _, _ in codes(arrays.packed(waiting.process.pid)))
    arrays.layouts.close()
