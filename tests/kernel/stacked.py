"""Stacks of programs, recorded from when the walkers know them: what tests of stacks do first."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.kernel.lab import PATIENCE_S, SLACK, go, until
from tracekit.capture.bpf import syscall
from tracekit.capture.stacks import layout
from tracekit.capture.stacks.layouts import is_usual
from tracekit.capture.stacks.mappings import mappings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.kernel.lab import Lab, Run, Tracer

HZ = 99
PERIOD_NS = 10**9 // HZ
CUT, STARTING, UNREADABLE = "[deeper frames cut]", "[thread start or exit]", "[unreadable frame]"
_PYTHON = re.compile(r"(.*) \((.*):(\d+)\)", re.DOTALL)
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_libc = ctypes.CDLL(None, use_errno=True)


class Frame(NamedTuple):
    """A Python frame; file: its last part."""

    name: str
    file: str
    line: int


@dataclass(frozen=True)
class Row:
    """What was sampled of a stack, root first."""

    labels: dict[str, str]
    bucket: int
    frames: tuple[str, ...]
    weight: int
    count: int

    @property
    def python(self) -> tuple[Frame, ...]:
        """The Python frames alone."""
        found = [_PYTHON.fullmatch(frame) for frame in self.frames]
        return tuple(Frame(match[1], Path(match[2]).name, int(match[3])) for match in found if match)

    @property
    def kernel(self) -> tuple[str, ...]:
        """The kernel's frames alone."""
        return tuple(frame for frame in self.frames if frame.endswith("_[k]"))

    def has(self, name: str) -> bool:
        """Is a Python function of *name* in it?"""
        return any(frame.name == name for frame in self.python)


def record(lab: Lab, commands: Mapping[str, Sequence[str | Path]], *options: str, at_a_time: int = 1) -> Run:
    """
    Record programs, one after the other or some at a time, from the first thing that they do.

    Args:
        commands: by the name that the process gets. Name and the file for its truth are added; when it is ready it
            makes that file with `.ready` behind, and waits for a line.
    """
    folder = lab.folder()
    with ExitStack() as stack:
        targets = [stack.enter_context(started(command, name, folder)) for name, command in commands.items()]
        pids = [word for target in targets for word in ("-p", str(target.pid))]
        tracer = stack.enter_context(lab.attached(*pids, "--stack-hz", str(HZ), *options, folder=folder))
        for target in targets:
            until(partial(walked, tracer, target.pid), "the walkers to know the programs")
        for first in range(0, len(targets), at_a_time):
            some = targets[first : first + at_a_time]
            for target in some:
                go(target)
            codes = [target.wait(PATIENCE_S) for target in some]
            assert not any(codes), f"programs ended with {codes}"
        tracer.wait()
        return tracer.result()


@contextmanager
def started(command: Sequence[str | Path], name: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program as `record` does, and yield it when it is ready."""
    truth = folder / f"{name}.json"
    ready = folder / f"{name}.json.ready"
    with subprocess.Popen([*command, name, truth], cwd=folder, stdin=subprocess.PIPE) as target:
        try:
            until(lambda: ready.exists() or target.poll() is not None, "the program to be ready")
            assert target.poll() is None, f"the program ended with {target.returncode}"
            yield target
        finally:
            target.kill()


def rows(run: Run, metric: str, **labels: str) -> list[Row]:
    """Return the stacks of all series of *metric* with *labels*."""
    found = []
    for series, samples in run.recording.samples(metric, labels).items():
        for bucket, stack, weight, count in zip(
            samples.bucket, samples.stack, samples.weight, samples.count, strict=True
        ):
            frames = samples.frames[stack]
            found.append(Row(dict(series.labels), int(bucket), frames, int(weight), int(count)))
    return found


def weight(found: Iterable[Row], name: str = "") -> int:
    """Return what the stacks with a Python function *name* weigh; "": all."""
    return sum(row.weight for row in found if not name or row.has(name))


def count(found: Iterable[Row], name: str = "") -> int:
    """Return how many samples have a Python function *name*; "": all."""
    return sum(row.count for row in found if not name or row.has(name))


def walked(tracer: Tracer, pid: int) -> bool:
    """
    Tell whether the walkers have what they need of a process: its Python, if any, and rows of its usual libraries.

    On an emulated CPU rows take minutes to make, and Python's frames need none.
    """
    has_python = "python" in Path(f"/proc/{pid}/exe").readlink().name
    collector = tracer.process.pid
    maps = _maps(collector)
    numbers = _looked_up(collector, maps[layout.MAX_PROCESSES, 4], pid.to_bytes(4, "little"), 4)
    layouts = maps[layout.MAX_LAYOUTS, layout.LAYOUT_BYTES]
    packed = [_looked_up(collector, layouts, number, layout.LAYOUT_BYTES) for number in numbers]
    process = Path(f"/proc/{pid}")
    program = bytes((process / "exe").readlink())
    unusual = {mapping.start for mapping in mappings(process)[0] if not is_usual(mapping, program)}
    return any(_is_whole(each, unusual, has_python=has_python) for found in packed for each in found)


def _looked_up(pid: int, maps: list[int], key: bytes, size: int) -> list[bytes]:
    """Return what maps of a process have at *key*, if they have it; others than the one that is meant may, too."""
    found = []
    for number in maps:
        with _descriptor(pid, number) as table:
            found.append(syscall.map_lookup(table, key, size))
    return [value for value in found if value is not None]


def _is_whole(packed: bytes, unusual: set[int], *, has_python: bool) -> bool:
    python, codes, _ = layout.LAYOUT_HEAD.unpack_from(packed)
    found = [layout.CODE.unpack_from(packed, layout.LAYOUT_HEAD.size + i * layout.CODE.size) for i in range(codes)]
    lacking = [start for start, *_, rows, _, _ in found if not rows and start not in unusual]
    return any(python) == has_python and ((SLACK > 1 and has_python) or not lacking)


def _maps(pid: int) -> dict[tuple[int, int], list[int]]:
    """Return the descriptors of the maps of a process, by (entries, bytes of a value)."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, fields in descriptors(pid).items():
        if "map_type" in fields:
            found[int(fields["max_entries"]), int(fields["value_size"])].append(number)
    return found


def descriptors(pid: int) -> dict[int, dict[str, str]]:
    """Return what /proc/PID/fdinfo says of the descriptors of a process."""
    found = {}
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # closed by now
            lines = path.read_text().splitlines()
            found[int(path.name)] = dict(line.split(":", 1) for line in lines if ":" in line)
    return found


class _descriptor:  # noqa: N801 - it is used as a function
    """A descriptor of another process, as one of our own."""

    def __init__(self, pid: int, number: int) -> None:
        process = os.pidfd_open(pid)
        self._own = _libc.syscall(_PIDFD_GETFD, process, number, 0)
        os.close(process)
        assert self._own >= 0, os.strerror(ctypes.get_errno())

    def __enter__(self) -> int:
        return self._own

    def __exit__(self, *what: object) -> None:
        os.close(self._own)
