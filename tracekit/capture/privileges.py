"""
What a collector may do: much until it is attached, then little.

    become(owner)           # the user behind sudo; capabilities stay
    keep(wanted)            # for good: only these
    with raised(SYS_ADMIN): # one of them, of which use is made at this moment only
        ...

Capabilities belong to threads: those that are started later have what their starter has then.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import seccomp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from tracekit.capture.options import Options
    from tracekit.capture.owner import Owner


class Capability(IntEnum):
    """Those that matter here (include/uapi/linux/capability.h)."""

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    SYSLOG = 34
    PERFMON = 38
    BPF = 39
    CHECKPOINT_RESTORE = 40


LOADING = frozenset({Capability.BPF, Capability.PERFMON})
"""What it takes to load and attach programs."""
DUMPING = LOADING | {
    Capability.SYS_PTRACE,
    Capability.DAC_READ_SEARCH,
    Capability.CHECKPOINT_RESTORE,
    Capability.SYSLOG,
}
"""And what it takes to say where threads are, of all users."""
FOR_A_MOMENT = frozenset({Capability.SYS_ADMIN})
"""Kept, but in effect only within raised()."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of each set
_KEEPCAPS, _CAPBSET_READ, _CAPBSET_DROP, _NO_NEW_PRIVS, _AMBIENT = 8, 23, 24, 38, 47  # prctl
_CLEAR_ALL = 4
_MOST = 64


class _Held(NamedTuple):
    """Sets of this thread, a bit each."""

    effective: int
    permitted: int
    inheritable: int


def become(user: Owner | None) -> None:
    """Be *user* from now on, with the capabilities there are: what is written is that user's. For all threads."""
    if user is None:
        return
    held = _held()
    _LIBC.prctl(_KEEPCAPS, 1, 0, 0, 0)
    with suppress(PermissionError):  # a root that may not: of a container
        os.initgroups(user.name, user.gid)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    _LIBC.prctl(_KEEPCAPS, 0, 0, 0, 0)
    _set(held)


def wanted(options: Options) -> frozenset[Capability]:
    """Return what a recording with *options* needs once it is attached; why: docs/privileges.md."""
    if options.probes_only:
        return frozenset({Capability.SYS_PTRACE, Capability.DAC_READ_SEARCH})
    return DUMPING | FOR_A_MOMENT


def keep(wanted: Collection[Capability], folder: Path | None = None) -> None:
    """
    Give up all but *wanted*, of this thread and those that it starts, for good, and what no recording needs.

    Args:
        wanted: as far as they are there. Where loading programs is by CAP_SYS_ADMIN alone, that stays.
        folder: files will be made and removed in it: who may not do that has CAP_DAC_OVERRIDE still.
    """
    held = _held()
    kept = held.permitted & _bits(wanted)
    if LOADING & set(wanted) and kept & _bits(LOADING) != _bits(LOADING):
        lasting = held.permitted & _bits(FOR_A_MOMENT)
    else:
        lasting = 0
    effective = kept & ~_bits(FOR_A_MOMENT) | lasting
    _set(_Held(effective, held.permitted, 0))
    if folder and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        more = held.permitted & _bits([Capability.DAC_OVERRIDE])
        kept, effective = kept | more, effective | more
    _LIBC.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    _bound(kept | lasting)
    _set(_Held(effective, kept | lasting, 0))
    _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if kept:
        seccomp.refuse(seccomp.NEVER)


@contextmanager
def raised(capability: Capability) -> Iterator[None]:
    """Have *capability* in effect, if this thread was left it."""
    held = _held()
    more = held.permitted & _bits([capability]) & ~held.effective
    if not more:
        yield
        return
    _set(held._replace(effective=held.effective | more))
    try:
        yield
    finally:
        _set(held)


def _bound(kept: int) -> None:
    """Have no program that this thread becomes get more than *kept*; needs CAP_SETPCAP, without which none is there."""
    held = _held()
    with suppress(OSError):
        _set(held._replace(effective=held.permitted))
    for number in range(_MOST):
        if not kept >> number & 1 and _LIBC.prctl(_CAPBSET_READ, number, 0, 0, 0) == 1:
            _LIBC.prctl(_CAPBSET_DROP, number, 0, 0, 0)


def _bits(capabilities: Collection[Capability]) -> int:
    return sum(1 << capability for capability in capabilities)


def _held() -> _Held:
    words = (ctypes.c_uint32 * 6)()
    _call("capget", words)
    return _Held(*(words[i] | words[i + 3] << 32 for i in range(3)))


def _set(held: _Held) -> None:
    low = (each & 0xFFFFFFFF for each in held)
    high = (each >> 32 for each in held)
    _call("capset", (ctypes.c_uint32 * 6)(*low, *high))


def _call(name: str, words: ctypes.Array[ctypes.c_uint32]) -> None:
    head = (ctypes.c_uint32 * 2)(_VERSION, 0)
    if getattr(_LIBC, name)(head, words):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
