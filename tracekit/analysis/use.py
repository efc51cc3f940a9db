"""
Utilisation, saturation and errors of the machine, and what the target used of it.

Source:
    The USE method, Brendan Gregg (https://www.brendangregg.com/usemethod.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekit.analysis.summary import Samples, Summary


@dataclass(frozen=True)
class Cpus:
    """Busy shares, means over the recording, of all CPUs and of the busiest; steal: taken by other guests."""

    mean: float
    busiest: str
    busiest_mean: float
    steal: float | None


@dataclass(frozen=True)
class Memory:
    """The host's memory at its fullest: bytes and share not available to new work; swap in use. None: not measured."""

    taken_bytes: float
    share: float
    swap_bytes: float | None


@dataclass(frozen=True)
class Disk:
    """A disk: busy share of the recording, bytes per second. None: not measured."""

    name: str
    busy: float | None
    read_rate: float | None
    write_rate: float | None


@dataclass(frozen=True)
class Nic:
    """A network interface: bytes per second, packets dropped or broken. None: not measured."""

    name: str
    received_rate: float | None
    sent_rate: float | None
    dropped: int | None
    errors: int | None


@dataclass(frozen=True)
class Gpu:
    """
    A GPU, means over the recording. None: not measured.

    Attributes:
        busy, target: share of the time, and as much of it for the target.
        memory: share in use at most.
        watts: power drawn.
        throttled: share of the samples in which clocks were held down, by reason; 0 is not in it.
    """

    name: str
    busy: float | None
    target: float | None
    memory: float | None
    watts: float | None
    throttled: dict[str, float] | None


@dataclass(frozen=True)
class Used:
    """What the target used; CPU in cores, I/O in bytes. None: not measured."""

    cpu: Samples | None
    rss: Samples | None
    processes: Samples | None
    threads: Samples | None
    fds: Samples | None
    read: int | None
    written: int | None


def cpus(summary: Summary) -> Cpus | None:
    """Return how busy the host's CPUs were."""
    busy = {s.label("cpu"): samples.mean for s, samples in summary.gauges.items() if s.metric == "host.cpu"}
    if not busy:
        return None
    busiest = max(busy, key=lambda name: busy[name])
    steal = summary.gauge("host.steal")
    return Cpus(sum(busy.values()) / len(busy), busiest, busy[busiest], steal.mean if steal else None)


def memory(summary: Summary, size_bytes: int) -> Memory | None:
    """Return the memory of a host of *size_bytes* at its fullest."""
    free, swap = summary.gauge("host.memory.available"), summary.gauge("host.swap.used")
    if not free or not size_bytes:
        return None
    taken = size_bytes - free.min
    return Memory(taken, taken / size_bytes, swap.max if swap else None)


def disks(summary: Summary) -> list[Disk] | None:
    """Return the disks that did anything, the busiest first; None if disks were not measured."""
    found = [_disk(summary, name) for name in _names(summary, "host.disk.", "disk")]
    active = [disk for disk in found if disk.busy or disk.read_rate or disk.write_rate]
    if not found:
        return None
    return sorted(active, key=lambda d: (-(d.busy or 0), -(d.read_rate or 0) - (d.write_rate or 0), d.name))


def nics(summary: Summary) -> list[Nic] | None:
    """Return the network interfaces that did anything, the busiest first; None if they were not measured."""
    found = [_nic(summary, name) for name in _names(summary, "host.net.", "nic")]
    active = [nic for nic in found if nic.received_rate or nic.sent_rate or nic.dropped or nic.errors]
    if not found:
        return None
    return sorted(active, key=lambda n: (-(n.received_rate or 0) - (n.sent_rate or 0), n.name))


def gpus(summary: Summary) -> list[Gpu]:
    """Return the GPUs in the order of their numbers; none where there is none, or none that could be read."""
    names = {series.label("gpu") for series in summary.gauges if series.metric.startswith("gpu.")}
    return [_gpu(summary, name) for name in sorted(names, key=lambda name: (len(name), name))]


def used(summary: Summary) -> Used:
    """Return what the target used."""
    return Used(
        cpu=summary.gauge("cpu"),
        rss=summary.gauge("rss"),
        processes=summary.gauge("processes"),
        threads=summary.gauge("threads"),
        fds=summary.gauge("fds"),
        read=summary.counter("io.read"),
        written=summary.counter("io.write"),
    )


def _gpu(summary: Summary, name: str) -> Gpu:
    of_gpu = {s: samples for s, samples in summary.gauges.items() if s.label("gpu") == name}
    found = {s.metric: samples for s, samples in of_gpu.items()}
    used, free = found.get("gpu.memory.used"), found.get("gpu.memory.available")
    reasons = {s.label("reason"): samples.mean for s, samples in of_gpu.items() if s.metric == "gpu.throttled"}
    return Gpu(
        name=name,
        busy=_mean(found.get("gpu.utilisation")),
        target=_mean(found.get("gpu.process.utilisation")),
        memory=used.max / (used.last + free.last) if used and free else None,
        watts=_mean(found.get("gpu.power")),
        throttled={reason: share for reason, share in reasons.items() if share} if reasons else None,
    )


def _mean(samples: Samples | None) -> float | None:
    return samples.mean if samples else None


def _names(summary: Summary, prefix: str, label: str) -> list[str]:
    return sorted({series.label(label) for series in summary.counters if series.metric.startswith(prefix)})


def _disk(summary: Summary, name: str) -> Disk:
    busy = summary.share(summary.counter("host.disk.busy", disk=name))
    read, written = (_rate(summary, f"host.disk.{way}", disk=name) for way in ("read", "write"))
    return Disk(name, busy, read, written)


def _nic(summary: Summary, name: str) -> Nic:
    received, sent = (_rate(summary, f"host.net.{way}", nic=name) for way in ("received", "sent"))
    dropped, errors = (summary.counter(f"host.net.{kind}", nic=name) for kind in ("dropped", "errors"))
    return Nic(name, received, sent, dropped, errors)


def _rate(summary: Summary, metric: str, **labels: str) -> float | None:
    count = summary.counter(metric, **labels)
    return None if count is None else summary.rate(count)
