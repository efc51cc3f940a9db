"""One wire format, three readers: bpf/abi, the built programs, tracekit/capture/wire.py and stacks/layout.py."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.lab import ROOT
from tracekit.capture import wire
from tracekit.capture.stacks import layout as stacks

if TYPE_CHECKING:
    from pathlib import Path

HEADERS = ROOT / "bpf" / "abi"
OBJECTS = ROOT / "tracekit" / "capture" / "bpf" / "objects"
OBJECT = OBJECTS / "tracekit.bpf.o"
OF_DATABASES = OBJECTS / "db.bpf.o"
OF_STACKS = OBJECTS / "stacks.bpf.o"
FORMATS = {
    "key": wire.KEY,
    "head": wire.HEAD,
    "account": wire.ACCOUNT,
    "cpu": wire.CPU,
    "shared": wire.SHARED,
    "life_record": wire.LIFE,
    "task_record": wire.TASK,
    "config": wire.CONFIG,
    "parts": wire.PARTS,
    "slow": wire.SLOW,
    "span_record": wire.SPAN,
    "board": wire.BOARD,
    "peer": wire.PEER,
    "connection": wire.CONNECTION,
    "db_text": wire.DB_TEXT,
    "python": stacks.PYTHON,
    "code": stacks.CODE,
    "stack_record": stacks.RECORD,
    "sleeper": stacks.SLEEPER,
}
WORDS = {
    "reason": ("R_", wire.REASONS),
    "loss_reason": ("LOSS_", wire.LOSSES),
    "task": ("TASK_IS_", wire.TASK_STATES),
    "db_system": ("DB_", ("unknown", *wire.DB_SYSTEMS[1:])),
    "python_end": ("PYTHON_", stacks.PYTHON_ENDS),
    "native_end": ("NATIVE_", stacks.NATIVE_ENDS),
}
HEAD = stacks.LAYOUT_HEAD.size
Field = tuple[int, int, str]
"""Offset and size in bytes, and the name or the code of its format."""


class Btf:
    """Types of a compiled file."""

    def __init__(self, path: Path) -> None:
        tool = shutil.which("bpftool", path="/usr/sbin:/sbin:/usr/bin:/bin")
        assert tool, "the wire format is read from BTF: apt install bpftool"
        command = [tool, "btf", "dump", "file", str(path), "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        self.types: dict[int, Any] = {kind["id"]: kind for kind in json.loads(done.stdout)["types"]}

    def named(self, kind: str, name: str) -> Any:
        """Return the type, None if there is none."""
        return next((t for t in self.types.values() if t["kind"] == kind and t["name"] == name), None)

    def constants(self) -> dict[str, int]:
        """Return all constants of all enums."""
        enums = [t for t in self.types.values() if t["kind"] == "ENUM"]
        return {value["name"]: value["val"] for enum in enums for value in enum["values"]}

    def size(self, ident: int) -> int:
        """Return the size of a type in bytes."""
        found = self.types[ident]
        if found["kind"] == "ARRAY":
            return int(found["nr_elems"] * self.size(found["type_id"]))
        return int(found["size"]) if "size" in found else self.size(found["type_id"])

    def fields(self, name: str) -> list[Field]:
        """Return the fields of a struct, arrays of numbers and structs taken apart."""
        return self._members(self.named("STRUCT", name), 0)

    def _members(self, struct: Any, base: int) -> list[Field]:
        found: list[Field] = []
        for member in struct["members"]:
            offset, ident = base + member["bits_offset"] // 8, member["type_id"]
            array = self.types[ident] if self.types[ident]["kind"] == "ARRAY" else None
            if array and self.size(array["type_id"]) == 1:  # a text
                array = None
            times, each = (array["nr_elems"], array["type_id"]) if array else (1, ident)
            for at in range(offset, offset + times * self.size(each), self.size(each)):
                if self.types[each]["kind"] == "STRUCT":
                    found += self._members(self.types[each], at)
                else:
                    found.append((at, self.size(each), member["name"]))
        return found


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Btf:
    """The types of the headers themselves."""
    out = tmp_path_factory.mktemp("abi") / "abi.o"
    keep = "-fno-eliminate-unused-debug-types"
    both = b'#include "wire.h"\n#include "stacks.h"\n'
    command = ["gcc", "-gbtf", keep, "-I", str(HEADERS), "-c", "-x", "c", "-", "-o", str(out)]
    subprocess.run(command, check=True, input=both)
    return Btf(out)


def fields_of(layout: struct.Struct) -> list[Field]:
    """Return the fields of a struct format; padding is none."""
    assert layout.format[0] == "=", "the wire has one byte order and no padding"
    found: list[Field] = []
    offset = 0
    for times, code in re.findall(r"(\d*)([a-zA-Z])", layout.format[1:]):
        size = struct.calcsize("=" + code)
        if code in "sx":
            size, count = int(times or 1), 1
        else:
            count = int(times or 1)
        found += [(offset + i * size, size, code) for i in range(count) if code != "x"]
        offset += size * count
    return found


def test_what_is_looked_at_in_a_record_is_there(header: Btf) -> None:
    """Fields that are read without unpacking the rest."""
    members = {
        member["name"]: member["bits_offset"] // 8 for member in header.named("STRUCT", "stack_record")["members"]
    }

    found = {"python": stacks.PYTHON_AT, "natives": stacks.NATIVES_AT, "native_end": stacks.NATIVE_END_AT}

    assert found.items() <= members.items()


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_the_structs(header: Btf, name: str) -> None:
    """Every field that Python unpacks is a field of the C struct, in place and size; sizes agree."""
    layout = FORMATS[name]
    expected = {(offset, size) for offset, size, _ in header.fields(name)}

    found = {(offset, size) for offset, size, _ in fields_of(layout)}

    assert layout.size == header.named("STRUCT", name)["size"]
    assert found <= expected


def test_a_layout_is_its_head_and_mappings(header: Btf) -> None:
    """struct layout is packed in two parts: that of Python and the number of mappings, then these."""
    members = {member["name"]: member["bits_offset"] // 8 for member in header.named("STRUCT", "layout")["members"]}

    assert members == {"python": 0, "codes": stacks.PYTHON.size, "version": stacks.PYTHON.size + 4, "code": HEAD}
    assert header.named("STRUCT", "layout")["size"] == stacks.LAYOUT_BYTES == HEAD + stacks.MAX_CODE * stacks.CODE.size


@pytest.mark.parametrize("name", FORMATS)
def test_python_leaves_out_only_what_is_unused(header: Btf, name: str) -> None:
    """A field of the C struct that no format reads is called unused or spare."""
    read = {offset for offset, _, _ in fields_of(FORMATS[name])}

    left_out = {label for offset, _, label in header.fields(name) if offset not in read}

    assert {label.rstrip("2") for label in left_out} <= {"unused", "spare"}


def test_constants_are_equal(header: Btf) -> None:
    """A number of the headers that Python knows by the same name has the same value."""
    known = {name: value for name, value in {**vars(wire), **vars(stacks)}.items() if isinstance(value, int)}
    shared = {name: value for name, value in header.constants().items() if name in known}

    assert shared["SLOTS"] == wire.SLOTS_BYTES // 8 == 4608
    assert len(shared) > 60
    assert {"MAX_UNWIND_ROWS", "PYTHON_NO_UNIT", "UNWIND_RBP_LOST", "NATIVE_NO_ROW", "STACK_ERROR"} <= shared.keys()
    assert {name: known[name] for name in shared} == shared


@pytest.mark.parametrize(("prefix", "words"), WORDS.values(), ids=WORDS)
def test_words_are_the_constants(header: Btf, prefix: str, words: tuple[str, ...]) -> None:
    """Reasons, losses and states are spelled as in C, in the order of their values."""
    constants = header.constants()

    assert [constants[prefix + word.upper().replace(" ", "_")] for word in words] == list(range(len(words)))


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (OBJECT, {"key", "head", "account", "cpu", "shared", "config"}),
        (OF_DATABASES, {"key", "shared", "config", "peer", "connection", "db_text"}),
        (OF_STACKS, {"config", "python", "code", "stack_record"}),
    ],
)
def test_the_built_object_has_this_format(header: Btf, path: Path, names: set[str]) -> None:
    """The objects in the package were built from this header: structs of both are the same."""
    built = Btf(path)
    both = [name for name in FORMATS if built.named("STRUCT", name)]

    assert names <= set(both)
    for name in both:
        assert built.fields(name) == header.fields(name)


@pytest.mark.parametrize(
    ("path", "name", "length"),
    [
        (OBJECT, "lives", wire.RING_BYTES),
        (OBJECT, "slow_spans", wire.SLOW_RING_BYTES),
        (OF_DATABASES, "db_texts", wire.DB_TEXTS_BYTES),
        (OF_STACKS, "stack_records", stacks.RECORDS_BYTES),
    ],
)
def test_the_rings_are_as_long_as_python_thinks(path: Path, name: str, length: int) -> None:
    """The size of a ring is part of the wire: it is where the reader wraps."""
    built = Btf(path)
    ring = built.types[built.named("VAR", name)["type_id"]]
    (size,) = (member["type_id"] for member in ring["members"] if member["name"] == "max_entries")

    assert built.types[built.types[size]["type_id"]]["nr_elems"] == length
