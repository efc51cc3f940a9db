"""What the collector itself takes: CPU time and memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracekit.capture.resources.files import read
from tracekit.capture.resources.increase import Increases
from tracekit.records import Series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tracekit.capture.resources.increase import Sample

_CPU = Series("cost.collector", (), "counter", "ns")
_RSS = Series("cost.rss", (), "gauge", "bytes")


class Cost:
    """
    CPU time and resident memory of this process.

    Args:
        root: directory that holds `proc`.
        own_pid: of this process.
        cpu_ns: gives the CPU time so far, of all threads, and of processes that work for this one.
    """

    def __init__(self, root: Path, own_pid: int, cpu_ns: Callable[[], int]) -> None:
        self._cpu_ns = cpu_ns
        self._statm = f"{root}/proc/{own_pid}/statm"
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._increases = Increases()

    def sample(self) -> list[Sample]:
        """Return `cost.collector` and `cost.rss`."""
        resident_pages = int(read(self._statm).split()[1])
        cpu = self._increases.since([(_CPU, self._cpu_ns())])
        return [*cpu, (_RSS, resident_pages * self._page_bytes)]
