"""
Spans `agent.spawn` around the calls that start a process: from the call to its return.

os.fork() is left alone: its wrapper would be the place that Python's own warning about forking
with threads names, and the kernel sees every fork anyway.
"""

from __future__ import annotations

import os

from tracekit.auto import failures
from tracekit.auto.builtin import Builtin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from tracekit.auto.imports import Hooks
    from tracekit.auto.outermost import Family
    from tracekit.probe import Kind

SPAN = "agent.spawn"


def watch_spawns(hooks: Hooks) -> None:
    """Wrap them when their modules are imported."""
    hooks.add("subprocess", "subprocess", _subprocess)
    hooks.add("multiprocessing.process", "multiprocessing", _multiprocessing)
    hooks.add("asyncio.subprocess", "asyncio", _asyncio)
    hooks.add("os", "posix_spawn", _posix_spawn)


def _parts(system: str) -> tuple[Family, Kind]:
    from tracekit.auto.outermost import SPAWNS  # noqa: PLC0415 - programs that start none need not load it
    from tracekit.probe import Kind  # noqa: PLC0415

    return SPAWNS, Kind(SPAN, system=system)


def _subprocess(module: ModuleType) -> None:
    spawns, kind = _parts("subprocess")
    popen: Any = module.Popen
    popen.__init__ = spawns.around(kind, popen.__init__)


def _multiprocessing(module: ModuleType) -> None:
    spawns, kind = _parts("multiprocessing")
    process: Any = module.BaseProcess
    process.start = spawns.around(kind, process.start)


def _asyncio(module: Any) -> None:
    spawns, kind = _parts("asyncio")
    module.create_subprocess_exec = spawns.around_async(kind, module.create_subprocess_exec)
    module.create_subprocess_shell = spawns.around_async(kind, module.create_subprocess_shell)


def _posix_spawn(_module: ModuleType) -> None:
    for name in ("posix_spawn", "posix_spawnp"):
        setattr(os, name, _deferred(getattr(os, name)))


def _deferred(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function* in a span, for which nothing is loaded until it is called: os is always there."""
    made: list[Callable[..., Any]] = []

    def make() -> None:
        spawns, kind = _parts("posix_spawn")
        made.append(spawns.around(kind, function))

    def call(*args: Any, **kwargs: Any) -> Any:
        if not made:
            failures.guarded("posix_spawn", make)
        return (made[0] if made else function)(*args, **kwargs)

    return Builtin(call, function, "os")
