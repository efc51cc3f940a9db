"""CPU bandwidth throttling of the target's control groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.resources.files import Missing, read
from tracekit.capture.resources.increase import Increases
from tracekit.records import Series, labels_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from tracekit.capture.resources.increase import Sample

_FIRST_PIDS = 8
_NAMES = "throttle.time, throttle.periods"


class _Mount(NamedTuple):
    point: str
    """Where it is mounted."""
    top: str
    """Which group of the hierarchy is mounted there; `/` unless in a container."""


class _Group(NamedTuple):
    name: str
    stat: str
    """Path of its cpu.stat."""


class Throttle:
    """
    Throttled time and periods of the groups the target's first processes are in, and of those above them.

    A quota on a group above throttles the target and counts there only. So groups above are given too, as
    soon as they have a quota; the lowest one always, so that its zero is a measurement.
    """

    def __init__(self, root: Path, missing: Missing) -> None:
        self._root = root
        self._missing = missing
        self._found = False
        self._lowest: dict[str, _Group] = {}
        self._above: dict[str, _Group] = {}
        self._increases = Increases()

    def sample(self, live: Collection[int]) -> list[Sample]:
        """Return `throttle.time` and `throttle.periods`; the groups are found when the target has a process."""
        if live and not self._found:
            self._found = True
            self._find(sorted(live)[:_FIRST_PIDS])
        samples = [sample for group in self._lowest.values() for sample in _throttled(group, always=True)]
        samples += [sample for group in self._above.values() for sample in _throttled(group, always=False)]
        return self._increases.since(samples)

    def _find(self, pids: list[int]) -> None:
        try:
            mounts = _mounts((self._root / "proc/self/mountinfo").read_bytes().decode(errors="surrogateescape"))
        except OSError as error:
            self._missing.failed(_NAMES, error)
            return
        for pid in pids:
            groups = [group for group in self._groups_of(pid, mounts) if _has_throttling(group)]
            self._lowest |= {group.name: group for group in groups[:1]}
            self._above |= {group.name: group for group in groups[1:]}
        self._above = {name: group for name, group in self._above.items() if name not in self._lowest}
        if not self._lowest:
            self._missing.note(_NAMES, "no CPU controller on the target's control group")

    def _groups_of(self, pid: int, mounts: dict[str, _Mount]) -> list[_Group]:
        try:
            text = read(f"{self._root}/proc/{pid}/cgroup").decode(errors="surrogateescape")
        except OSError:  # the process has gone
            return []
        return _chain(self._root, text, mounts)


def _has_throttling(group: _Group) -> bool:
    try:
        return b"nr_throttled" in read(group.stat)
    except OSError:  # above what this namespace shows
        return False


def _throttled(group: _Group, *, always: bool) -> list[Sample]:
    try:
        stat = dict(line.split() for line in read(group.stat).decode().splitlines())
    except OSError:  # the group was removed with the last of its processes
        return []
    if not (always or int(stat["nr_periods"])):
        return []
    in_v1 = "throttled_time" in stat  # ns there, µs in version 2
    time_ns = int(stat["throttled_time"]) if in_v1 else int(stat["throttled_usec"]) * 1000
    labels = labels_of({"cgroup": group.name})
    periods = Series("throttle.periods", labels, "counter", "count")
    return [(Series("throttle.time", labels, "counter", "ns"), time_ns), (periods, int(stat["nr_throttled"]))]


def _mounts(mountinfo: str) -> dict[str, _Mount]:
    """Return the mounts of the CPU controller of version 1 (`cpu`) and of version 2 (`unified`), first of each."""
    mounts: dict[str, _Mount] = {}
    for line in mountinfo.split("\n")[:-1]:  # names may hold what splitlines() and split() take for ends
        before, _, after = line.partition(" - ")
        words, (kind, _source, options) = before.split(" "), after.split(" ", 2)
        mount = _Mount(_unescape(words[4]), _unescape(words[3]))
        if kind == "cgroup2":
            mounts.setdefault("unified", mount)
        elif kind == "cgroup" and "cpu" in options.split(","):
            mounts.setdefault("cpu", mount)
    return mounts


def _unescape(path: str) -> str:
    """Undo the octal escapes of mountinfo: space, tab, newline and backslash."""
    for escape, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(escape, char)
    return path


def _chain(root: Path, cgroup: str, mounts: dict[str, _Mount]) -> list[_Group]:
    """Return the group named in *cgroup* (/proc/PID/cgroup) and those above it, lowest first."""
    paths = {}
    for line in cgroup.split("\n")[:-1]:
        _id, controllers, name = line.split(":", 2)
        if "cpu" in controllers.split(","):
            paths["cpu"] = name
        elif not controllers:
            paths["unified"] = name
    kind = "cpu" if "cpu" in paths and "cpu" in mounts else "unified"
    if kind not in paths or kind not in mounts:
        return []
    mount, path = mounts[kind], Path(paths[kind])
    if path.is_relative_to(mount.top):
        path = "/" / path.relative_to(mount.top)
    levels = [level for level in (path, *path.parents) if ".." not in level.parts]
    point = f"{root}/{mount.point.lstrip('/')}"
    return [_Group(str(level), f"{point}{level}/cpu.stat") for level in levels]
