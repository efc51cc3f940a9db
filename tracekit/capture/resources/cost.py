"""What the collector itself takes: CPU time and memory."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tracekit.capture.resources.files import read
from tracekit.capture.resources.increase import Increases
from tracekit.records import Series

if TYPE_CHECKING:
    from pathlib import Path

    from tracekit.capture.resources.increase import Sample

_CPU = Series("cost.collector", (), "counter", "ns")
_RSS = Series("cost.rss", (), "gauge", "bytes")


class Cost:
    """CPU time (all threads) and resident memory of this process."""

    def __init__(self, root: Path, own_pid: int) -> None:
        self._statm = f"{root}/proc/{own_pid}/statm"
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._increases = Increases()

    def sample(self) -> list[Sample]:
        """Return `cost.collector` and `cost.rss`."""
        resident_pages = int(read(self._statm).split()[1])
        cpu = self._increases.since([(_CPU, time.process_time_ns())])
        return [*cpu, (_RSS, resident_pages * self._page_bytes)]
