"""
The span that a thread is in, read from outside: what bpf/spans.bpf.h does for one that runs.

The memory is the process's own, so nothing of it is believed: what makes no sense is no span.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tracekit.capture.probes import layout
from tracekit.capture.stacks.memory import read

if TYPE_CHECKING:
    from tracekit.capture.probes import Facts

_THREAD = struct.Struct("<8Q")
"""struct probe_thread: top, context, context_at, contexts, ends, ended[2], entered."""
_NODE = struct.Struct("<3Q")
"""struct probe_node: kind, start_ns, prev."""
_PAIR = struct.Struct("<2Q")
_CONTEXTS_HEAD = 16
_MOST_STEPS = 16
_U64 = (1 << 64) - 1


def kind_of(facts: Facts, pointer: int) -> int:
    """
    Return the kind of the innermost span of the thread with this thread pointer, 0: none.

    Raises:
        OSError: the process has gone, or may not be looked at.
    """
    if facts.mode == layout.TABLE:
        return _looked_up(facts.tgid, facts.threads_at, layout.THREADS - 1, pointer, pointer)
    at = _place(facts, pointer)
    (content,) = read(facts.tgid, [(at, _THREAD.size)])
    if not content:
        return 0
    top, context, context_at, contexts, *_ = _THREAD.unpack(content)
    running = _word(facts.tgid, context_at)
    if not running:
        return 0
    if running != context:
        mask = _word(facts.tgid, contexts)
        top = _looked_up(facts.tgid, contexts + _CONTEXTS_HEAD, mask, running, running >> 4)
    return _kind(facts.tgid, top)


def _place(facts: Facts, pointer: int) -> int:
    """Return where the record of a thread is; 0: it has none."""
    if facts.mode == layout.STATIC:
        return pointer + facts.tls_offset
    if facts.mode != layout.DYNAMIC:
        return 0
    vector = _word(facts.tgid, pointer + 8)
    if facts.tls_module > _word(facts.tgid, vector - 16):
        return 0  # a thread older than the library
    block = _word(facts.tgid, vector + 16 * facts.tls_module)
    return 0 if block in {0, _U64} else block + facts.tls_offset


def _kind(tgid: int, top: int) -> int:
    for _ in range(2):  # one that is linked may not have begun yet: what counts is the one around it
        (content,) = read(tgid, [(top, _NODE.size)])
        if not content:
            return 0
        kind, start_ns, top = _NODE.unpack(content)
        if start_ns:
            return int(kind)
    return 0


def _looked_up(tgid: int, table: int, mask: int, key: int, hashed: int) -> int:
    """Return what a table of (key, value) has for *key*, 0: nothing."""
    first = (hashed * 0x9E3779B97F4A7C15 & _U64) >> 40
    for step in range(_MOST_STEPS):
        (content,) = read(tgid, [(table + (first + step & mask) * _PAIR.size, _PAIR.size)])
        found, value = _PAIR.unpack(content) if content else (0, 0)
        if found == key:
            return int(value)
        if not found:
            break
    return 0


def _word(tgid: int, address: int) -> int:
    (content,) = read(tgid, [(address, 8)])
    return int.from_bytes(content, "little") if content else 0
