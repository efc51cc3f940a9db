"""The sampler of each CPU: it is set up anew where it has fallen silent, as it does when its CPU goes off line."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture import wire
from tracekit.capture.bpf import syscall

if TYPE_CHECKING:
    from collections.abc import Callable

SILENT_NS = 20 * 10**9 // wire.SAMPLE_HZ
"""A CPU that is on line has some 20 samples in this time, also when it is idle; none: its event has gone."""
_POSSIBLE = Path("/sys/devices/system/cpu/possible")
_ONLINE = Path("/sys/devices/system/cpu/online")


class Samplers:
    """
    A program that runs on every CPU that is on line, wire.SAMPLE_HZ times a second.

    Args:
        program: descriptor of the program.
        samples: returns how often it has run on each possible CPU.
    """

    def __init__(self, program: int, samples: Callable[[], list[int]]) -> None:
        self._program = program
        self._samples = samples
        self._descriptors: dict[int, tuple[int, ...]] = {}
        self._before: list[int] = []
        self._looked_ns = 0

    def attach(self) -> None:
        """Begin. Raises OSError: the kernel has no such event for us."""
        for cpu in online_cpus():
            try:
                self._attach(cpu)
            except OSError as error:  # noqa: PERF203 - one a CPU
                if error.errno != errno.ENODEV:  # it has gone in this moment
                    raise
        self._before, self._looked_ns = self._samples(), time.monotonic_ns()

    def follow(self) -> None:
        """
        Set up what CPUs lack that have come on line, or that went and came back: the kernel drops their events.

        Call it once a tick. A CPU that cannot be sampled now is tried again at the next one.
        """
        now = time.monotonic_ns()
        if not self._looked_ns or now - self._looked_ns < SILENT_NS:
            return
        samples = self._samples()
        silent = [cpu for cpu in online_cpus() if cpu not in self._descriptors or samples[cpu] == self._before[cpu]]
        self._before, self._looked_ns = samples, now
        for cpu in silent:
            self._detach(cpu)
            with suppress(OSError):
                self._attach(cpu)

    def close(self) -> None:
        """End."""
        self._looked_ns = 0
        for cpu in list(self._descriptors):
            self._detach(cpu)

    def _attach(self, cpu: int) -> None:
        event = syscall.perf_cpu_clock(cpu, wire.SAMPLE_HZ)
        self._descriptors[cpu] = (event,)
        self._descriptors[cpu] = (syscall.link_create(self._program, event, syscall.PERF_EVENT), event)

    def _detach(self, cpu: int) -> None:
        for descriptor in self._descriptors.pop(cpu, ()):
            os.close(descriptor)


def possible_cpus() -> int:
    """Return one more than the highest number that a CPU of this machine can have."""
    return _ranges(_POSSIBLE)[-1] + 1


def online_cpus() -> list[int]:
    """Return the numbers of the CPUs that work now."""
    return _ranges(_ONLINE)


def _ranges(path: Path) -> list[int]:
    """Read a list of CPUs such as `0-3,8`."""
    numbers: list[int] = []
    for part in path.read_text().strip().split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers
