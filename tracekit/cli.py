"""Command names, imported only when used; errors become one line and an exit code here."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from contextlib import suppress
from typing import Any

import click

from tracekit import __version__
from tracekit.errors import EXIT_CANNOT, EXIT_INTERRUPTED, EXIT_USAGE, TracekitError, UsageError
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
_MORE = "a higher limit of memory (ulimit -v)"
_CURES = {
    errno.EMFILE: "ulimit -n 1024",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENOMEM: _MORE,
}
"""What to try where the system refuses, whatever was wanted of it."""
_MOUNTS = {"/proc/": "mount -t proc proc /proc", "/sys/": "mount -t sysfs sysfs /sys"}


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(f"cannot {name}: no such command", _near(name))
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _near(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only after a slip

    return " or ".join(f"tracekit {match}" for match in get_close_matches(name, COMMANDS)) or "tracekit --help"


@click.group(
    cls=_Lazy,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
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
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_USAGE)


def _wants_color() -> bool | None:
    """NO_COLOR and TERM=dumb win; FORCE_COLOR next; else None: as the stream is a terminal."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def main() -> None:
    """Run the command line."""
    try:
        sys.exit(cli.main(prog_name="tracekit", standalone_mode=False))
    except TracekitError as error:
        _explain(str(error), error.hint)
        sys.exit(error.exit_code)
    except click.UsageError as error:
        _explain(*_slip(error))
        sys.exit(EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        _explain("interrupted", "")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of our output has gone: not our failure
        sys.exit(0)
    except MemoryError:
        _explain("cannot go on: out of memory", _MORE)
        sys.exit(EXIT_CANNOT)
    except ImportError as error:  # "failed to map segment": of its libraries too
        _explain(f"cannot go on: {error}", f"{_MORE}, or install tracekit again")
        sys.exit(EXIT_CANNOT)
    except OSError as error:
        _explain(*_refusal(error))
        sys.exit(EXIT_CANNOT)


def _slip(error: click.UsageError) -> tuple[str, str]:
    """Return what is wrong with a command line, and what to try."""
    command = error.ctx.info_name if error.ctx else None
    path = error.ctx.command_path if error.ctx else "tracekit"
    said, near = error.format_message(), ""
    if isinstance(error, click.NoSuchOption):
        said = f"no such option {error.option_name}"
        near = " or ".join(error.possibilities or ())
    elif command == "attach" and "unexpected extra argument" in said:
        near = "tracekit attach -p PID"
    text = said[:1].lower() + said[1:].rstrip(".")
    return f"cannot {command if path != 'tracekit' else 'begin'}: {text}", near or f"{path} --help"


def _refusal(error: OSError) -> tuple[str, str]:
    """Return what the system refused, and what to try."""
    name = str(error.filename or "")
    text = f"cannot go on: {name}: {error.strerror}" if name else f"cannot go on: {error.strerror or error}"
    hint = _CURES.get(error.errno or 0, "")
    if error.errno == errno.ENOENT:
        hint = next((mount for start, mount in _MOUNTS.items() if name.startswith(start)), hint)
    return text, hint


def _explain(text: str, hint: str) -> None:
    with suppress(OSError):  # nobody can be told: the exit code still says it
        click.echo(f"tracekit: {printable(text)}", err=True)
        if hint:
            click.echo(f"  try: {printable(hint)}", err=True)
