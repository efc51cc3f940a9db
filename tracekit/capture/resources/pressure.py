"""Pressure stall information: time in which tasks of the host waited for CPU, memory or I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.capture.resources.files import Missing, read
from tracekit.capture.resources.increase import Increases
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from pathlib import Path

    from tracekit.capture.resources.increase import Sample

_RESOURCES = ("cpu", "memory", "io")
_WHY = "the kernel has no pressure stall information (boot with psi=1)"


def _series(resource: str, kind: str) -> Series:
    return Series("psi", labels_of({"resource": resource, "kind": kind}), "counter", "ns")


class Pressure:
    """The `total=` counters of /proc/pressure, which count microseconds since boot."""

    def __init__(self, root: Path, missing: Missing) -> None:
        self._paths = {resource: f"{root}/proc/pressure/{resource}" for resource in _RESOURCES}
        self._missing = missing
        self._increases = Increases()

    def sample(self) -> list[Sample]:
        """Return `psi` of each resource there is a file for."""
        return self._increases.since([sample for resource in list(self._paths) for sample in self._totals(resource)])

    def _totals(self, resource: str) -> list[Sample]:
        try:
            text = read(self._paths[resource]).decode()
        except OSError:  # no CONFIG_PSI: no file; psi=0: the file cannot be read
            del self._paths[resource]
            self._missing.note(f"psi ({resource})", _WHY)
            return []
        return [(_series(resource, kind), total_us * 1000) for kind, total_us in _parse(resource, text)]


def _parse(resource: str, text: str) -> list[tuple[str, int]]:
    """Return (kind, µs) of each line. A full stall for CPU is not defined for a whole host: the kernel says 0."""
    lines = [line.split() for line in text.splitlines()]
    totals = [(words[0], int(words[-1].partition("=")[2])) for words in lines]
    return [(kind, total) for kind, total in totals if (resource, kind) != ("cpu", "full")]
