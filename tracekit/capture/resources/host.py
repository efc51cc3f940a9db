"""Use of the host: CPUs, memory, disks, network cards. Imports psutil, so it is imported late."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from tracekit.capture.resources.files import Missing, read
from tracekit.capture.resources.increase import Increases
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from pathlib import Path

    from tracekit.capture.resources.increase import Sample

_Source = Callable[[], "list[Sample]"]
_STEAL = Series("host.steal", (), "gauge", "share")
_USED = Series("host.memory.used", (), "gauge", "bytes")
_AVAILABLE = Series("host.memory.available", (), "gauge", "bytes")
_SWAP = Series("host.swap.used", (), "gauge", "bytes")
_IDLE, _IOWAIT, _STOLEN = 3, 4, 7  # columns of /proc/stat; the first eight add up to all time
_COLUMNS = 8


class HostUse:
    """
    Counters and gauges of the whole machine, or of the network namespace for its cards.

    psutil reads memory, disks and cards. CPUs and swap are read here: psutil gives CPUs without their
    numbers, which are not 0..n when one is offline, and reads all of /proc/vmstat for swap.
    """

    def __init__(self, root: Path, missing: Missing) -> None:
        psutil.PROCFS_PATH = f"{root}/proc"
        self._root = root
        self._missing = missing
        self._ticks: dict[str, list[int]] = {}
        self._increases = Increases()
        self._sources: dict[str, _Source] = {
            "host.cpu, host.steal": self._cpus,
            "host.memory": self._memory,
            "host.swap": self._swap,
        }
        self._counters: dict[str, _Source] = {"host.disk": self._disks, "host.net": self._cards}

    def sample(self) -> list[Sample]:
        """Return all `host.*` series that the machine has a file for."""
        gauges = self._read(self._sources)
        return [*gauges, *self._increases.since(self._read(self._counters))]

    def _read(self, sources: dict[str, _Source]) -> list[Sample]:
        return [sample for name in list(sources) for sample in self._try(name, sources)]

    def _try(self, name: str, sources: dict[str, _Source]) -> list[Sample]:
        try:
            return sources[name]()
        except OSError as error:
            del sources[name]
            self._missing.failed(name, error)
            return []

    def _cpus(self) -> list[Sample]:
        lines = read(f"{self._root}/proc/stat").decode().splitlines()
        rows = (line.split() for line in lines if line.startswith("cpu"))
        ticks = {row[0]: [int(word) for word in row[1 : _COLUMNS + 1]] for row in rows}
        before, self._ticks = self._ticks, ticks
        samples: list[Sample] = []
        for name, now in ticks.items():
            if name not in before:  # the first call, or a CPU that came on line
                continue
            spent = [max(0, new - old) for new, old in zip(now, before[name], strict=True)]
            if sum(spent):
                samples.append(_cpu_share(name, spent))
        return samples

    def _memory(self) -> list[Sample]:
        memory = psutil.virtual_memory()
        return [(_USED, memory.total - memory.available), (_AVAILABLE, memory.available)]

    def _swap(self) -> list[Sample]:
        lines = read(f"{self._root}/proc/meminfo").decode().splitlines()
        kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Swap")}
        return [(_SWAP, (kilobytes["SwapTotal"] - kilobytes["SwapFree"]) * 1024)]

    def _disks(self) -> list[Sample]:
        (self._root / "proc/diskstats").stat()  # psutil goes on without it, and reads another root
        samples: list[Sample] = []
        for disk, io in psutil.disk_io_counters(perdisk=True, nowrap=False).items():
            if any(io) and self._is_whole(disk):
                samples += [
                    (_counter("host.disk.read", "disk", disk, "bytes"), io.read_bytes),
                    (_counter("host.disk.write", "disk", disk, "bytes"), io.write_bytes),
                    (_counter("host.disk.busy", "disk", disk, "ns"), io.busy_time * 1_000_000),
                ]
        return samples

    def _is_whole(self, disk: str) -> bool:
        """Partitions have no directory of their own in /sys/block; their I/O is in that of the disk."""
        return (self._root / "sys/block" / disk.replace("/", "!")).exists()

    def _cards(self) -> list[Sample]:
        samples: list[Sample] = []
        for nic, io in psutil.net_io_counters(pernic=True, nowrap=False).items():
            if any(io):
                samples += [
                    (_counter("host.net.received", "nic", nic, "bytes"), io.bytes_recv),
                    (_counter("host.net.sent", "nic", nic, "bytes"), io.bytes_sent),
                    (_counter("host.net.dropped", "nic", nic, "count"), io.dropin + io.dropout),
                    (_counter("host.net.errors", "nic", nic, "count"), io.errin + io.errout),
                ]
        return samples


def _cpu_share(name: str, spent: list[int]) -> Sample:
    """Return `host.cpu` of `cpu7`, or `host.steal` of `cpu`, the sum. Stolen time is busy time, as in psutil."""
    if name == "cpu":
        return _STEAL, spent[_STOLEN] / sum(spent)
    series = Series("host.cpu", labels_of({"cpu": name.removeprefix("cpu")}), "gauge", "share")
    return series, 1 - (spent[_IDLE] + spent[_IOWAIT]) / sum(spent)


def _counter(metric: str, label: str, name: str, unit: str) -> Series:
    return Series(metric, ((label, name),), "counter", unit)
