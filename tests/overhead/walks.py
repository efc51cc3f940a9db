"""
What a walk of a stack takes in the kernel: of Python frames, of native ones, and the rest of a sample.

Samples are taken of a running process, which is said to have Python and native code, one of them, or neither, in
turn. The kernel's statistics of BPF programs give the time of each; what differs is the walk. Their own cost is in
both and drops out.
"""

from __future__ import annotations

import statistics
import struct
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture import wire
from tracekit.capture.bpf import syscall
from tracekit.capture.kernel import Kernel
from tracekit.capture.options import Options
from tracekit.capture.stacks import layout
from tracekit.capture.stacks.interpreter import find
from tracekit.capture.stacks.layouts import Layouts

if TYPE_CHECKING:
    from pathlib import Path

    from tracekit.capture.stacks.programs import Programs

NUMBER = 1
"""Of the layout that the process has."""
_PATIENCE_S = 30
_EVENT = struct.pack("=IIQQQQQ", 1, 112, 0, wire.SAMPLE_HZ, 0, 0, 1 << 10)
"""struct perf_event_attr: of software, cpu-clock, a frequency."""
_PYTHON, _CODES = slice(0, layout.PYTHON.size), slice(layout.PYTHON.size, layout.LAYOUT_HEAD.size - 4)
_VERSION = slice(_CODES.stop, layout.LAYOUT_HEAD.size)
_POLL_S = 0.1
_KIND = 4 + layout.STACK_SPANS + 7
"""Place of the kind in a record."""


class Walk(NamedTuple):
    """µs a sample: the Python walk, the native walk, and the rest, which is the kernel's frames and the record."""

    python_us: float
    native_us: float
    rest_us: float


class _Walker:
    """Takes samples of one process."""

    def __init__(self, pid: int, kernel: Kernel, programs: Programs) -> None:
        self._pid, self._kernel, self._programs = pid, kernel, programs
        self._layout = self._learn()
        self._version = int.from_bytes(self._layout[_VERSION], "little")

    def _learn(self) -> bytes:
        """Return the layout of the process once all of its tables have come."""
        found = find(self._pid)
        assert found
        with closing(Layouts(self._programs.rows, self._programs.pages, at_once=True)) as layouts:
            packed = layouts.pack(self._pid, found.packed())
            deadline = time.monotonic() + _PATIENCE_S
            while layouts._asked and time.monotonic() < deadline:
                time.sleep(_POLL_S)
                if layouts.poll():
                    packed = layouts.pack(self._pid, found.packed())
        return packed

    def cost_ns(self, seconds: float, python: bool, native: bool) -> float:
        """Return the run time a sample of the process, all that is not its own included."""
        content = bytearray(self._layout)
        if not python:
            content[_PYTHON] = bytes(layout.PYTHON.size)
        if not native:
            content[_CODES] = bytes(_CODES.stop - _CODES.start)
        self._version += 1
        content[_VERSION] = self._version.to_bytes(4, "little")
        self._programs.set_layout(NUMBER, bytes(content))
        self._programs.give_layout(self._pid, NUMBER)
        time.sleep(_POLL_S)
        self._samples()
        before = self._run_time_ns()
        time.sleep(seconds)
        return (self._run_time_ns() - before) / max(1, self._samples())

    def _run_time_ns(self) -> int:
        return self._kernel.costs()["on_sample"].run_time_ns

    def _samples(self) -> int:
        """Return how many samples have come since the last call."""
        return sum(layout.RECORD.unpack_from(record)[_KIND] == layout.STACK_CPU for record in self._programs.records())


def walk(pid: int, folder: Path, rounds: int, seconds: float) -> Walk:
    """
    Return what walks of a process take, medians of as many rounds, in which each kind of walk has *seconds*.

    Raises:
        RuntimeError: the programs are not loaded.
    """
    options = Options(folder / "walks.tk", pids=(pid,), errors=False, db=False, stack_hz=99)
    with closing(Kernel(options, options.pids)) as kernel, syscall.statistics():
        kernel._sample_cpus = partial(_sample, kernel, pid)
        kernel.attach()
        kernel.mark()
        walker = _Walker(pid, kernel, _programs(kernel))
        kinds = (
            {"python": True, "native": True},
            {"python": True, "native": False},
            {"python": False, "native": False},
        )
        costs = [[walker.cost_ns(seconds, **kind) / 1e3 for kind in kinds] for _ in range(rounds)]
    whole, python, rest = zip(*costs, strict=True)
    return Walk(_difference(python, rest), _difference(whole, python), statistics.median(rest))


def _sample(kernel: Kernel, pid: int) -> None:
    """Take samples while the process runs, and of nothing else: samples of others would be in what is measured."""
    event = syscall.perf_event_open(_EVENT, pid, -1)
    link = syscall.link_create(kernel._loaded.programs["on_sample"], event, syscall.PERF_EVENT)
    kernel._tiers.follow((), [event, link])


def _difference(more: tuple[float, ...], less: tuple[float, ...]) -> float:
    return statistics.median(a - b for a, b in zip(more, less, strict=True))


def _programs(kernel: Kernel) -> Programs:
    kernel.load_stacks()
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        programs = kernel.take_stacks()
        if programs:
            return programs
        time.sleep(_POLL_S)
    raise RuntimeError(f"stacks are not taken: {kernel.missing}")
