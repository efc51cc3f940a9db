"""Examples that `--help` gives: what stands there is typed as it stands, so it has to work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.cli import cli

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACEKIT = Path(sys.executable).parent / "tracekit"


def of(name: str) -> list[str]:
    """Return the examples of the command *name*, as they are shown."""
    command = cli.get_command(click.Context(cli), name)
    assert command
    _, _, rest = (command.help or "").partition("Examples:\n")
    examples = [line.strip() for line in rest.partition("\n\n")[0].splitlines() if line.strip()]
    assert examples, f"tracekit {name} --help has no examples"
    return examples


def shell(folder: Path, programs: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which `tracekit` and *programs*, lines of shell by name, are found in *folder*."""
    for name, script in {"tracekit": f'exec {TRACEKIT} "$@"', **programs}.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
