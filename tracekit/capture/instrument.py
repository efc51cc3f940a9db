"""tracekit.toml: which functions of an unchanged program are spans, and the environment that tells it so."""

from __future__ import annotations

import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from tracekit.auto.settings import VARIABLE, Settings, Target, write
from tracekit.errors import UsageError
from tracekit.units import printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # a linter may run on a newer Python

_SITE = Path(__file__).parents[1] / "auto" / "site"
_NAME_BYTES = 63
_LABELS_BYTES = 183
_VARIABLE_BYTES = 100_000
"""execve takes 128 KiB per variable (MAX_ARG_STRLEN, Linux)."""
_LABEL = re.compile(r"[a-z_][a-z0-9_.]*")
_RESERVED = frozenset(["role", "span", "type", "errno", "syscall", "reason", "kind", "thread", "cpu", "source"])
_SWITCHES = ("spawn", "db")
_EXAMPLE = 'evaluation = "package.module:Class.method"'


def environment(settings: Settings) -> dict[str, str]:
    """
    Return the variables that make every Python below a command name its work.

    Raises:
        UsageError: more functions than a variable holds.
    """
    text = write(settings)
    if len(text.encode()) > _VARIABLE_BYTES:
        raise UsageError(f"cannot name {len(settings.targets)} functions: too many", "fewer, or shorter names")
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{_SITE}{os.pathsep}{before}" if before else str(_SITE), VARIABLE: text}


def load(path: Path) -> Settings:
    """
    Read a tracekit.toml (docs/zero-code.md).

    Raises:
        UsageError: one line with the file, the line and the key.
    """
    source = printable(str(path))
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}", "the path of a tracekit.toml") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {source}: it is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"cannot read {source}: {printable(str(error))}", "docs/zero-code.md") from error
    return _File(source, text).settings(document)


class _File:
    """A file that is being read: what its errors need to say where."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        self._lines = text.splitlines()

    def settings(self, document: dict[str, Any]) -> Settings:
        self._known(document, ("spans", "auto"), "")
        auto = self._table(document, "auto")
        self._known(auto, _SWITCHES, "auto.")
        for name, value in auto.items():
            if not isinstance(value, bool):
                self._refuse(name, f"auto.{name} is not true or false", f"{name} = true")
        targets: dict[tuple[str, str], Target] = {}
        for span, value in self._table(document, "spans").items():
            for target in self._span(span, value):
                place = target.module, target.qualname
                if place in targets:
                    called = printable(":".join(place))
                    self._refuse(span, f"spans.{printable(span)}: {called} is a span already", "one span for each")
                targets[place] = target
        return Settings(spawn=auto.get("spawn", True), db=auto.get("db", True), targets=tuple(targets.values()))

    def _span(self, span: str, value: Any) -> list[Target]:
        key = f"spans.{printable(span)}"
        if not _plain(span, _NAME_BYTES):
            self._refuse(span, f"{key} is no name: 1 to {_NAME_BYTES} bytes, printable", _EXAMPLE)
        table = value if isinstance(value, dict) else {"call": value}
        self._known(table, ("call", "labels"), f"{key}.", span)
        calls = table.get("call")
        calls = [calls] if isinstance(calls, str) else calls
        if not isinstance(calls, list) or not calls:
            self._refuse(span, f"{key} names no function", _EXAMPLE)
        labels = self._labels(span, key, table.get("labels", {}))
        return [self._target(span, key, call, labels) for call in calls]

    def _labels(self, span: str, key: str, labels: Any) -> tuple[tuple[str, str], ...]:
        if not isinstance(labels, dict):
            self._refuse(span, f"{key}.labels is not a table", 'labels = {store = "faiss"}')
        for name, value in labels.items():
            if not _LABEL.fullmatch(name) or name in _RESERVED:
                self._refuse(
                    span, f"{key}.labels: {printable(name)} cannot be a label", "another word: [a-z_][a-z0-9_.]*"
                )
            if not isinstance(value, str) or not _plain(value, _LABELS_BYTES):
                self._refuse(span, f"{key}.labels.{name} is not a printable text", f'{name} = "…"')
        if sum(len(f"{name}={value}\n".encode()) for name, value in labels.items()) > _LABELS_BYTES:
            self._refuse(span, f"{key}.labels are longer than {_LABELS_BYTES} bytes", "fewer, or shorter")
        return tuple(sorted(labels.items()))

    def _target(self, span: str, key: str, call: Any, labels: tuple[tuple[str, str], ...]) -> Target:
        module, colon, qualname = call.partition(":") if isinstance(call, str) else ("", "", "")
        if not (colon and all(part.isidentifier() for part in [*module.split("."), *qualname.split(".")])):
            self._refuse(span, f"{key} is not module:function ({printable(str(call))})", _EXAMPLE)
        if module == "__main__":
            fact = "the script is not imported, so its functions cannot be wrapped"
            self._refuse(span, f"{key}: {fact}", "a module of its own, or @traced in the script")
        return Target(span, module, qualname, labels)

    def _table(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        table = document.get(name, {})
        if not isinstance(table, dict):
            self._refuse(name, f"{name} is not a table", f"[{name}]")
        return table

    def _known(self, table: dict[str, Any], names: tuple[str, ...], prefix: str, line: str = "") -> None:
        for name in table:
            if name not in names:
                near = get_close_matches(name, names, 1)
                hint = f"{prefix}{near[0]}" if near else " or ".join(f"{prefix}{known}" for known in names)
                self._refuse(line or name, f"{prefix}{printable(name)} is unknown", hint)

    def _refuse(self, key: str, what: str, hint: str) -> NoReturn:
        """Raise, with the first line that begins with *key*, as TOML's own reader tells none."""
        begin = re.compile(rf"\s*\[*\s*(?:\w+\s*\.\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
        number = next((number for number, line in enumerate(self._lines, 1) if begin.match(line)), 0)
        raise UsageError(f"cannot use {self._source}{f':{number}' if number else ''}: {what}", hint)


def _plain(text: str, longest: int) -> bool:
    return bool(text) and text.isprintable() and "\t" not in text and len(text.encode()) <= longest
