"""Names of native frames: what nm says, by library for all processes, also of those that have gone."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import threading
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tracekit.capture import elf
from tracekit.capture.stacks.functions import Functions, functions
from tracekit.capture.stacks.mangled import plain
from tracekit.capture.stacks.mappings import mappings
from tracekit.capture.stacks.symbols import Symbols

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = r"""
#include <cstdio>
#include <unistd.h>
namespace app {
struct Worker {
    template <class T> __attribute__((noinline)) static int run(T x) { return x + getpid(); }
};
}
extern "C" __attribute__((noinline)) int plain_c(int x) { return x * getpid(); }
static __attribute__((noinline)) int hidden(int x) { return x - getpid(); }
int main() {
    printf("%p %p %p\n", (void *)&app::Worker::run<int>, (void *)plain_c, (void *)hidden);
    fflush(stdout);
    pause();
    return app::Worker::run(1) + plain_c(2) + hidden(3);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program in C++ that prints where its functions are and waits."""
    path = tmp_path_factory.mktemp("symbols")
    (path / "app.cpp").write_text(PROGRAM)
    subprocess.run(["g++", "-O1", "-g", "-o", str(path / "app"), str(path / "app.cpp")], check=True)
    return path / "app"


@pytest.fixture
def symbols() -> Iterator[Symbols]:
    names = Symbols()
    yield names
    names.close()


class _Running:
    """A program that runs, and the addresses that it printed."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.pid = self.process.pid
        self.addresses = [int(word, 16) for word in self.process.stdout.readline().split()]

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _named(symbols: Symbols, pid: int, addresses: list[int]) -> list[str]:
    symbols.names(pid, addresses)
    assert symbols.settle(60)
    found = symbols.names(pid, addresses)
    return [found[address] for address in addresses]


def _truth(library: Path, *options: str) -> dict[int, set[str]]:
    """Return the names at each address with a function, as nm has them."""
    given = subprocess.run(["nm", *options, str(library)], capture_output=True, text=True, check=True).stdout
    found: dict[int, set[str]] = {}
    for words in map(str.split, given.splitlines()):
        if len(words) == 3 and words[1] in "tTwWiI":
            found.setdefault(int(words[0], 16), set()).add(words[2].partition("@")[0])
    return found


def test_a_program_in_cpp(program, symbols):
    """Templates, C functions, static ones; between functions is none."""
    with _Running(str(program)) as running:
        run, plain, hidden = running.addresses

        assert _named(symbols, running.pid, [run + 1, plain, hidden + 2, 0x10]) == [
            *("app::Worker::run (app)", "plain_c (app)", "hidden (app)", "0x10 (?)")
        ]


def test_names_that_are_traps(program, symbols, tmp_path):
    """Names may have any characters and any length; the frame ends in the library in any case."""
    for name in ("a;b\n[deeper frames cut]", "f (libpython3.so)", "\x1b[2J\u202e", "x" * 5000):
        odd = tmp_path / f"odd{len(name)}"
        subprocess.run(["objcopy", "--redefine-sym", f"plain_c={name}", str(program), str(odd)], check=True)
        with _Running(str(odd)) as running:
            assert _named(symbols, running.pid, running.addresses[1:2]) == [f"{name[:512]} ({odd.name})"]


def test_a_stripped_program(program, symbols, tmp_path):
    """Without a symbol a frame is the address in the file, the same in every run."""
    stripped = tmp_path / "bare"
    subprocess.run(["strip", "-o", str(stripped), str(program)], check=True)
    inside = {address for address, names in _truth(program).items() if "plain_c" in names}.pop()

    with _Running(str(stripped)) as running:
        assert _named(symbols, running.pid, [running.addresses[1]]) == [f"+{inside:#x} (bare)"]


def test_a_debug_file(program, tmp_path):
    """A stripped library is named by the file that has its build id."""
    stripped = tmp_path / "bare"
    subprocess.run(["strip", "-o", str(stripped), str(program)], check=True)
    notes = subprocess.run(["readelf", "-n", str(program)], capture_output=True, text=True, check=True).stdout
    build = notes.partition("Build ID: ")[2].split()[0]
    debug = tmp_path / ".build-id" / build[:2] / f"{build[2:]}.debug"
    debug.parent.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", str(program), str(debug)], check=True)
    inside = {address for address, names in _truth(program).items() if "plain_c" in names}.pop()

    library = functions(os.open(stripped, os.O_RDONLY), tmp_path)

    assert library.name(inside + 1) == "plain_c"
    library.close()


def test_a_program_that_was_replaced(program, symbols, tmp_path):
    """Names are those of the file that runs, which has no name any more."""
    copy = tmp_path / "app"
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o755)
    with _Running(str(copy)) as running:
        copy.unlink()
        copy.write_text("another one")

        assert _named(symbols, running.pid, running.addresses[1:2]) == ["plain_c (app)"]


def test_the_vdso(symbols):
    """Code of the kernel in every process, which is in no file."""
    vdso = next(each for each in mappings(Path("/proc/self"))[0] if each.path == b"[vdso]")

    names = _named(symbols, os.getpid(), list(range(vdso.start, vdso.end, 16)))

    assert {"clock_gettime ([vdso])", "getcpu ([vdso])"} <= set(names)


def test_a_process_that_has_gone(program, symbols):
    """What was seen while it lived is named afterwards: its files are still open."""
    with _Running(str(program)) as running:
        symbols.know(running.pid)

    assert _named(symbols, running.pid, running.addresses[1:2]) == ["plain_c (app)"]
    symbols.forget([])
    assert _named(symbols, running.pid, running.addresses[1:2]) == [f"{running.addresses[1]:#x} (?)"]


def test_nobody_waits_for_names(program, symbols):
    """The first answer is what is known: nothing; the second one has all."""
    with _Running(str(program)) as running:
        assert symbols.names(running.pid, running.addresses) == {}
        assert symbols.settle(60)
        assert set(symbols.names(running.pid, running.addresses)) == set(running.addresses)


LIBRARIES = ["libc.so.6", "libm.so.6", "libstdc++.so.6", "libz.so.1"]


@pytest.mark.parametrize("name", LIBRARIES)
def test_against_nm(name, tmp_path):
    """Each function of a real library, at its first byte; no library of debug files."""
    library = Path("/usr/lib/x86_64-linux-gnu", name)
    truth = _truth(library, "-D")
    named = functions(os.open(library, os.O_RDONLY), tmp_path)

    wrong = {
        at: names for at, names in truth.items() if not at or named.name(at) not in {*names, *map(_demangled, names)}
    }

    named.close()
    assert wrong == {}


def _demangled(name: str) -> str:
    return plain(name.encode())


class _BccSymbol(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("demangled", ctypes.c_char_p),
        ("module", ctypes.c_char_p),
        ("offset", ctypes.c_ulonglong),
    )


def _bcc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libbcc.so.0")
    except OSError:
        return None
    library.bcc_symcache_new.restype = ctypes.c_void_p
    library.bcc_symcache_new.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.bcc_symcache_resolve_no_demangle.argtypes = [ctypes.c_void_p, ctypes.c_ulonglong, ctypes.c_void_p]
    return library


def test_against_bcc(symbols):
    """Random addresses in this process: bcc's symbol cache has the same functions, by one of their names."""
    bcc = _bcc()
    assert bcc, "apt install python3-bpfcc"
    cache, symbol, picked = bcc.bcc_symcache_new(os.getpid(), None), _BccSymbol(), random.Random(4)
    code = [each for each in mappings(Path("/proc/self"))[0] if b"python3" in each.path or b"libc.so" in each.path]
    addresses = [picked.randrange(each.start, each.end) for each in code for _ in range(1500)]
    found = [
        (address, address - symbol.offset, plain(symbol.name))
        for address in addresses
        if bcc.bcc_symcache_resolve_no_demangle(cache, address, ctypes.byref(symbol)) == 0
    ]

    ours = _by_address(symbols, [each for address, start, _ in found for each in (address, start, start - 1)])

    wrong = [
        (name, ours[address])
        for address, start, name in found
        if ours[address] != ours[start] or (ours[start] == ours[start - 1] and not ours[start].startswith(f"{name} ("))
    ]
    assert len(found) > 500
    assert wrong == []


def _by_address(symbols: Symbols, addresses: list[int]) -> dict[int, str]:
    return dict(zip(addresses, _named(symbols, os.getpid(), addresses), strict=True))


def _changed(program: Path, at: int, words: list[int]) -> bytes:
    """Return the program with the first entries of its table of symbols overwritten."""
    content = bytearray(program.read_bytes())
    file = os.open(program, os.O_RDONLY)
    rows = max((rows for rows, _, _ in elf.tables(file)), key=len)
    os.close(file)
    place = content.find(rows) + at
    content[place : place + 8 * len(words)] = array("Q", words).tobytes()
    return bytes(content)


HEAD = 1 | 2 << 32 | 1 << 48


@pytest.mark.parametrize(
    "words",
    [
        [HEAD, 0, 1 << 63],
        [HEAD, (1 << 64) - 1, (1 << 64) - 1] * 8,
        [(1 << 64) - 1] * 24,
        [HEAD | 0xFFFFFFFF, 0x1000, 16],
    ],
)
def test_tables_that_are_traps(program, words, tmp_path):
    """Functions of any size and place, names outside of the file."""
    path = tmp_path / "torn"
    path.write_bytes(_changed(program, 24, words))
    before = time.thread_time()

    library = functions(os.open(path, os.O_RDONLY), tmp_path)
    names = [library.name(at) for at in range(0, 1 << 16, 64)]

    library.close()
    assert all(isinstance(name, str) for name in names)
    assert time.thread_time() - before < 1


def test_functions_that_reach_too_far(program, tmp_path):
    """A table that says of each of its functions that it is as large as can be would fill the memory."""
    file = os.open(program, os.O_RDONLY)
    rows = array("Q", [HEAD, 0, 1 << 40]) * 40_000
    library = Functions(file)

    with pytest.raises(elf.NotElfError, match="larger"):
        library._add(rows.tobytes(), 0, 1 << 20)
    with pytest.raises(elf.NotElfError, match="beyond"):
        library._add(rows.tobytes(), 1 << 63, 1 << 20)

    library.close()


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + b"\xff" * 4096])
def test_files_that_are_none(content, tmp_path):
    """What is no library has no names; its file is closed."""
    path = tmp_path / "file"
    path.write_bytes(content)
    before = _open_files()

    with pytest.raises(elf.NotElfError):
        functions(os.open(path, os.O_RDONLY), tmp_path)

    assert _open_files() == before


def test_files_are_closed(program):
    """As many descriptors after as before."""
    for thread in threading.enumerate():
        if thread.name == "symbols":
            thread.join(5)
    before = _open_files()
    symbols = Symbols()
    with _Running(str(program)) as running:
        _named(symbols, running.pid, running.addresses)
    assert _open_files() > before

    symbols.close()
    symbols._thread.join(5)

    assert _open_files() <= before
