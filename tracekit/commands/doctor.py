"""tracekit doctor"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import click

from tracekit.capture import trials
from tracekit.capture.host import checks
from tracekit.capture.host.facts import facts
from tracekit.errors import EXIT_CANNOT
from tracekit.report import doctor
from tracekit.report.terminal import say


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """
    Try everything tracekit can make use of, and say how to get what is missing.

    Nothing is concluded from a version: each kernel feature is used once and
    undone. Exit 0 if attach can work here, 4 if not.

    \b
    Examples:
      tracekit doctor
      sudo tracekit doctor
      tracekit doctor --json | jq '.checks[] | select(.state=="missing")'
    """  # noqa: D301 - click takes the control character, not the two letters
    found = checks.checks(trials.run(), _program())
    if as_json:
        click.echo(doctor.document(_machine(), found))
    else:
        say(doctor.text(_machine(), found, plain=not _has_utf8()))
    if checks.missing_for_attach(found):
        ctx.exit(EXIT_CANNOT)


def _machine() -> dict[str, str]:
    host, mine = facts(), checks.privileges()
    capabilities = " ".join(mine.capabilities) or "none that matter here"
    return {
        "tracekit": host.tracekit,
        "kernel": f"Linux {host.kernel} {host.machine}",
        "Python": f"{platform.python_version()} {sys.executable}",
        "user": f"{mine.uid}{' in a container' if mine.container else ''}",
        "capabilities": capabilities,
        "stacks of": "native code, and CPython 3.8 to 3.13; 3.14 is read, but was never tried",
    }


def _program() -> str:
    """Return how tracekit was started, as it can be typed after `sudo`, whose PATH is another one."""
    started = Path(sys.argv[0]).resolve()
    return f"{sys.executable} -m tracekit" if started.name == "__main__.py" else str(started)


def _has_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
