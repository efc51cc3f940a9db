"""tracekit.toml: what it may say, and one line with file, line and key for whatever it may not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tracekit
from tracekit.auto.settings import VARIABLE, Settings, Target, read, write
from tracekit.capture.instrument import environment, load
from tracekit.errors import UsageError

if TYPE_CHECKING:
    from tests.unit.conftest import Run

FULL = """
[spans]
evaluation = "package.module:Class.method"
"agent.step" = ["package.agents:Agent.step", "package.agents:run"]
retrieval = { call = "package.rag:search", labels = { store = "faiss", tier = "hot" } }

[spans.chunking]
call = ["package.rag:chunk"]

[auto]
db = false
"""


def loaded(tmp_path: Path, text: str) -> Settings:
    """Load a file that says *text*."""
    path = tmp_path / "tracekit.toml"
    path.write_text(text)
    return load(path)


def rows(settings: Settings) -> list[tuple[object, ...]]:
    """Return its targets as plain tuples."""
    return [(target.span, target.module, target.qualname, target.labels) for target in settings.targets]


def test_all_that_a_file_may_say(tmp_path: Path) -> None:
    """One function or several, with labels or without; both switches are on where nothing is said."""
    settings = loaded(tmp_path, FULL)

    assert (settings.spawn, settings.db) == (True, False)
    assert rows(settings) == [
        ("evaluation", "package.module", "Class.method", ()),
        ("agent.step", "package.agents", "Agent.step", ()),
        ("agent.step", "package.agents", "run", ()),
        ("retrieval", "package.rag", "search", (("store", "faiss"), ("tier", "hot"))),
        ("chunking", "package.rag", "chunk", ()),
    ]


def test_the_file_of_the_manual_is_one(tmp_path: Path) -> None:
    """Whoever starts from it gets what the page says."""
    page = (Path(__file__).parents[2] / "docs" / "zero-code.md").read_text(encoding="utf-8")

    settings = loaded(tmp_path, page.split("```toml\n")[1].split("```")[0])

    assert (settings.spawn, settings.db, len(settings.targets)) == (True, True, 4)


@pytest.mark.parametrize("settings", [Settings(), Settings(spawn=True), Settings(db=True)])
def test_the_variable_says_what_the_file_said(tmp_path: Path, settings: Settings) -> None:
    """The target reads what was written, labels with an equals sign too."""
    settings.targets = (*loaded(tmp_path, FULL).targets, Target("x", "y", "z", (("a", "b=c d"),)))

    back = read(write(settings))

    assert (back.spawn, back.db, rows(back)) == (settings.spawn, settings.db, rows(settings))


@pytest.mark.parametrize(
    ("text", "line", "said", "hint"),
    [
        ("[spans]\n\nx = 7", 3, "spans.x names no function", "evaluation ="),
        ("[spans]\nx = []", 2, "spans.x names no function", "evaluation ="),
        ("[spans]\nx = ['a:b', 7]", 2, "spans.x is not module:function (7)", "evaluation ="),
        ("[spans]\nx = 'a.b.c'", 2, "spans.x is not module:function (a.b.c)", "evaluation ="),
        ("[spans]\nx = 'a:b c'", 2, "spans.x is not module:function (a:b c)", "evaluation ="),
        ("[spans]\nx = '__main__:f'", 2, "spans.x: the script is not imported", "a module of its own"),
        ("[spans]\n'' = 'a:b'", 2, "spans. is no name", "evaluation ="),
        ("[spans]\n\"a\\tb\" = 'a:b'", 0, "is no name: 1 to 63 bytes", "evaluation ="),
        (f"[spans]\n{'x' * 64} = 'a:b'", 2, "is no name: 1 to 63 bytes", "evaluation ="),
        ("[spans]\nx = 'a:b'\ny = 'a:b'", 3, "spans.y: a:b is a span already", "one span for each"),
        ("[spans.x]\ncalls = 'a:b'", 1, "spans.x.calls is unknown", "spans.x.call"),
        ("[spans]\nx = { call = 'a:b', labels = 7 }", 2, "spans.x.labels is not a table", "labels ="),
        ("[spans]\nx = { call = 'a:b', labels = { A = 'b' } }", 2, "spans.x.labels: A cannot be a label", "[a-z_]"),
        ("[spans]\nx = { call = 'a:b', labels = { role = 'b' } }", 2, "role cannot be a label", "[a-z_]"),
        ("[spans]\nx = { call = 'a:b', labels = { a = 7 } }", 2, "spans.x.labels.a is not a printable text", 'a = "'),
        (f"[spans]\nx = {{ call = 'a:b', labels = {{ a = '{'y' * 181}' }} }}", 2, "longer than 183 bytes", "shorter"),
        ("[auto]\nspawn = 'yes'", 2, "auto.spawn is not true or false", "spawn = true"),
        ("[auto]\nspwan = true", 2, "auto.spwan is unknown", "auto.spawn"),
        ("[span]\nx = 'a:b'", 1, "span is unknown", "spans"),
        ("auto = true", 1, "auto is not a table", "[auto]"),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, text: str, line: int, said: str, hint: str) -> None:
    """The error has the file, the line and the key, and what would be right."""
    with pytest.raises(UsageError) as error:
        loaded(tmp_path, text)

    place = f"cannot use {tmp_path}/tracekit.toml{f':{line}' if line else ''}: "
    assert str(error.value).startswith(place)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert hint in error.value.hint


def test_what_is_not_toml_says_the_line(tmp_path: Path) -> None:
    """As TOML's own reader does."""
    with pytest.raises(UsageError, match=r"cannot read .*tracekit\.toml: .*line 2"):
        loaded(tmp_path, "[spans]\nx = \n")


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    """One line each."""
    (tmp_path / "x").write_bytes(b"\xff")

    with pytest.raises(UsageError, match="not UTF-8"):
        load(tmp_path / "x")
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none")


def test_ours_comes_first_and_what_was_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty PYTHONPATH is none: with a colon after ours, it would be the current folder."""
    site = str(Path(tracekit.__file__).parent / "auto" / "site")

    for before, after in (("/a:/b", f"{site}:/a:/b"), ("", site)):
        monkeypatch.setenv("PYTHONPATH", before)
        assert environment(Settings())["PYTHONPATH"] == after
    monkeypatch.delenv("PYTHONPATH")
    assert environment(Settings(db=True)) == {"PYTHONPATH": site, VARIABLE: "tracekit-auto 1\ndb"}


def test_more_than_a_variable_holds_is_refused() -> None:
    """execve(2) would fail, and name no reason."""
    targets = tuple(Target("x", "package.module", f"function_{number}") for number in range(5000))

    with pytest.raises(UsageError, match="cannot name 5000 functions"):
        environment(Settings(targets=targets))


def test_a_wrong_file_ends_run_before_the_command_starts(run: Run, tmp_path: Path) -> None:
    """Exit code 2, one line and a hint; nothing was run and no recording written."""
    config, began, output = tmp_path / "x.toml", tmp_path / "began", tmp_path / "out.tk"
    config.write_text("[spans]\nx = 7\n")

    code, out, err = run("run", "-c", config, "-o", output, "--", "touch", began)

    assert (code, out) == (2, "")
    assert err.splitlines()[0] == f"tracekit: cannot use {config}:2: spans.x names no function"
    assert not began.exists()
    assert not output.exists()
    assert VARIABLE not in os.environ
