"""Probes on functions of files: perf events of the kernel's uprobe unit, with a BPF program and a cookie."""

from __future__ import annotations

import ctypes
import os
import struct
from functools import cache
from pathlib import Path

from tracekit.capture.bpf import syscall

_UNIT = Path("/sys/bus/event_source/devices/uprobe")
_EVERYBODY, _ANY_CPU = -1, 0  # the kernel takes no process without a CPU; a probe is on all of them


@cache
def _kind() -> tuple[int, int]:
    """Return the number of the unit, and the bit that makes a probe one of the return."""
    bit = (_UNIT / "format" / "retprobe").read_text().strip().removeprefix("config:")
    return int((_UNIT / "type").read_text()), 1 << int(bit)


def attach(program: int, file: int, offset: int, cookie: int, *, at_return: bool) -> tuple[int, int]:
    """
    Run *program* wherever any process comes to *offset* of *file*, or returns from there.

    Returns:
        Descriptors to close to end that.

    Raises:
        OSError: not allowed, or there is no instruction that can be probed.
    """
    kind, return_bit = _kind()
    # the kernel resolves this name to the open file, whatever its path is
    name = ctypes.create_string_buffer(f"/proc/self/fd/{file}".encode())
    config = return_bit if at_return else 0
    attr = struct.pack("=2I5Q2I2Q", kind, 112, config, 0, 0, 0, 0, 0, 0, ctypes.addressof(name), offset)
    event = syscall.perf_event_open(attr, _EVERYBODY, _ANY_CPU)
    try:
        return syscall.link_create(program, event, syscall.PERF_EVENT, cookie), event
    except OSError:
        os.close(event)
        raise
