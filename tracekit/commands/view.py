"""The options of `tracekit flamegraph` that say which code is shown, and how: --on-cpu, --errors, --native, --lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from tracekit.errors import UsageError
from tracekit.stacks import without_interpreter, without_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracekit.stacks import Stack

_Command = TypeVar("_Command", bound="Callable[..., object]")
_VIEWS = {
    "wall": "All time: on a CPU, waiting for one, blocked (the default).",
    "on-cpu": "Only time on a CPU.",
    "off-cpu": "Only time blocked.",
    "errors": "System calls that failed, weighed by how often.",
}
_NAMES = {
    "native": "With the interpreter's own frames.",
    "lines": "Lines of a function as frames of their own.",
}


@dataclass(frozen=True)
class View:
    """What is to be seen: one of `wall`, `on-cpu`, `off-cpu`, `errors`, "" if it was not said; and frames how."""

    what: str = ""
    native: bool = False
    lines: bool = False

    @property
    def option(self) -> str:
        """An option that was given, "" if none was."""
        given = [self.what, "native" if self.native else "", "lines" if self.lines else ""]
        return next((f"--{name}" for name in given if name), "")

    def shown(self, stack: Stack) -> Stack:
        """Return *stack* as it is to be seen: the user's code, a function one frame."""
        stack = stack if self.native else without_interpreter(stack)
        return stack if self.lines else without_lines(stack)


WALL = View()


def option(command: _Command) -> _Command:
    """Give *command* these options, and the argument `view: View`."""
    for name, words in reversed([*_VIEWS.items(), *_NAMES.items()]):
        command = click.option(f"--{name}", is_flag=True, expose_value=False, callback=_given, help=words)(command)
    return command


def refuse(view: View, of_calls: bool, tail: str | None) -> None:
    """Raise UsageError for options that do not go together."""
    if of_calls and view.option:
        raise UsageError(f"cannot use {view.option} with --db: calls of databases have no code", "--span NAME")
    if view.what == "errors" and tail:
        raise UsageError("cannot use --errors with --tail: failures have no latency", "one of them")


def _given(ctx: click.Context, param: click.Parameter, given: bool) -> None:
    before: View = ctx.params.setdefault("view", View())
    name = str(param.name).replace("_", "-")
    if not given:
        return
    if name in _VIEWS and before.what:
        raise UsageError(f"cannot use --{before.what} with --{name}: they are two pictures", "one of them")
    changed = {"what": name} if name in _VIEWS else {name: True}
    ctx.params["view"] = View(**{**vars(before), **changed})
