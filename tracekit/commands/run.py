"""tracekit run"""

from __future__ import annotations

from typing import Any

import click

from tracekit.commands import record


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@record.options
@click.argument("argv", nargs=-1, required=True, metavar="[--] COMMAND...", type=click.UNPROCESSED)
def command(argv: tuple[str, ...], **given: Any) -> None:
    """
    Launch COMMAND, traced from its first instruction, as the user behind sudo.

    The recording ends when COMMAND does; processes that it leaves behind go on untraced.

    \b
    Examples:
      sudo tracekit run -o run.tk -- python train.py
      sudo tracekit run --syscalls -- make -j8

    Exit codes: that of COMMAND (128 + signal if one killed it), 2 usage, 4 cannot,
    130 interrupted with the recording saved.
    """  # noqa: D301 - click takes the control character, not the two letters
    record.run({"command": argv}, given)
