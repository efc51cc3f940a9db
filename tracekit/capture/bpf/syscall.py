"""
bpf(2) and perf_event_open(2) through ctypes: nothing of libbpf, clang or bcc at run time.

Attribute layouts are those of union bpf_attr in include/uapi/linux/bpf.h; the kernel
accepts a shorter or a zero-filled longer one, so each call packs only what it sets.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NR_BPF, _NR_PERF_EVENT_OPEN = 321, 298  # x86_64
_LIBC = ctypes.CDLL(None, use_errno=True)
_ATTR_BYTES = 152

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY = 0, 1, 2, 3, 4
PROG_LOAD, PROG_RUN, OBJ_GET_INFO, RAW_TP_OPEN, LINK_CREATE, ENABLE_STATS, ITER_CREATE = 5, 10, 15, 17, 28, 32, 33
MAP_LOOKUP_BATCH = 24
TRACE_ITER, PERF_EVENT = 28, 41  # enum bpf_attach_type

TASK_STORAGE, ARRAY = 29, 2  # enum bpf_map_type

_PERF_TYPE_SOFTWARE, _PERF_COUNT_SW_CPU_CLOCK = 1, 0
_PERF_FLAG_FD_CLOEXEC = 8
_PERF_ATTR_FREQ = 1 << 10


def bpf(command: int, attr: bytes | bytearray) -> int:
    """Do a bpf system call; *attr* is a packed union bpf_attr; a bytearray is updated. Raises OSError."""
    buffer = ctypes.create_string_buffer(bytes(attr), max(len(attr), _ATTR_BYTES))
    result: int = _LIBC.syscall(_NR_BPF, command, buffer, len(buffer))
    if isinstance(attr, bytearray):
        attr[:] = buffer.raw[: len(attr)]
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Return the address of *buffer*, which the caller keeps alive."""
    return ctypes.addressof(buffer)


def map_create(
    kind: int, key_bytes: int, value_bytes: int, entries: int, flags: int = 0, btf: tuple[int, int, int] = (0, 0, 0)
) -> int:
    """Create a map and return its descriptor; *btf* is (descriptor, key type id, value type id)."""
    head = struct.pack("=5I", kind, key_bytes, value_bytes, entries, flags)
    return bpf(MAP_CREATE, head + struct.pack("=2I16s4I", 0, 0, b"", 0, *btf))


def map_update(descriptor: int, key: bytes, value: bytes) -> None:
    """Set *key* to *value*."""
    key_buffer, value_buffer = (
        ctypes.create_string_buffer(key, len(key)),
        ctypes.create_string_buffer(value, len(value)),
    )
    bpf(MAP_UPDATE, struct.pack("=IxxxxQQQ", descriptor, address(key_buffer), address(value_buffer), 0))


def map_lookup(descriptor: int, key: bytes, value_bytes: int) -> bytes | None:
    """Return the value of *key*, None if it is not there."""
    key_buffer, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value_bytes)
    try:
        bpf(MAP_LOOKUP, struct.pack("=IxxxxQQQ", descriptor, address(key_buffer), address(value), 0))
    except FileNotFoundError:
        return None
    return value.raw


def map_keys(descriptor: int, key_bytes: int, at_most: int) -> list[bytes]:
    """Return keys of a map. Others may come or go meanwhile: then some are left out, or are there twice."""
    keys: list[bytes] = []
    key, following = ctypes.create_string_buffer(key_bytes), ctypes.create_string_buffer(key_bytes)
    with suppress(FileNotFoundError):  # after the last one
        while len(keys) < at_most:
            before = address(key) if keys else 0
            bpf(MAP_NEXT_KEY, struct.pack("=IxxxxQQQ", descriptor, before, address(following), 0))
            key.raw = following.raw
            keys.append(key.raw)
    return keys


def map_values(descriptor: int, key_bytes: int, value_bytes: int, at_a_time: int) -> Iterator[bytes]:
    """
    Yield the values of a hash map, up to *at_a_time* in one piece (5.6).

    Others may come or go meanwhile: those are left out, or not. *at_a_time* is more than one hash bucket ever holds.
    """
    keys = ctypes.create_string_buffer(at_a_time * key_bytes)
    values = ctypes.create_string_buffer(at_a_time * value_bytes)
    place = ctypes.create_string_buffer(8)
    before, more = 0, True
    while more:
        head = (before, address(place), address(keys), address(values))
        attr = bytearray(struct.pack("=4Q2I2Q", *head, at_a_time, descriptor, 0, 0))
        try:
            bpf(MAP_LOOKUP_BATCH, attr)
        except FileNotFoundError:  # these are the last
            more = False
        before = address(place)
        (count,) = struct.unpack_from("=I", attr, 32)
        yield ctypes.string_at(values, count * value_bytes)


def map_delete(descriptor: int, key: bytes) -> None:
    """Remove *key* if it is there."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    with suppress(FileNotFoundError):
        bpf(MAP_DELETE, struct.pack("=IxxxxQQQ", descriptor, address(key_buffer), 0, 0))


def raw_tracepoint(program: int) -> int:
    """Attach a tp_btf program to the tracepoint it was loaded for; closing the result detaches it."""
    return bpf(RAW_TP_OPEN, struct.pack("=QI", 0, program))


def link_create(program: int, target: int, attach_type: int, cookie: int = 0) -> int:
    """
    Attach *program* to *target* (a perf event descriptor, 0 for an iterator); closing detaches it.

    A program at a perf event can ask for the *cookie* (5.15).
    """
    return bpf(LINK_CREATE, struct.pack("=4IQ", program, target, attach_type, 0, cookie))


def run_program(program: int, context: ctypes.Array[ctypes.c_char]) -> int:
    """Run a program of type syscall, which may write to its context, and return what it returns."""
    # prog_fd, retval, data sizes and pointers, repeat, duration, ctx sizes, ctx_in
    attr = bytearray(struct.pack("=4I2Q4IQ", program, 0, 0, 0, 0, 0, 0, 0, len(context), 0, address(context)))
    bpf(PROG_RUN, attr)
    (result,) = struct.unpack_from("=i", attr, 4)
    return int(result)


def run_iterator(program: int) -> bytes:
    """Run an iter program over all its objects and return what it wrote."""
    link = link_create(program, 0, TRACE_ITER)
    try:
        reader = bpf(ITER_CREATE, struct.pack("=2I", link, 0))
    finally:
        os.close(link)
    with open(reader, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
        parts = []
        while part := _read(file.fileno()):
            parts.append(part)
        return b"".join(parts)


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, 1 << 16)
        except BlockingIOError:  # noqa: PERF203 - the iterator gave way to others: go on
            continue


def perf_cpu_clock(cpu: int, hertz: int) -> int:
    """Open a sampling cpu-clock event on *cpu* for every process; closing stops it."""
    attr = struct.pack("=IIQQQQQ", _PERF_TYPE_SOFTWARE, 112, _PERF_COUNT_SW_CPU_CLOCK, hertz, 0, 0, _PERF_ATTR_FREQ)
    return perf_event_open(attr, -1, cpu)


def perf_event_open(attr: bytes, pid: int, cpu: int) -> int:
    """Open the event that *attr*, a packed struct perf_event_attr, describes. Raises OSError."""
    buffer = ctypes.create_string_buffer(attr, 112)
    result: int = _LIBC.syscall(_NR_PERF_EVENT_OPEN, buffer, pid, cpu, -1, _PERF_FLAG_FD_CLOEXEC)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@contextmanager
def statistics() -> Iterator[None]:
    """Have the kernel measure the run time of BPF programs for as long as this is open (5.8)."""
    descriptor = bpf(ENABLE_STATS, struct.pack("=I", 0))
    try:
        yield
    finally:
        os.close(descriptor)


def program_run_time(program: int) -> tuple[int, int, int]:
    """Return (run time in ns, runs, runs skipped by the recursion guard) of a program."""
    info = ctypes.create_string_buffer(232)
    bpf(OBJ_GET_INFO, struct.pack("=IIQ", program, len(info), address(info)))
    run_time_ns, runs, misses = struct.unpack_from("=3Q", info, 192)
    return run_time_ns, runs, misses
