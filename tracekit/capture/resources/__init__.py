"""
What the collector samples at each tick: the host, its pressure, its GPUs, the target's tree, its own cost.

Nothing heavy is imported with this package: psutil (42 ms of CPU) comes with the first sample, when the
programs of the kernel are attached already; NVML's binding only where there is a GPU, in a thread of its own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tracekit.capture.resources.cost import Cost
from tracekit.capture.resources.files import Missing
from tracekit.capture.resources.gpu import Gpus
from tracekit.capture.resources.pressure import Pressure
from tracekit.capture.resources.throttle import Throttle
from tracekit.capture.resources.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tracekit.capture.resources.host import HostUse
    from tracekit.capture.resources.increase import Sample

__all__ = ["Resources"]


class Resources:
    """
    All series of docs/metrics.md that need no BPF program.

    Args:
        tree: gives the tgids of the target that are alive.
        own_pid: tgid of the collector, which is cost and never target.
        root: directory that holds `proc` and `sys`.
        budget_ns: CPU time one call may spend on the processes of the target.
        cpu_ns: gives the CPU time of the collector so far.
    """

    def __init__(
        self,
        tree: Callable[[], Collection[int]],
        own_pid: int,
        root: Path = Path("/"),
        budget_ns: int = 2_000_000,
        cpu_ns: Callable[[], int] = time.process_time_ns,
    ) -> None:
        self._missing = Missing()
        self._root = root
        self._host: HostUse | None = None
        self._pressure = Pressure(root, self._missing)
        self._throttle = Throttle(root, self._missing)
        self._tree = Tree(root, self._missing, budget_ns)
        self._cost = Cost(root, own_pid, cpu_ns)
        self._gpus = Gpus(root, self._missing)
        self._live = tree
        self._own_pid = own_pid

    @property
    def missing(self) -> list[str]:
        """What is left out, each one line with its reason."""
        return self._missing.lines

    def sample(self) -> list[Sample]:
        """Return counters as increase since the last call and gauges as they are; only gauges the first time."""
        live = set(self._live()) - {self._own_pid}
        return [
            *self._tree.sample(live),
            *self._throttle.sample(live),
            *self._pressure.sample(),
            *self._host_use().sample(),
            *self._gpus.sample(live),
            *self._cost.sample(),
        ]

    def _host_use(self) -> HostUse:
        if self._host is None:
            from tracekit.capture.resources.host import HostUse  # noqa: PLC0415 - psutil, only once attached

            self._host = HostUse(self._root, self._missing)
        return self._host
