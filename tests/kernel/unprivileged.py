"""Processes of a user who is nobody, and what a recording of theirs lacks."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tracekit.capture.nvidia import NO_DEVICE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracekit.recording.reader import Recording

NOBODY = 65534
AS_NOBODY = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
"""Options of setpriv."""
BUSY = "import time\nwhile True: time.sleep(0.001)"


@contextmanager
def busy(*before: str) -> Iterator[int]:
    """Yield the id of a process that waits and runs."""
    with subprocess.Popen([*before, sys.executable, "-c", BUSY]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def missing_of(recording: Recording) -> list[str]:
    """Return what a recording says was missing, but for GPUs."""
    return [line for line in recording.missing if not line.endswith(NO_DEVICE)]
