"""Write docs/tracekit.1, the manual page, from what `--help` says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit import __version__
from tracekit.cli import COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parent / "tracekit.1"
_AS_IT_STANDS = "\b\n"  # click: the paragraph is not filled
_TAIL = r"""
.SH ENVIRONMENT
.TP
.BR NO_COLOR ", " TERM=dumb
No colors.
.TP
.B FORCE_COLOR
Colors also where the output is no terminal.
.SH SEE ALSO
.BR perf (1),
.BR bpftrace (8),
.BR bpftool (8)
.PP
docs/README.md in the source: all pages, with what each number means.
"""


def page() -> str:
    """Return the manual page, in roff."""
    top = click.Context(cli, info_name="tracekit", **cli.context_settings)
    return "\n".join([*_head(top), *(line for name in COMMANDS for line in _command(top, name))]) + _TAIL


def _head(top: click.Context) -> Iterator[str]:
    first, *rest = _paragraphs(cli)
    yield f'.TH TRACEKIT 1 "" "tracekit {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"tracekit \\- {_text(first[0].lower() + first[1:].rstrip('.'))}"
    yield ".SH SYNOPSIS"
    for name in COMMANDS:
        yield ".br"
        yield rf"\fBtracekit {name}\fR {_text(' '.join(_context(top, name).command.collect_usage_pieces(top)))}"
    yield ".SH DESCRIPTION"
    for text in rest:
        yield from _paragraph(text)


def _command(top: click.Context, name: str) -> Iterator[str]:
    context = _context(top, name)
    yield f'.SH "tracekit {name}"'
    for text in _paragraphs(context.command):
        yield from _paragraph(text)
    yield ".PP"
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            yield from (".TP", rf"\fB{_text(record[0])}\fR", _text(record[1]))


def _context(top: click.Context, name: str) -> click.Context:
    command = cli.get_command(top, name)
    if command is None:
        raise LookupError(name)
    return click.Context(command, info_name=name, parent=top)


def _paragraphs(command: click.Command) -> list[str]:
    return inspect.cleandoc(command.help or "").split("\n\n")


def _paragraph(text: str) -> Iterator[str]:
    yield ".PP"
    if not text.startswith(_AS_IT_STANDS):
        yield _text(" ".join(text.split()))
        return
    yield ".nf"
    yield from map(_text, text.removeprefix(_AS_IT_STANDS).rstrip().splitlines())
    yield ".fi"


def _text(text: str) -> str:
    """Escape what roff would read as a request, an escape or a typographic hyphen."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
