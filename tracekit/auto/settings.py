"""
What to name, as it travels in the environment variable TRACEKIT_AUTO.

Lines of words between tabs, so that no Python below the command has to load a parser:

    tracekit-auto 1
    spawn
    db
    span <name> <module> <qualified name> [label=value]...

The variable, not a file: it needs no place that the target may read, and nobody must remove it.
"""

from __future__ import annotations

VARIABLE = "TRACEKIT_AUTO"
_FIRST = "tracekit-auto 1"


class Target:
    """A function to be named *span*: `Class.method` or `function`, in *module*. Labels are (name, value)."""

    def __init__(self, span: str, module: str, qualname: str, labels: tuple[tuple[str, str], ...] = ()) -> None:
        self.span = span
        self.module = module
        self.qualname = qualname
        self.labels = labels


class Settings:
    """What to name. Plain classes, as a data class or a named tuple would add to the start of every Python."""

    def __init__(self, *, spawn: bool = False, db: bool = False, targets: tuple[Target, ...] = ()) -> None:
        self.spawn = spawn
        self.db = db
        self.targets = targets


def write(settings: Settings) -> str:
    """Return the value of the variable. No text in *settings* holds a tab or a newline."""
    lines = [_FIRST, *(word for word in ("spawn", "db") if getattr(settings, word))]
    for target in settings.targets:
        labels = (f"{name}={value}" for name, value in target.labels)
        lines.append("\t".join(("span", target.span, target.module, target.qualname, *labels)))
    return "\n".join(lines)


def read(text: str) -> Settings:
    """Read what `write` of the same format wrote; of another format, nothing is wanted."""
    first, *rest = text.split("\n")
    if first != _FIRST:
        return Settings()
    rows = [line.split("\t") for line in rest]
    targets = tuple(_target(row) for row in rows if row[0] == "span")
    return Settings(spawn=["spawn"] in rows, db=["db"] in rows, targets=targets)


def _target(row: list[str]) -> Target:
    _, span, module, qualname, *labels = row
    return Target(span, module, qualname, tuple((name, value) for name, _, value in (x.partition("=") for x in labels)))
