"""Pictures of code in `tracekit flamegraph`: where threads ran and waited, and where their calls failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.commands.found import Found, no_code, samples_words
from tracekit.errors import EmptyHistogramError
from tracekit.units import format_count, format_share, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracekit.analysis.flame import Shape
    from tracekit.analysis.profile import Profile
    from tracekit.commands.view import View
    from tracekit.recording.reader import Between, Recording

_SAMPLES = {"wall": "on CPU", "on-cpu": "on CPU", "errors": "of failed calls"}
_SHAPES: dict[str, Shape] = {"on-cpu": "cpu", "off-cpu": "waits", "errors": "failures"}
_OF_WHAT = {"wall": "the time on CPU and blocked", "on-cpu": "the time", "off-cpu": "the time"}


def read(recording: Recording, view: View, role: str, intervals: Between | None) -> Found:
    """
    Return what threads did, with their code.

    Raises:
        EmptyHistogramError: nothing of the kind was recorded.
    """
    from tracekit.analysis import profile  # noqa: PLC0415 - numpy, which folded files do not need

    accounts = recording.stacks(intervals)
    if not accounts:
        raise EmptyHistogramError(f"cannot show {recording.path}: no wall time was recorded", "record for longer")
    where = {"role": role} if role in {stack[0] for stack in accounts if stack} else {}
    accounts = {stack: held for stack, held in accounts.items() if not where or stack[0] == role}
    cpu = recording.samples("stack.oncpu", where, intervals)
    waits = recording.samples("stack.offcpu", where, intervals)
    if view.what == "on-cpu":
        found, what = profile.on_cpu(accounts, cpu, view.shown), "time on CPUs of its threads"
    elif view.what == "off-cpu":
        found, what = profile.off_cpu(accounts, waits, view.shown), "time blocked of its threads"
    else:
        found, what = profile.wall(accounts, cpu, waits, view.shown), "wall time of its threads"
    if not found.weights:
        raise EmptyHistogramError(f"cannot show {what}: there was none", "--wall, or another --role or --between")
    notes = notes_of(found, view.what or "wall") if cpu or waits else iter((no_code(recording),))
    return Found(dict(found.weights), what, tuple(notes), shape=_SHAPES.get(view.what))


def failures(recording: Recording, view: View, where: Mapping[str, str], intervals: Between | None) -> Found:
    """
    Return the system calls that failed, with their code.

    Raises:
        EmptyHistogramError: none did, or none has these labels.
    """
    from tracekit.analysis import profile  # noqa: PLC0415 - as above

    first, last = intervals or (0, len(recording.intervals))
    values = recording.values("syscall.errors", where)
    counted = {series: round(float(column[first:last].sum())) for series, column in values.items()}
    failed = recording.samples("stack.errors", where, intervals)
    found = profile.errors(counted, failed, view.shown)
    if not found.weights:
        inside = " and ".join(f"{name}={printable(value)}" for name, value in where.items())
        words = f"none was recorded{f' with {inside}' if inside else ''}"
        raise EmptyHistogramError(f"cannot show failed system calls: {words}", "tracekit report, which says why")
    notes = tuple(notes_of(found, "errors")) if failed else (no_code(recording),)
    return Found(dict(found.weights), "system calls that failed", notes, "calls", _SHAPES["errors"])


def notes_of(found: Profile, kind: str) -> Iterator[str]:
    """Say how much is behind the code in *found*; *kind*: as in View, `wall` if it was not said."""
    words = [samples_words(found.samples, _SAMPLES[kind])] if kind in _SAMPLES else []
    if kind in _OF_WHAT:
        words.append(f"code is known of {format_share(found.known)} of {_OF_WHAT[kind]}")
    yield "; ".join(words)
    if found.strange:
        yield f"{format_count(found.strange)} more are of what nothing else was recorded of, and left out"
