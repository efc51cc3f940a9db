"""What tests start from: a command line, processes with boards, a psutil that looks where it did."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.unit.board_writer import Target
from tracekit.capture.probes import Boards
from tracekit.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function from words to exit code, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tracekit", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


@pytest.fixture
def target() -> Iterator[Callable[..., Target]]:
    """Return a function that starts a process."""
    started: list[Target] = []

    def start(*command: str, **how: object) -> Target:
        started.append(Target(*command, **how))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def boards() -> Iterator[Boards]:
    """Return the boards of a recording that begins now; every process is a worker."""
    found = Boards(lambda _tgid: "worker", time.monotonic_ns())
    yield found
    found.close()


@pytest.fixture
def own_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil keeps the path of /proc for the whole process; tests give it others."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", "/proc")
