"""
What the kernel lets this process do, found out by doing it: each BPF feature is used once and undone.

A version or a capability tells less: distributions move features between versions, and containers,
seccomp and lockdown refuse what a capability allows.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.bpf import btf, syscall
from tracekit.capture.bpf.loader import OBJECTS
from tracekit.capture.kernel import Kernel
from tracekit.capture.options import Options
from tracekit.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MACHINE = "x86_64"
HOOKS = (
    "sched_waking",
    "sched_wakeup",
    "sched_wakeup_new",
    "sched_switch",
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
    "task_rename",
    "sys_enter",
    "sys_exit",
    "cgroup_attach_task",
)
"""Tracepoints that the programs of a recording are attached to."""
SOCKET_HOOKS = ("sock_send_length", "sock_recv_length")
"""Those that show calls of databases. Debian's 6.12 has them; on its 6.1 calls are seen where system calls return."""

_KPROBE, _PERF_EVENT, _TRACING = 2, 7, 26  # enum bpf_prog_type
_RAW_TP = 23  # enum bpf_attach_type
_BTF_LOAD = 18
_NO_PREALLOC = 1
_RETURN_0 = struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)
_MAP_BYTES, _MAP_ENTRIES = 1 << 20, 16
_UPROBE_TYPE = Path("/sys/bus/event_source/devices/uprobe/type")


def run() -> dict[str, str]:
    """
    Return for each thing tried what the kernel answered, "" if it works.

    Names: `machine`, `objects`, `btf`, `bpf`, `map memory`, `task storage`, those of HOOKS, `iter/task`,
    `socket tracepoints`, `sampling`, `statistics`, `uprobes`, `programs`. What cannot be tried is answered with
    the reason.
    """
    tried = {
        "machine": _machine(),
        "objects": "" if (OBJECTS / "tracekit.lskel").exists() else "not in this installation",
    }
    tried["btf"] = _answer(_read_btf)
    tried["bpf"] = f"not tried: {tried['machine']}" if tried["machine"] else _answer(_create_map)
    if tried["bpf"]:
        features = ("map memory", "task storage", "sampling", "statistics", "uprobes")
        names = (*features, *HOOKS, "iter/task", "socket tracepoints", "programs")
        return tried | dict.fromkeys(names, "not tried: bpf(2) is refused")
    tried |= {name: _answer(attempt) for name, attempt in _ATTEMPTS.items()}
    needed: tuple[str, ...] = ("objects", "map memory", "task storage")
    if not tried["btf"]:
        tried |= _hooks()
        needed = (*needed, *HOOKS, "iter/task")
    tried["programs"] = "not tried: what they need is missing" if any(map(tried.get, needed)) else _programs()
    return tried if not tried["btf"] else tried | _without_btf(tried)


def _without_btf(tried: dict[str, str]) -> dict[str, str]:
    """Return what is known where the file of the kernel's BTF is not to be seen: programs ask the kernel itself."""
    hooks = dict.fromkeys((*HOOKS, "iter/task"), tried["programs"] and "not tried: no BTF")
    return {"btf": tried["programs"] and tried["btf"], **hooks, "socket tracepoints": "not tried: BTF is hidden"}


def _answer(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return ""


def _machine() -> str:
    machine = os.uname().machine
    return "" if machine == MACHINE else f"{machine}, and tracekit's programs are for {MACHINE}"


def _read_btf() -> None:
    with btf.VMLINUX.open("rb") as file:
        file.read(1)


def _create_map() -> None:
    os.close(syscall.map_create(syscall.ARRAY, 4, 8, 1))


def _create_big_map() -> None:
    """Kernels before 5.11 count maps against RLIMIT_MEMLOCK, later ones against the memory control group."""
    os.close(syscall.map_create(syscall.ARRAY, 4, _MAP_BYTES, _MAP_ENTRIES))


def _create_task_storage() -> None:
    described = btf.tiny()
    data = ctypes.create_string_buffer(described, len(described))
    types = syscall.bpf(_BTF_LOAD, struct.pack("=QQIII", syscall.address(data), 0, len(described), 0, 0))
    try:
        os.close(syscall.map_create(syscall.TASK_STORAGE, 4, 8, 0, _NO_PREALLOC, (types, 1, 2)))
    finally:
        os.close(types)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _load(kind: int, attach_type: int = 0, type_id: int = 0) -> int:
    """Load a program that does nothing, for the hook that *type_id* is of; return its descriptor."""
    code = ctypes.create_string_buffer(_RETURN_0, len(_RETURN_0))
    licence = ctypes.create_string_buffer(b"GPL")
    attr = bytearray(128)
    head = (kind, len(_RETURN_0) // 8, syscall.address(code), syscall.address(licence))
    struct.pack_into("=2I2Q", attr, 0, *head)
    struct.pack_into("=I", attr, 68, attach_type)
    struct.pack_into("=I", attr, 108, type_id)
    return syscall.bpf(syscall.PROG_LOAD, attr)


def _hooks() -> dict[str, str]:
    """Attach a program to each tracepoint of HOOKS and SOCKET_HOOKS, and run one over all tasks."""
    types = {name: (btf.TYPEDEF, f"btf_trace_{name}") for name in (*HOOKS, *SOCKET_HOOKS)}
    types["iter/task"] = (btf.FUNC, "bpf_iter_task")
    answers = dict.fromkeys(types, "this kernel does not have it")
    try:
        found = btf.ids(types.values())
    except ValueError as error:
        found, answers = {}, dict.fromkeys(types, str(error))
    for name, type_of in types.items():
        if type_of in found:
            attempt = _iterate if name == "iter/task" else _trace
            answers[name] = _answer(partial(attempt, found[type_of]))
    sockets = [answers.pop(name) for name in SOCKET_HOOKS]
    return answers | {"socket tracepoints": next(filter(None, sockets), "")}


def _trace(type_id: int) -> None:
    with _closing(_load(_TRACING, _RAW_TP, type_id)) as program:
        os.close(syscall.raw_tracepoint(program))


def _iterate(type_id: int) -> None:
    with _closing(_load(_TRACING, syscall.TRACE_ITER, type_id)) as program:
        syscall.run_iterator(program)


def _sample() -> None:
    with _closing(_load(_PERF_EVENT)) as program, _closing(syscall.perf_cpu_clock(_first_cpu(), 99)) as event:
        os.close(syscall.link_create(program, event, syscall.PERF_EVENT))


def _first_cpu() -> int:
    """Return a CPU this process may run on, and so one that is on line."""
    return min(os.sched_getaffinity(0))


def _measure() -> None:
    with syscall.statistics():
        pass


def _probe_own_libc() -> None:
    """Attach to getppid of the libc in this process, and to no other process."""
    function = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value or 0
    path, offset = _in_file(function)
    name = ctypes.create_string_buffer(os.fsencode(path))
    kind = int(_UPROBE_TYPE.read_text())
    attr = struct.pack("=2I5Q2I2Q", kind, 112, 0, 0, 0, 0, 0, 0, 0, syscall.address(name), offset)
    with _closing(_load(_KPROBE)) as program, _closing(syscall.perf_event_open(attr, 0, -1)) as event:
        os.close(syscall.link_create(program, event, syscall.PERF_EVENT))


def _in_file(address: int) -> tuple[str, int]:
    """Return the file mapped at *address* of this process, and where in the file that is."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, _mode, offset, _device, _inode, *path = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in where.split("-"))
        if start <= address < end:
            return path[0], address - start + int(offset, 16)
    raise ValueError("libc is not in /proc/self/maps")


def _programs() -> str:
    """Load and attach the programs of a recording as an attach does, to no process."""
    try:
        kernel = Kernel(Options(Path(os.devnull), latency=True, cgroup="/"), ())
    except MachineError as error:
        return str(error)
    try:
        kernel.attach()
    except MachineError as error:
        return str(error)
    finally:
        kernel.close()
    return ""


_ATTEMPTS = {
    "map memory": _create_big_map,
    "task storage": _create_task_storage,
    "sampling": _sample,
    "statistics": _measure,
    "uprobes": _probe_own_libc,
}
