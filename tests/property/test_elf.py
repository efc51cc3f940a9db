"""Reading libraries of processes that nobody trusts."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.capture import elf
from tracekit.capture.libraries.place import MOST_BYTES, place

HEADER = 64


def library(functions: dict[str, int], code: int = 0x1000, moved: int = 0x2000) -> bytes:
    """
    Return an ELF file of which only what is read is there.

    Its code is at offset *code*, and in memory *moved* bytes further on; functions by name are at offsets from there.
    """
    names = b"\0" + b"".join(name.encode() + b"\0" for name in functions)
    symbols = bytes(24)
    for name, offset in functions.items():
        place_of_name = names.index(b"\0" + name.encode() + b"\0") + 1
        symbols += struct.pack("<IBBHQQ", place_of_name, 0x12, 0, 1, code + moved + offset, 16)
    segment = struct.pack("<IIQQQQQQ", 1, 5, code, code + moved, 0, 0x1000, 0x1000, 0x1000)
    strings_at = HEADER + len(segment)
    symbols_at = strings_at + len(names)
    sections_at = symbols_at + len(symbols)
    sections = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, strings_at, len(names), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, symbols_at, len(symbols), 0, 0, 8, 24)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, 62, 1, 0, HEADER, sections_at, 0, HEADER, 56, 1, 64, 2, 0)
    return (header + segment + names + symbols + sections).ljust(code + 0x1000, b"\x90")


def read(content: bytes, names: list[str]) -> dict[str, list[elf.Function]]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return elf.read(file.fileno(), names)


NAMES = st.lists(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,20}", fullmatch=True), min_size=1, max_size=8, unique=True)


@given(NAMES, st.data())
def test_functions_are_where_they_are(names: list[str], data: st.DataObject):
    """By address, by place in the file, and in their segment; those that nobody asks for are left out."""
    offsets = {name: data.draw(st.integers(0, 0xFFF)) for name in names}
    asked = data.draw(st.lists(st.sampled_from(names), unique=True))

    found = read(library(offsets), asked)

    assert found == {
        name: [elf.Function(0x1000 + offsets[name], 0x3000 + offsets[name], offsets[name], 0x1000)] for name in asked
    }


@settings(max_examples=500)
@given(st.data())
def test_a_torn_library_is_no_library(data: st.DataObject):
    """Bytes changed, or missing at the end: it is read, or refused with a word; nothing else."""
    content = bytearray(library({"sqlite3_step": 1, "sqlite3_reset": 2}))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, 0x200))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        content[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]

    try:
        found = read(bytes(content), ["sqlite3_step", "sqlite3_reset"])
    except elf.NotElfError as error:
        assert str(error)
    else:
        assert set(found) <= {"sqlite3_step", "sqlite3_reset"}


@given(st.binary(max_size=MOST_BYTES), st.frozensets(st.integers(0, 15)), st.booleans())
def test_any_code_has_a_place(code: bytes, arguments: frozenset[int], returns: bool):
    """Inside of it, or at its beginning."""
    found = place(code, arguments, returns=returns)

    assert 0 <= found.offset < max(1, len(code))
    assert not (returns and found.stack)


def test_real_libraries():
    """As binutils read the libraries of this machine."""
    path = Path("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0")
    assert path.exists(), "apt install libsqlite3-0"
    listed = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    truth = {name.partition("@")[0]: int(address, 16) for address, kind, name in rows if kind == "T"}
    file = os.open(path, os.O_RDONLY)

    found = elf.read(file, list(truth))

    os.close(file)
    assert {name: function.address for name, (function, *_) in found.items()} == truth


def test_variables_of_a_real_program():
    """As binutils read those of Debian's Python; a function is none."""
    listed = subprocess.run(["nm", "-D", "/usr/bin/python3"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    names = {"_PyRuntime", "PyCode_Type", "Py_Version"}
    file = os.open("/usr/bin/python3", os.O_RDONLY)

    found = elf.objects(file, {*names, "Py_Initialize", "no_such_name"})

    os.close(file)
    assert found == {row[2]: int(row[0], 16) for row in rows if row[-1] in names}
