"""Which machine this is, and the time on its clocks. Cheap, and complete even where files are missing."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tracekit import __version__
from tracekit.records import Clocks, Host

_KERNELS_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def facts(root: Path = Path("/")) -> Host:
    """Return the machine under *root*; what cannot be read is "" or 0."""
    system = os.uname()
    return Host(
        hostname=_text(root / "proc/sys/kernel/hostname") or system.nodename,
        kernel=_text(root / "proc/sys/kernel/osrelease") or system.release,
        machine=system.machine,
        cpus=_cpus(root),
        cpu_model=_field(root / "proc/cpuinfo", "model name"),
        memory_bytes=_kilobytes(_field(root / "proc/meminfo", "MemTotal")),
        boot_id=_text(root / "proc/sys/kernel/random/boot_id"),
        tracekit=__version__,
    )


def clocks() -> Clocks:
    """Return this moment on three clocks, read within a microsecond or so."""
    return Clocks(
        time.monotonic_ns(),
        time.time_ns(),
        time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )


def has_kernels_pids(root: Path = Path("/")) -> bool:
    """Tell whether process ids here are those of the kernel: not so in most containers. Raises OSError: no /proc."""
    return str((root / "proc/self/ns/pid").readlink()) == _KERNELS_PID_NAMESPACE


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _field(path: Path, name: str) -> str:
    """Return what follows `name:` in the first line that begins so, and read no further: cpuinfo is long."""
    try:
        with path.open(errors="replace") as lines:
            pairs = (line.partition(":") for line in lines)
            return next((value.strip() for key, _, value in pairs if key.strip() == name), "")
    except OSError:
        return ""


def _kilobytes(text: str) -> int:
    number = text.partition(" ")[0]
    return int(number) * 1024 if number.isdigit() else 0


def _cpus(root: Path) -> int:
    """Return how many CPUs are on line, from a list such as `0-3,6`."""
    ranges = [part.partition("-") for part in _text(root / "sys/devices/system/cpu/online").split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
