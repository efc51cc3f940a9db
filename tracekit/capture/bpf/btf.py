"""
The type information of the running kernel: which id a type has.

The format is that of Documentation/bpf/btf.rst: a header, the types one after the other, each
of 12 bytes and a tail whose length its kind tells, and the strings their names point into. An
id is a type's place in that order, so a look-up walks them all: some 0.1 s for 100,000 types. The
programs of a recording do not need it: their loader looks their ids up in the kernel.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

VMLINUX = Path("/sys/kernel/btf/vmlinux")

TYPEDEF, FUNC = 8, 12  # enum of kinds in include/uapi/linux/btf.h
_MAGIC = 0xEB9F
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = (
    1,
    3,
    4,
    5,
    6,
    13,
    14,
    15,
    17,
    19,
)
_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=II4x")
_FIXED_TAIL = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_MEMBER_TAIL = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}


def ids(wanted: Collection[tuple[int, str]], path: Path = VMLINUX) -> dict[tuple[int, str], int]:
    """
    Return the ids of *wanted*, (kind, name) pairs; one that the kernel has not is left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no BTF of this machine's byte order.
    """
    data = path.read_bytes()
    magic, _version, _flags, header, type_at, type_bytes, string_at, string_bytes = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError(f"{path} is no BTF")
    strings = data[header + string_at : header + string_at + string_bytes]
    offsets = {strings.find(f"\0{name}\0".encode()) + 1: (kind, name) for kind, name in wanted}
    offsets.pop(0, None)
    return _walk(data[header + type_at : header + type_at + type_bytes], offsets)


def _walk(types: bytes, offsets: dict[int, tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Return the id of each type whose name is at one of *offsets* and whose kind is the one wanted."""
    found = {}
    at, number = 0, 0
    while at < len(types):
        number += 1
        name, info = _TYPE.unpack_from(types, at)
        kind, members = info >> 24 & 0x1F, info & 0xFFFF
        if name in offsets and offsets[name][0] == kind:
            found[offsets[name]] = number
        at += _TYPE.size + (_FIXED_TAIL.get(kind) or _MEMBER_TAIL.get(kind, 0) * members)
    return found


def tiny() -> bytes:
    """Return a BTF with an `int` (id 1) and a `long` (id 2): what a map of per-task state must be described by."""
    strings = b"\0int\0long\0"
    signed = 1 << 24
    types = struct.pack("=4I", 1, _INT << 24, 4, signed | 32) + struct.pack("=4I", 5, _INT << 24, 8, signed | 64)
    header = _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, 0, len(types), len(types), len(strings))
    return header + types + strings
