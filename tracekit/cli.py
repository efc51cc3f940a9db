"""Command names, imported only when used; errors become one line and an exit code here."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from tracekit import __version__
from tracekit.errors import EXIT_CANNOT, EXIT_INTERRUPTED, TracekitError
from tracekit.units import printable

COMMANDS = {
    "attach": "Trace running processes into a recording.",
    "run": "Launch a command and trace it from its first instruction.",
    "dump": "What all threads of a process do now: Python, native and kernel frames.",
    "report": "One screen: where the time went, what failed, what it cost.",
    "hist": "Percentiles and a histogram of each series.",
    "heatmap": "Latency over time, in the terminal or as SVG or PNG.",
    "flamegraph": "Where time went, in which code: a flame graph.",
    "verdict": "Judge a recording by its objectives.",
    "doctor": "Try everything tracekit needs, and say how to get what is missing.",
}


class _Lazy(click.Group):
    """A group whose commands are modules of tracekit.commands, imported when named."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module: Any = importlib.import_module(f"tracekit.commands.{name}")
        command: click.Command = module.command
        command.name = name
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
@click.version_option(__version__, prog_name="tracekit")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """
    Tell where the time of a running system went, from the kernel's run queue up.

    \b
    Examples:
      sudo tracekit attach -p 4242 -d 30s -o run.tk
      tracekit report run.tk
      tracekit verdict run.tk -s sla.toml

    Exit codes: 0 done or passed, 1 an objective failed, 2 usage, 3 no verdict,
    4 cannot (environment), 130 interrupted with the recording saved.
    """  # noqa: D301 - click takes the control character, not the two letters
    ctx.color = _wants_color()


def _wants_color() -> bool | None:
    """NO_COLOR and TERM=dumb win; FORCE_COLOR next; else None: as the stream is a terminal."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def main() -> None:
    """Run the command line."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except TracekitError as error:
        _explain(str(error), error.hint)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _explain("interrupted", "")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of our output has gone: not our failure
        sys.exit(0)
    except OSError as error:
        name = f" {error.filename}" if error.filename else ""
        _explain(f"cannot go on:{name} {error.strerror or error}", "")
        sys.exit(EXIT_CANNOT)


def _explain(text: str, hint: str) -> None:
    click.echo(f"tracekit: {printable(text)}", err=True)
    if hint:
        click.echo(f"  try: {printable(hint)}", err=True)
