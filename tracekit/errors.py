"""What a user can act on: one line, a next step, and an exit code."""

from __future__ import annotations

EXIT_FAIL = 1
EXIT_USAGE = 2
EXIT_NO_VERDICT = 3
EXIT_CANNOT = 4
EXIT_INTERRUPTED = 130


class TracekitError(Exception):
    """
    An error that is shown as one line, `tracekit: <text>`, and no traceback.

    Args:
        text: `cannot <verb> <object>: <cause> (<fact>)`, one line.
        hint: what to try next, shown as `try: <hint>`; empty if unknown.
    """

    exit_code = EXIT_CANNOT

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class UsageError(TracekitError):
    """What was asked for makes no sense as asked."""

    exit_code = EXIT_USAGE


class MachineError(TracekitError):
    """The machine lacks something: a capability, a kernel feature, a library."""


class RecordingError(TracekitError):
    """A recording cannot be read or written."""


class DiskFullError(RecordingError):
    """The file system of the recording is full; what was committed is intact."""


class EmptyHistogramError(TracekitError):
    """A statistic of no events was asked for. Zero would be a lie."""

    exit_code = EXIT_NO_VERDICT
