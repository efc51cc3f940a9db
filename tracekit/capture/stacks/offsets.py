"""
Where CPython keeps threads, frames and code objects: bytes from the start of each structure.

3.8 to 3.12 by a table, of which tests/unit/python_headers.py prints the rows from the headers that come with an
interpreter. From 3.13 on an interpreter says it itself, in a table of 64-bit words at the start of _PyRuntime; which
word says what differs between minor versions.

Source:
    Include/internal/pycore_debug_offsets.h (3.13: pycore_runtime.h).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

COOKIE = b"xdebugpy"
_SAID_WORDS = 64
SAID_BYTES = 8 * _SAID_WORDS
"""How much of _PyRuntime to read for `said`."""
_MOST = 1 << 16
_VERSION, _FREE_THREADED = 1, 2  # words


class UnknownLayoutError(Exception):
    """Why an interpreter's own table is not understood; one line."""


@dataclass(frozen=True)
class Offsets:
    """
    Bytes from the start of a structure; 0 where a version has no such field.

    Attributes:
        head: of the first interpreter, in _PyRuntime.
        thread_frame: 3.11 and 3.12: its cframe; else its top frame.
        frame_at: 3.8 to 3.10: f_lasti (int); else the address of an instruction.
        code_name: from 3.11 the qualified name.
        code_units: from 3.11: of the instructions in a code object.
        text_ascii, text_compact: of the characters of a str.
    """

    head: int
    interpreter_next: int
    interpreter_threads: int
    thread_next: int
    thread_interpreter: int
    thread_id: int
    thread_frame: int
    frame_code: int
    frame_back: int
    frame_at: int
    code_name: int
    code_file: int
    code_table: int
    code_first: int
    text_ascii: int
    text_compact: int
    cframe_frame: int = 0
    thread_chunk: int = 0
    frame_owner: int = 0
    frame_is_entry: int = 0
    code_units: int = 0


TABLE = {
    8: Offsets(
        head=32,
        interpreter_next=0,
        interpreter_threads=8,
        thread_next=8,
        thread_interpreter=16,
        thread_id=176,
        thread_frame=24,
        frame_code=32,
        frame_back=24,
        frame_at=104,
        code_name=112,
        code_file=104,
        code_table=120,
        code_first=40,
        text_ascii=48,
        text_compact=72,
    ),
    9: Offsets(
        head=32,
        interpreter_next=0,
        interpreter_threads=8,
        thread_next=8,
        thread_interpreter=16,
        thread_id=176,
        thread_frame=24,
        frame_code=32,
        frame_back=24,
        frame_at=104,
        code_name=112,
        code_file=104,
        code_table=120,
        code_first=40,
        text_ascii=48,
        text_compact=72,
    ),
    10: Offsets(
        head=32,
        interpreter_next=0,
        interpreter_threads=8,
        thread_next=8,
        thread_interpreter=16,
        thread_id=176,
        thread_frame=24,
        frame_code=32,
        frame_back=24,
        frame_at=96,
        code_name=112,
        code_file=104,
        code_table=120,
        code_first=40,
        text_ascii=48,
        text_compact=72,
    ),
    11: Offsets(
        head=40,
        interpreter_next=0,
        interpreter_threads=16,
        thread_next=8,
        thread_interpreter=16,
        thread_id=152,
        thread_frame=56,
        frame_code=32,
        frame_back=48,
        frame_at=56,
        code_name=128,
        code_file=112,
        code_table=136,
        code_first=72,
        text_ascii=48,
        text_compact=72,
        cframe_frame=8,
        thread_chunk=296,
        frame_is_entry=68,
        code_units=184,
    ),
    12: Offsets(
        head=40,
        interpreter_next=0,
        interpreter_threads=72,
        thread_next=8,
        thread_interpreter=16,
        thread_id=136,
        thread_frame=56,
        frame_code=0,
        frame_back=8,
        frame_at=56,
        code_name=128,
        code_file=112,
        code_table=136,
        code_first=68,
        text_ascii=40,
        text_compact=56,
        thread_chunk=232,
        frame_owner=70,
        code_units=192,
    ),
}
"""By minor version, as of 3.8.18, 3.9.18, 3.10.13, 3.11.7 and 3.12.1."""


class _Section(NamedTuple):
    """A structure in an interpreter's own table: its number of words, and which of them are which field."""

    words: int
    fields: dict[str, int]


_RUNTIME = _Section(3, {"head": 2})
_THREAD = _Section(9, {"thread_next": 2, "thread_interpreter": 3, "thread_frame": 4, "thread_id": 5, "thread_chunk": 7})
_FRAME = {"frame_back": 1, "frame_code": 2, "frame_at": 3, "frame_owner": 5}
_CODE = {"code_file": 1, "code_name": 3, "code_table": 4, "code_first": 5, "code_units": 9}
_INTERPRETER = {"interpreter_next": 2, "interpreter_threads": 3}
SAID = {
    13: (_RUNTIME, _Section(13, _INTERPRETER), _THREAD, _Section(6, _FRAME), _Section(10, _CODE)),
    14: (_RUNTIME, _Section(16, _INTERPRETER), _THREAD, _Section(8, _FRAME), _Section(11, _CODE)),
}
"""Behind three words, by minor version. 3.14 was read, and no interpreter asked."""


def said(table: bytes) -> tuple[int, Offsets]:
    """
    Return minor version and offsets as an interpreter from 3.13 on says them.

    Args:
        table: the first SAID_BYTES of _PyRuntime, which begin with COOKIE.

    Raises:
        UnknownLayoutError: it is of a version that is not known, of a build without a GIL, or torn.
    """
    words = struct.unpack_from(f"<{_SAID_WORDS}Q", table)
    minor = minor_of(words[_VERSION])
    if words[_FREE_THREADED]:
        raise UnknownLayoutError("it is a build without a GIL (free-threaded)")
    if minor not in SAID:
        raise UnknownLayoutError(f"its version is not known (PY_VERSION_HEX {words[_VERSION]:#x})")
    found, at = {"text_ascii": 40, "text_compact": 56}, 3
    for section in SAID[minor]:
        found |= {name: words[at + word] for name, word in section.fields.items()}
        at += section.words
    if not all(0 <= value < _MOST for value in found.values()):
        raise UnknownLayoutError("its own table of offsets makes no sense")
    return minor, Offsets(**found)


def minor_of(version: int) -> int:
    """Return the minor version that a PY_VERSION_HEX says, 0 if it is none of Python 3."""
    return version >> 16 & 0xFF if version >> 24 & 0xFF == 3 else 0
