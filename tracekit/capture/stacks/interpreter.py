"""
The CPython in a process: where it keeps its threads and frames.

The path of a mapped file is what a process chose: it is only matched with patterns. What is in the file and in the
memory is not believed either: before an interpreter is said to be there, its threads are walked once.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import elf
from tracekit.capture.libraries.mapped import Identity, UnfitError, contents, file_behind
from tracekit.capture.stacks import layout, offsets, threads
from tracekit.capture.stacks.code import is_code_type
from tracekit.capture.stacks.memory import read
from tracekit.capture.stacks.offsets import Offsets, UnknownLayoutError

if TYPE_CHECKING:
    from tracekit.capture.stacks.memory import Read, Reader

_MAPS_BYTES = 1 << 24
_LINE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) ([0-9]+) +(/.*)$", re.MULTILINE)
_WRITABLE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) .w", re.MULTILINE)
_NAMED = re.compile(rb"/(?:lib)?python(?P<major>[23])(?:\.(?P<minor>\d+))?[^/]*$")
_MINOR = re.compile(rb"(?:\.cpython-3|/python3\.)(\d+)[-/]")
_PAGE = 4096
_OWNER_C = 3  # FRAME_OWNED_BY_CSTACK (3.12, 3.13), FRAME_OWNED_BY_INTERPRETER (from 3.14)
_CODE_MASK = 3  # Py_TAG_BITS
_SYMBOLS = ("_PyRuntime", "PyCode_Type", "Py_Version")
_MOST_BINARIES, _MOST_CANDIDATES = 256, 16
_TRIES = 4  # a thread that runs changes its frames while they are read
_LOOK = 4  # frames
_KNOWN = "3.8 to 3.14"


class UnknownPythonError(Exception):
    """Why the Python in a process cannot be read; one line for users."""


class ClosedError(UnknownPythonError):
    """It may not be looked at, and nothing else of the process."""


@dataclass(frozen=True)
class Interpreter:
    """
    A CPython in a process.

    Attributes:
        minor: 11 for 3.11.
        path: of the file that has it, as the process names it (hostile).
        offsets: of the fields of its structures.
        interpreters: address of _PyRuntime.interpreters.head.
        code_type: address of PyCode_Type; 0: not known.
    """

    minor: int
    path: str
    offsets: Offsets
    interpreters: int
    code_type: int

    @property
    def code_mask(self) -> int:
        """Bits that tag the pointer to a code object."""
        return _CODE_MASK if self.minor >= 14 else 0

    @property
    def owner_c(self) -> int:
        """Owners of frames from here on are no Python code; 0: frames have no such owner."""
        return _OWNER_C if self.minor >= 12 else 0

    def packed(self) -> bytes:
        """Return struct python of bpf/abi/stacks.h."""
        at = self.offsets
        return layout.PYTHON.pack(
            *(self.interpreters, self.code_type, at.interpreter_next, at.interpreter_threads),
            *(at.thread_next, at.thread_id, at.thread_frame, at.cframe_frame, at.thread_chunk),
            *(at.frame_code, at.frame_back, at.frame_at, at.frame_owner, at.frame_is_entry, at.code_units),
            *(self.minor, self.owner_c, self.code_mask),
        )


class _Mapping(NamedTuple):
    start: int
    range: str
    offset: int
    device: bytes
    inode: int
    path: bytes


class _Binary(NamedTuple):
    """
    What a file with a CPython has where, as the file has it; an address is 0 if it has no such.

    needs_library: the CPython is in a library that it is linked with.
    """

    runtime: int
    code_type: int
    version: int
    code: tuple[elf.Segment, ...]
    needs_library: bool


_binaries: dict[Identity, _Binary] = {}


def find(pid: int) -> Interpreter | None:
    """
    Return the CPython in a process, None if none is there, or has begun yet, or the process has gone.

    Cheap from the second process with the same binary on: ask again when a process loads a library.

    Raises:
        UnknownPythonError: there is one that cannot be read. ClosedError: there may be.
    """
    try:
        return _find(pid, Path("/proc", str(pid)))
    except (ProcessLookupError, FileNotFoundError):
        return None
    except PermissionError as error:
        raise ClosedError("they may not be looked at (other users' processes need CAP_SYS_PTRACE)") from error
    except OSError as error:
        raise UnknownPythonError(f"it cannot be looked at ({error.strerror})") from error


def _find(pid: int, process: Path) -> Interpreter | None:
    maps = contents(process / "maps", _MAPS_BYTES)
    mappings = _mappings(maps)
    reason = ""
    for mapping in _candidates(process, mappings):
        try:
            binary = _binary(process, mapping)
        except (elf.NotElfError, UnfitError) as error:
            reason = reason or _reason(mapping, str(error))
            continue
        if binary.runtime:
            runtime = _bias(mapping, binary) + binary.runtime
            return _asked(pid, mapping, binary, mappings, read) if _is_writable(maps, runtime) else None
        if _is_library(mapping) or not binary.needs_library:  # which a process that just begins has not loaded yet
            reason = reason or _reason(mapping, f"it is not a CPython {_KNOWN}")
    if reason:
        raise UnknownPythonError(reason)
    return None


def _reason(mapping: _Mapping, what: str) -> str:
    """Return why a file with the name of an interpreter is none; "": nobody would expect it to be one."""
    if not _NAMED.search(mapping.path):
        return ""
    return f"{mapping.path.decode(errors='replace')}: {what}"


def _is_writable(maps: bytes, address: int) -> bool:
    """Tell whether there are variables already: while a library is loaded, another part of its file is there."""
    return any(int(start, 16) <= address < int(end, 16) for start, end in _WRITABLE.findall(maps))


def _mappings(maps: bytes) -> list[_Mapping]:
    """Return what a process has mapped of files to execute."""
    return [
        _Mapping(int(start, 16), f"{int(start, 16):x}-{int(end, 16):x}", int(offset, 16), device, int(inode), path)
        for start, end, offset, device, inode, path in _LINE.findall(maps)
    ]


def _candidates(process: Path, mappings: list[_Mapping]) -> list[_Mapping]:
    """Return a mapping of each file that may have a CPython: a library called so, or the program, whatever its name."""
    program = (process / "exe").stat().st_ino
    named = [*filter(_is_library, mappings), *(mapping for mapping in mappings if mapping.inode == program)]
    files = {(mapping.device, mapping.inode): mapping for mapping in reversed(named)}
    return [*reversed(files.values())][:_MOST_CANDIDATES]


def _is_library(mapping: _Mapping) -> bool:
    return mapping.path.rpartition(b"/")[2].startswith(b"libpython")


def _binary(process: Path, mapping: _Mapping) -> _Binary:
    """Return what the file behind a mapping has where. Raises NotElfError, UnfitError, OSError."""
    file, identity = file_behind(process, mapping.device, mapping.range, mapping.path, mapping.inode)
    try:
        if identity not in _binaries:
            if len(_binaries) >= _MOST_BINARIES:
                _binaries.clear()
            _binaries[identity] = _read(file)
        return _binaries[identity]
    finally:
        os.close(file)


def _read(file: int) -> _Binary:
    found = elf.objects(file, _SYMBOLS)
    if "_PyRuntime" not in found and (section := elf.section(file, b".PyRuntime")):
        found["_PyRuntime"] = section[0]
    runtime, code_type, version = (found.get(name, 0) for name in _SYMBOLS)
    linked = elf.section(file, b".dynstr")
    return _Binary(runtime, code_type, version, tuple(elf.code(file)), bool(linked and b"\0libpython" in linked[1]))


def _asked(pid: int, mapping: _Mapping, binary: _Binary, mappings: list[_Mapping], read: Reader) -> Interpreter | None:
    """Return the interpreter that has begun behind a mapping."""
    bias = _bias(mapping, binary)
    runtime = bias + binary.runtime
    (start,) = read(pid, [(runtime, offsets.SAID_BYTES)])
    if start is None:
        raise UnknownPythonError("its memory cannot be read where _PyRuntime should be")
    try:
        if start.startswith(offsets.COOKIE):
            minor, fields = offsets.said(start)
        else:
            minor = _minor(read(pid, [(bias + binary.version if binary.version else 0, 8)])[0], mapping, mappings)
            fields = _fields(minor)
    except UnknownLayoutError as error:
        raise UnknownPythonError(f"cannot read its CPython: {error}") from error
    path = mapping.path.decode(errors="replace")
    code_type = bias + binary.code_type if binary.code_type else 0
    interpreter = Interpreter(minor, path, fields, runtime + fields.head, code_type)
    return interpreter if _has_begun(pid, interpreter, read) else None


def _bias(mapping: _Mapping, binary: _Binary) -> int:
    """Return what to add to an address of the file."""
    for segment in binary.code:
        if segment.offset // _PAGE * _PAGE <= mapping.offset < segment.offset + segment.size:
            return mapping.start - mapping.offset + segment.offset - segment.address
    raise UnknownPythonError("its code is not mapped as its file says")


def _fields(minor: int) -> Offsets:
    """Return the offsets of a version that does not say them itself."""
    if minor not in offsets.TABLE:
        raise UnknownLayoutError(f"its version is {f'3.{minor}' if minor else 'not known'}; {_KNOWN} are known")
    return offsets.TABLE[minor]


def _minor(word: bytes | None, mapping: _Mapping, mappings: list[_Mapping]) -> int:
    """Return the minor version of a CPython: by its own word (3.11), by its name, by that of its modules; 0: none."""
    if word:
        return offsets.minor_of(int.from_bytes(word, "little"))
    named = _NAMED.search(mapping.path)
    if named and named["minor"]:
        return int(named["minor"])
    return next((int(found[1]) for each in mappings if (found := _MINOR.search(each.path))), 0)


def _has_begun(pid: int, interpreter: Interpreter, read: Reader) -> bool:
    """Tell whether it has threads; raises UnknownPythonError if what should be threads makes no sense."""
    for _ in range(_TRIES):
        walked = threads.walk(pid, interpreter, _LOOK, reader=read)
        if not walked.stacks and not walked.errors:
            return False
        if not walked.errors and _make_sense(partial(read, pid), interpreter, walked):
            return True
    raise UnknownPythonError(f"its threads are not where CPython 3.{interpreter.minor} keeps them")


def _make_sense(read: Read, interpreter: Interpreter, walked: threads.Walked) -> bool:
    """Tell whether frames of a thread are of code; no frames at all are well, too: threads may all be elsewhere."""
    tops = [
        next((word for word in stack.words if word != layout.PYTHON_ENTERED), 0) for stack in walked.stacks.values()
    ]
    codes = [word >> layout.PYTHON_UNIT_BITS << 4 for word in tops if word]
    heads = read([(code + 8, 16) for code in codes])
    kinds = [int.from_bytes(head[at : at + 8], "little") for head in heads if head for at in (0, 8)]
    return not codes or any(is_code_type(read, kind, interpreter) for kind in kinds)
