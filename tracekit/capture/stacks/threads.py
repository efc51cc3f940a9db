"""Python frames of all threads of a process, walked from outside: for threads that sleep."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from tracekit.capture.stacks import memory
from tracekit.capture.stacks.layout import PYTHON_ENTERED, PYTHON_NO_UNIT, PYTHON_UNIT_BITS

if TYPE_CHECKING:
    from tracekit.capture.stacks.interpreter import Interpreter
    from tracekit.capture.stacks.memory import Read, Reader
    from tracekit.capture.stacks.offsets import Offsets

_TYPE = 8  # ob_type
_NOTHING = bytes(8)
_WORD = (1 << 64) - 1
_POINTER = struct.Struct("<Q")
_POINTERS = struct.Struct("<QQ")
_UNIT = struct.Struct("<I")
_MOST_INTERPRETERS, _MOST_THREADS = 256, 1 << 14


class End(IntEnum):
    """How a walk ended: python_end of bpf/abi/stacks.h."""

    WHOLE = 1
    CUT = 2
    STARTING = 3
    UNREADABLE = 4


@dataclass
class Stack:
    """
    Frames of a thread.

    Attributes:
        words: innermost first, as bpf/abi/stacks.h has them, with marks where C called the interpreter.
        end: how the walk ended.
    """

    words: list[int]
    end: End


@dataclass
class Walked:
    """
    Stacks by thread (pthread_self), and how many threads, or ends of lists of them, could not be read.

    Of a thread that several interpreters know it is the deepest stack.
    """

    stacks: dict[int, Stack]
    errors: int


@dataclass
class _Thread:
    """
    A thread on the way down.

    Attributes:
        outer: 3.11 and 3.12: the cframe to begin again from if the first one is not filled.
        code: that of the top frame.
    """

    identity: int
    frame: int
    outer: int = 0
    code: int = 0
    stack: Stack = field(default_factory=lambda: Stack([], End.WHOLE))
    seen: set[int] = field(default_factory=set)


def walk(
    pid: int,
    interpreter: Interpreter,
    deepest: int = 4096,
    deadline: float = inf,
    reader: Reader = memory.read,
) -> Walked:
    """
    Return the Python frames of all threads.

    Those of threads that sleep are right. A thread that runs changes its frames while they are read: its stack
    can be torn, so of callers and callees that were never there together, and nothing tells. At most *deepest*
    frames of a thread are walked, the innermost; at the *deadline* (s, of the monotonic clock) all walks end. The
    *reader* stands in for memory.read.

    Raises:
        ProcessLookupError: the process has gone.
        PermissionError: its memory may not be read.
    """
    read = partial(reader, pid)
    found, errors = _threads(read, interpreter, deadline)
    if interpreter.minor in (11, 12):
        _enter_cframes(read, interpreter.offsets, found)
    _descend(read, interpreter, found, deepest, deadline)
    inside = [thread for thread in found if thread.outer]
    _begin_again(read, interpreter, _without_code(read, interpreter, inside), deepest, deadline)
    stacks: dict[int, Stack] = {}
    for thread in found:
        stack = thread.stack
        if stack.end == End.WHOLE and not stack.words:
            stack.end = End.STARTING
        if thread.identity not in stacks or len(stacks[thread.identity].words) < len(stack.words):
            stacks[thread.identity] = stack
    return Walked(stacks, errors)


def _threads(read: Read, interpreter: Interpreter, deadline: float) -> tuple[list[_Thread], int]:
    """Return the threads of all interpreters of a process, and the number of errors."""
    at = interpreter.offsets
    found: dict[int, _Thread] = {}
    heads, errors = _interpreters(read, interpreter)
    size = max(at.thread_next, at.thread_interpreter, at.thread_id, at.thread_frame) + 8
    for head, first in heads:
        state = first
        while state and len(found) < _MOST_THREADS:
            (content,) = read([(state, size)])
            late = time.monotonic() > deadline
            if content is None or late or state in found or _pointer(content, at.thread_interpreter) != head:
                errors += 1
                break
            found[state] = _Thread(_pointer(content, at.thread_id), _pointer(content, at.thread_frame))
            state = _pointer(content, at.thread_next)
        errors += len(found) == _MOST_THREADS
    return list(found.values()), errors


def _interpreters(read: Read, interpreter: Interpreter) -> tuple[list[tuple[int, int]], int]:
    """Return the address of each interpreter and of its first thread, and the number of errors."""
    at = interpreter.offsets
    found: dict[int, int] = {}
    (content,) = read([(interpreter.interpreters, 8)])
    while content is not None and len(found) < _MOST_INTERPRETERS:
        head = _pointer(content)
        if not head:
            return list(found.items()), 0
        if head in found:
            break
        content, first = read([(head + at.interpreter_next, 8), (head + at.interpreter_threads, 8)])
        if first is None:
            break
        found[head] = _pointer(first)
    return list(found.items()), 1


def _enter_cframes(read: Read, at: Offsets, threads: list[_Thread]) -> None:
    """Put the top frame in place of the cframe."""
    contents = read([(thread.frame + at.cframe_frame, 16) for thread in threads])
    for thread, content in zip(threads, contents, strict=True):
        if content is None:
            thread.stack.end, thread.frame = (End.UNREADABLE if thread.frame else End.WHOLE), 0
        else:
            thread.frame, thread.outer = _POINTERS.unpack(content)
            if not thread.frame and thread.outer:
                thread.stack.end = End.UNREADABLE


def _without_code(read: Read, interpreter: Interpreter, threads: list[_Thread]) -> list[_Thread]:
    """Return those of *threads* whose top frame is none: it has no code object."""
    kinds = read([(thread.code + _TYPE, 8) for thread in threads])
    known = interpreter.code_type
    return [
        thread
        for thread, kind in zip(threads, kinds, strict=True)
        if kind is None or (known and _pointer(kind) != known)
    ]


def _begin_again(read: Read, interpreter: Interpreter, threads: list[_Thread], deepest: int, deadline: float) -> None:
    """Walk *threads* from the cframe around the one that was linked but not filled yet."""
    contents = read([(thread.outer + interpreter.offsets.cframe_frame, 8) for thread in threads])
    for thread, content in zip(threads, contents, strict=True):
        end = End.UNREADABLE if content is None else End.WHOLE
        thread.frame, thread.stack = _pointer(content or _NOTHING), Stack([], end)
        thread.seen.clear()
    _descend(read, interpreter, threads, deepest, deadline)


def _descend(read: Read, interpreter: Interpreter, threads: list[_Thread], deepest: int, deadline: float) -> None:
    """Walk the frames of *threads*: one of each with each read."""
    at = interpreter.offsets
    size = max(at.frame_code + 8, at.frame_back + 8, at.frame_at + 8, at.frame_owner + 1, at.frame_is_entry + 1)
    for _ in range(deepest):
        threads = [thread for thread in threads if thread.frame]
        if not threads or time.monotonic() > deadline:
            break
        for thread, content in zip(threads, read([(thread.frame, size) for thread in threads]), strict=True):
            _step(interpreter, thread, content)
    for thread in threads:
        if thread.frame:
            thread.stack.end = End.CUT


def _step(interpreter: Interpreter, thread: _Thread, content: bytes | None) -> None:
    """Put the words of a frame on the stack of a thread, and go to the frame behind it; 0: there is none."""
    frame, thread.frame = thread.frame, 0
    if content is None or frame in thread.seen:
        thread.stack.end = End.UNREADABLE
        return
    if not thread.seen:
        thread.code = _pointer(content, interpreter.offsets.frame_code)
    thread.seen.add(frame)
    words = _words(interpreter, content)
    thread.stack.words += words
    if words[0] >> PYTHON_UNIT_BITS or words[0] == PYTHON_ENTERED:
        thread.frame = _pointer(content, interpreter.offsets.frame_back)
    else:
        thread.stack.end = End.UNREADABLE


def _words(interpreter: Interpreter, frame: bytes) -> list[int]:
    """Return what bpf/python.bpf.h says of a frame."""
    at = interpreter.offsets
    if interpreter.owner_c and frame[at.frame_owner] >= interpreter.owner_c:
        return [PYTHON_ENTERED]
    code = _pointer(frame, at.frame_code)
    if interpreter.minor < 11:
        (unit,) = _UNIT.unpack_from(frame, at.frame_at)
        return [_word(code, unit & PYTHON_NO_UNIT), PYTHON_ENTERED]
    code &= ~interpreter.code_mask
    unit = (_pointer(frame, at.frame_at) - code - at.code_units & _WORD) >> 1
    entered = at.frame_is_entry and frame[at.frame_is_entry]
    return [_word(code, min(unit, PYTHON_NO_UNIT)), *([PYTHON_ENTERED] if entered else [])]


def _word(code: int, unit: int) -> int:
    return (code >> 4 << PYTHON_UNIT_BITS | unit) & _WORD


def _pointer(content: bytes, at: int = 0) -> int:
    found: int = _POINTER.unpack_from(content, at)[0]
    return found
