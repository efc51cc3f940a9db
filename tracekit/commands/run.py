"""tracekit run"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tracekit.commands import record


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@record.options
@click.option("-c", "--config", type=click.Path(path_type=Path), help="tracekit.toml: functions that are spans.")
@click.option("--auto", is_flag=True, help="Spans of process starts and database calls, with no file.")
@click.argument("argv", nargs=-1, required=True, metavar="[--] COMMAND...", type=click.UNPROCESSED)
def command(argv: tuple[str, ...], **given: Any) -> None:
    """
    Launch COMMAND, traced from its first instruction, as the user behind sudo.

    The recording ends when COMMAND does; processes that it leaves behind go on untraced.

    \b
    Examples:
      sudo tracekit run -o run.tk -- python train.py
      sudo tracekit run --syscalls -- make -j8
      sudo tracekit run --auto -- python app.py
      sudo tracekit run --db-text --db-uprobes -- python app.py
      sudo tracekit run -c tracekit.toml -- python app.py

    Exit codes: that of COMMAND (128 + signal if one killed it), 2 usage, 4 cannot,
    130 interrupted with the recording saved.
    """  # noqa: D301 - click takes the control character, not the two letters
    config, auto = given.pop("config"), given.pop("auto")
    record.run({"command": argv, "environment": _environment(config, auto=auto)}, given)


def _environment(config: Path | None, *, auto: bool) -> tuple[tuple[str, str], ...]:
    """Return what makes the Pythons below the command name their work, if that is wanted."""
    from tracekit.auto.settings import Settings  # noqa: PLC0415 - the help needs neither
    from tracekit.capture.instrument import environment, load  # noqa: PLC0415

    if config:
        return tuple(environment(load(config)).items())
    return tuple(environment(Settings(spawn=True, db=True)).items()) if auto else ()
