"""
Names the work of a program that was not changed: functions, processes it starts, database calls.

Runs inside the target, in every Python below the command of `tracekit run -c` or `--auto`
(site/sitecustomize.py starts it). It must not be noticed there: it imports the probe and the
standard library only, raises nothing, prints nothing, and wraps a function only when the
program imports its module. What cannot be wrapped is counted: failures.py.
"""

from __future__ import annotations

from tracekit.auto import imports, settings


def start(text: str) -> None:
    """Wrap what *text* names, now or when its module is imported. For its format see settings.py."""
    wanted = settings.read(text)
    hooks = imports.Hooks()
    if wanted.spawn:
        from tracekit.auto.spawn import watch_spawns  # noqa: PLC0415 - each costs the start of every Python below

        watch_spawns(hooks)
    if wanted.db:
        from tracekit.auto.db import watch_queries  # noqa: PLC0415

        watch_queries(hooks)
    if wanted.targets:
        from tracekit.auto.functions import watch_functions  # noqa: PLC0415

        watch_functions(hooks, wanted.targets)
    hooks.watch()
