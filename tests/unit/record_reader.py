"""
A reader of thread records by bpf/abi/probe.h, as the BPF programs read them, but in the process itself.

It shares no code with the probe.
"""

from ctypes import string_at
from functools import cache
from struct import unpack, unpack_from
from threading import get_ident

HEADER, KINDS_AT, KIND_BYTES = 512, 512, 256
ERRORS_BYTES, VALUES_BYTES = 512 * 64, 256 * 256
NOTHING, STATIC, DYNAMIC, TABLE = range(4)
HASH, WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1
PROBES = 16
ENDS = 256
_names = {}


def _words(address, count):
    return unpack(f"<{count}Q", string_at(address, 8 * count))


def _board():
    from tracekit.probe._engine import board

    return board()


@cache
def _place():
    """Mode, offset and module: no fork changes them."""
    return unpack_from("<IqQ", _board(), 20)


def _record_at():
    mode, offset, module = _place()
    if mode == STATIC:
        return get_ident() + offset
    if mode == NOTHING:
        return 0
    dtv = _words(get_ident() + 8, 1)[0]
    if _words(dtv - 16, 1)[0] < module:
        return 0
    block = _words(dtv + 16 * module, 1)[0]
    return block + offset if block not in (0, WORD) else 0


def record():
    """Return top, context, context_at, contexts, ends, ended short and long; None if the thread has none."""
    at = _record_at()
    return _words(at, 7) if at else None


def _top(found):
    top, context, context_at, contexts = found[:4]
    if not context_at:
        return 0
    running = _words(context_at, 1)[0]
    if running == context:
        return top
    if not contexts:
        return 0
    mask = _words(contexts, 1)[0]
    hashed = ((running >> 4) * HASH & WORD) >> 40
    for i in range(PROBES):
        key, top = _words(contexts + 16 + 16 * ((hashed + i) & mask), 2)
        if key == running:
            return top
        if not key:
            return 0
    return 0


def _read_names():
    board = _board()
    for row in range(unpack_from("<I", board, 48)[0]):
        at = KINDS_AT + row * KIND_BYTES
        _names[unpack_from("<Q", board, at)[0]] = board[at + 8 : at + 72].split(b"\0")[0].decode()


def _name(number):
    if number not in _names:
        _read_names()
    return _names[number]


def _in_table():
    board = _board()
    at = KINDS_AT + 256 * KIND_BYTES + ERRORS_BYTES + VALUES_BYTES
    hashed = (get_ident() * HASH & WORD) >> 40
    for i in range(PROBES):
        pointer, kind = unpack_from("<QQ", board, at + 16 * ((hashed + i) % 1024))
        if pointer == get_ident():
            return kind
        if not pointer:
            return 0
    return 0


def chain():
    """Return the names of the open spans of the running Context, innermost first."""
    names = []
    node = _top(record() or (0,) * 7)
    while node:
        kind, _, node = _words(node, 3)
        names.append(_name(kind))
    return names


def current():
    """Return the name of the current span, None if there is none."""
    if _place()[0] == TABLE:
        kind = _in_table()
        return _name(kind) if kind else None
    return (chain() or [None])[0]


def ends(long):
    """Return (name, duration_ns, awaited, failed) of the last ended spans of this thread, oldest first."""
    found = record()
    count, first = found[5 + long], found[4] + long * ENDS * 32
    rows = [_words(first + 32 * (n % ENDS), 4) for n in range(max(0, count - ENDS), count)]
    return [(_name(kind), ns & (1 << 62) - 1, bool(ns >> 63), bool(ns >> 62 & 1)) for _, _, ns, kind in rows]
