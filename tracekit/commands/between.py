"""The option --between: a part of a recording by time since its start."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, TypeVar

import click

from tracekit.errors import EmptyHistogramError, UsageError
from tracekit.units import format_ns, parse_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.recording.reader import Between, Recording

Times = tuple[int, int]
"""[T1, T2), ns since the start of the recording."""
_Command = TypeVar("_Command", bound="Callable[..., object]")


def option(command: _Command) -> _Command:
    """Give *command* the option --between T1 T2 and the argument `between: Times | None`."""
    words = "Only this time, since the start: 10s 2m."
    return click.option("--between", nargs=2, callback=_times, metavar="T1 T2", help=words)(command)


def intervals(recording: Recording, times: Times) -> Between:
    """
    Return the intervals whose middle lies in *times*, so that adjacent times share none.

    Raises:
        UsageError: the times are in the wrong order.
        EmptyHistogramError: no interval lies there.
    """
    words = f"{format_ns(times[0])} to {format_ns(times[1])}"
    if times[0] >= times[1]:
        raise backwards(times)
    middles = [(one.start_ns + one.end_ns) // 2 - recording.start_ns for one in recording.intervals]
    first, last = (bisect_left(middles, time) for time in times)
    if first == last:
        length = format_ns(recording.duration_ns)
        raise EmptyHistogramError(f"cannot show {words}: the recording has no interval there", f"0s to {length}")
    return first, last


def backwards(times: Times) -> UsageError:
    """Return the error for times in the wrong order."""
    words = f"{format_ns(times[0])} to {format_ns(times[1])}"
    return UsageError(f"cannot use --between: {words} ends before it begins", "--between 10s 20s")


def _times(_ctx: click.Context, _param: click.Parameter, values: tuple[str, str] | None) -> Times | None:
    try:
        return (parse_ns(values[0]), parse_ns(values[1])) if values else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
