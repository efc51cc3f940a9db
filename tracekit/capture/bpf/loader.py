"""
Run a packed light skeleton: create its maps and load its programs with bpf(2) alone.

The skeleton is itself a BPF program (type syscall). Its context, struct bpf_loader_ctx and
the arrays behind it, is that of libbpf's bpf/skel_internal.h: 24 bytes, then 16 a map
(descriptor, max_entries or 0, address of initial value or 0), then 4 a program.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracekit.capture.bpf import syscall
from tracekit.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

OBJECTS = Path(__file__).parent / "objects"

_CONTEXT_BYTES, _MAP_BYTES = 24, 16
_PROG_TYPE_SYSCALL, _F_SLEEPABLE = 31, 1 << 4
_LOG_BYTES, _LOG_LINES = 1 << 20, 12
_BTF = Path("/sys/kernel/btf/vmlinux")
_MEMORY = "a memory limit of 256 MB or more (memory.max, MemoryMax=)"
_NO_BTF = "a kernel with CONFIG_DEBUG_INFO_BTF=y (every Debian, Ubuntu and Fedora kernel of recent years)"


@dataclass(frozen=True)
class Loaded:
    """Descriptors of the maps and programs of one loaded object, by name."""

    maps: dict[str, int]
    programs: dict[str, int]

    def close(self) -> None:
        """Close all; the kernel frees what nothing else holds."""
        for descriptor in (*self.maps.values(), *self.programs.values()):
            os.close(descriptor)


def load(
    name: str,
    constants: bytes,
    entries: Mapping[str, int],
    wire_version: int,
    given: Mapping[str, int] | None = None,
) -> Loaded:
    """
    Load one of the package's BPF objects.

    Args:
        name: of the object: `tracekit`, or one that shares the maps of that.
        constants: bytes of its read-only data: struct config.
        entries: max_entries of maps whose size is known only now.
        wire_version: what the caller understands.
        given: descriptors of the maps it shares, by name; they stay the caller's.

    Raises:
        MachineError: not built, not allowed, or refused by this kernel, with the reason.
    """
    facts, data, insns = _read(name)
    if facts["wire"] != wire_version:
        fact = f"built for wire version {facts['wire']}, this tracekit speaks {wire_version}"
        raise MachineError(f"cannot load BPF programs: {fact}", "install tracekit again")
    skeleton = _Skeleton(facts, data, insns, constants, entries, given or {})
    try:
        return skeleton.run()
    except OSError as error:
        raise _explain(error, skeleton) from error


def _read(name: str) -> tuple[dict[str, Any], bytes, bytes]:
    try:
        packed = (OBJECTS / f"{name}.lskel").read_bytes()
    except FileNotFoundError as error:
        fact = "this installation has no BPF programs (no clang when it was built)"
        hint = "apt install clang-19 libbpf-dev bpftool, then install tracekit again"
        raise MachineError(f"cannot trace: {fact}", hint) from error
    head, _, blobs = packed.partition(b"\n")
    facts = json.loads(head)
    return facts, blobs[: facts["data"]], blobs[facts["data"] :]


@dataclass(frozen=True)
class _Skeleton:
    facts: dict[str, Any]
    data: bytes
    insns: bytes
    constants: bytes
    entries: Mapping[str, int]
    given: Mapping[str, int]

    def run(self, log: int = 0) -> Loaded:
        """Create the maps and load the programs; *log*: address of room for the verifier's words, 0: none."""
        rodata = ctypes.create_string_buffer(self.constants, mmap.PAGESIZE)
        taken = {name: os.dup(self.given[name]) for name in self.facts["given"]}
        context = self._context(rodata, taken, log)
        held = (ctypes.c_char * len(context)).from_buffer(context)
        try:
            result = _run(self.data, self.insns, held)
            if result < 0:
                raise OSError(-result, os.strerror(-result))
        except OSError:
            for descriptor in taken.values():  # the skeleton has closed those that it came to
                with suppress(OSError):
                    os.close(descriptor)
            raise
        maps, programs = self.facts["maps"], self.facts["programs"]
        at = _CONTEXT_BYTES + _MAP_BYTES * len(maps)
        return Loaded(
            {name: _descriptor(context, _CONTEXT_BYTES + _MAP_BYTES * i) for i, name in enumerate(maps)},
            {name: _descriptor(context, at + 4 * i) for i, name in enumerate(programs)},
        )

    def _context(self, rodata: ctypes.Array[ctypes.c_char], taken: Mapping[str, int], log: int) -> bytearray:
        maps = self.facts["maps"]
        context = bytearray(_CONTEXT_BYTES + _MAP_BYTES * len(maps) + 4 * len(self.facts["programs"]))
        log_head = (1, _LOG_BYTES, log) if log else (0, 0, 0)
        struct.pack_into("=4IQ", context, 0, len(context), 0, *log_head)
        for number, name in enumerate(maps):
            initial = syscall.address(rodata) if name == "rodata" else 0
            fields = taken.get(name, 0), self.entries.get(name, 0), initial
            struct.pack_into("=iIQ", context, _CONTEXT_BYTES + _MAP_BYTES * number, *fields)
        return context


def _descriptor(context: bytearray, at: int) -> int:
    (descriptor,) = struct.unpack_from("=i", context, at)
    return int(descriptor)


def _run(data: bytes, insns: bytes, context: ctypes.Array[ctypes.c_char]) -> int:
    """Run a skeleton with a context, and return what it returns: 0, or the errno below 0."""
    blob = syscall.map_create(syscall.ARRAY, 4, len(data), 1)
    try:
        syscall.map_update(blob, bytes(4), data)
        program = _load_skeleton(insns, blob)
        try:
            return syscall.run_program(program, context)
        finally:
            os.close(program)
    finally:
        os.close(blob)


def _load_skeleton(insns: bytes, blob: int) -> int:
    code = ctypes.create_string_buffer(insns, len(insns))
    licence = ctypes.create_string_buffer(b"Dual BSD/GPL")
    descriptors = (ctypes.c_int * 1)(blob)
    attr = bytearray(128)
    head = (_PROG_TYPE_SYSCALL, len(insns) // 8, syscall.address(code), syscall.address(licence))
    struct.pack_into("=2I2Q", attr, 0, *head)
    struct.pack_into("=I16s", attr, 44, _F_SLEEPABLE, b"tracekit_load")
    struct.pack_into("=Q", attr, 120, ctypes.addressof(descriptors))
    return syscall.bpf(syscall.PROG_LOAD, attr)


def _explain(error: OSError, skeleton: _Skeleton) -> MachineError:
    """Say why the kernel refused: privileges and features first, else the end of the verifier's log."""
    if error.errno in (errno.EPERM, errno.EACCES) and not _may_load():
        return MachineError(
            "cannot load BPF programs: not allowed (needs root, or CAP_BPF and CAP_PERFMON)",
            "sudo with the full path of tracekit; tracekit doctor says more",
        )
    if error.errno == errno.EMFILE:
        return MachineError(f"cannot load BPF programs: {error.strerror}", "ulimit -n 1024")
    if not _BTF.exists():
        return MachineError("cannot load BPF programs: this kernel has no BTF", _NO_BTF)
    if error.errno == errno.ENOMEM:
        return MachineError("cannot load BPF programs: no memory for them (a memory cgroup counts it too)", _MEMORY)
    return _no_task_storage() or _refused(error, skeleton)


def _refused(error: OSError, skeleton: _Skeleton) -> MachineError:
    """Say what the verifier said."""
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        skeleton.run(syscall.address(log)).close()
    except OSError:
        lines = log.value.decode("utf-8", "replace").strip().splitlines()[-_LOG_LINES:]
        detail = "; the verifier's last words: " + " | ".join(lines) if lines else ""
        return MachineError(
            f"cannot load BPF programs: the kernel refused them ({error.strerror}){detail}",
            "tracekit doctor, and send its output with this message",
        )
    return MachineError(f"cannot load BPF programs: {error.strerror}", "run it again")


def _may_load() -> bool:
    """Tell whether privileges suffice: a refusal then has another cause."""
    try:
        os.close(syscall.map_create(syscall.ARRAY, 4, 4, 1, flags=0))
    except OSError:
        return False
    with Path("/proc/self/status").open(encoding="ascii", errors="replace") as file:
        effective = next((int(line.split()[1], 16) for line in file if line.startswith("CapEff")), 0)
    sys_admin, perfmon, bpf = (effective >> bit & 1 for bit in (21, 38, 39))
    return bool(sys_admin or (perfmon and bpf))


def _no_task_storage() -> MachineError | None:
    """Return an answer if this kernel is older than 5.11: it refuses the type of map."""
    try:
        os.close(syscall.map_create(syscall.TASK_STORAGE, 4, 8, 0, flags=1))
    except OSError as error:
        release = os.uname().release
        known = _BTF.exists()
        if error.errno == errno.EINVAL and known and tuple(map(int, release.split(".")[:2])) < (5, 11):
            fact = f"this kernel ({release}) lacks BPF task storage, which came with 5.11"
            return MachineError(f"cannot load BPF programs: {fact}", "a newer kernel: Debian 12's 6.1 or later")
    return None
