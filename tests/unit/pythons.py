"""The CPythons of this machine, and processes of them."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracekit.capture.stacks.code import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEBIAN = "/usr/bin/python3"
_PYENV = Path("/root/.pyenv/versions")


def _minor(path: Path) -> int:
    return int(path.parents[1].name.split(".")[1])


_FOUND = sorted(_PYENV.glob("3.*/bin/python3"), key=_minor)
PYTHONS = [_DEBIAN, *(str(path) for path in _FOUND if _minor(path) >= 8)]
"""That can be read."""
TOO_OLD = [*map(str, _PYENV.glob("2.*/bin/python2")), *(str(path) for path in _FOUND if _minor(path) < 8)]
INCLUDES = [next(path.parents[1].glob("include/python3*")) for path in _FOUND if _minor(path) >= 8]
"""Their headers."""


@contextmanager
def running(*command: str | Path, **more: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a program, yield it and the first line that it writes, and end it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more) as process:  # type: ignore[call-overload]
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def text_of(row: list[Any], cwd: str = "") -> str:
    """Return how a frame is shown of which stacks_truth.py says function, file and line."""
    function, file, line = row
    function = function if len(function) <= 1024 else function[:1024] + "…"
    file = shortened(file.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), cwd)
    return f"{function} ({file}:{line})"
