"""Write docs/cli.md from what `--help` says, so that the page and the program agree."""

from __future__ import annotations

from pathlib import Path

import click

from tracekit.cli import COMMANDS, cli

PAGE = Path(__file__).with_suffix(".md")
_HEAD = """\
# Command line

What `--help` says of each command; `scripts/docs` writes this page, and the manual page `tracekit.1`. `man tracekit`
finds that where tracekit was installed by pip and its `bin` is on your PATH.

The shell completes commands, options and files after this line in `~/.bashrc`. zsh has `zsh_source`; fish does it by
`_TRACEKIT_COMPLETE=fish_source tracekit | source`:

    eval "$(_TRACEKIT_COMPLETE=bash_source tracekit)"
"""


def page() -> str:
    """Return the text of docs/cli.md, 80 columns wide wherever it is made."""
    top = click.Context(cli, info_name="tracekit", terminal_width=80, **cli.context_settings)
    parts = [_HEAD, _section("tracekit", cli.get_help(top))]
    for name in COMMANDS:
        command = cli.get_command(top, name)
        if command is None:
            raise LookupError(name)
        context = click.Context(command, info_name=name, parent=top, terminal_width=80)
        parts.append(_section(f"tracekit {name}", command.get_help(context)))
    return "\n".join(parts)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
