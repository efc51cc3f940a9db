"""docs/tutorial.md, read as its reader does: files are written, commands are typed, in the order of the page."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests import examples
from tests.kernel.lab import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.lab import Lab

PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(python|toml|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FAILS = " # exits with 1"


def test_the_tutorial_works(lab: Lab) -> None:
    """What it says of the program before and after it was mended is so."""
    folder = lab.folder()
    programs = {"sudo": 'exec "$@"', "python3": f'exec {sys.executable} "$@"'}
    environment = examples.shell(folder, programs) | {"COLUMNS": "80", "NO_COLOR": "1"}
    said = {}

    for language, text in BLOCK.findall(PAGE.read_text()):
        if language != "sh":
            (folder / text.partition("\n")[0].removeprefix("# ")).write_text(text)
            continue
        for line in text.splitlines():
            said[line] = typed(line.removesuffix(FAILS), folder, environment, int(line.endswith(FAILS)))

    assert re.search(r"main\w*: digest \(scoring.py\) on-CPU|Code by role", said["tracekit report outside.tk"])
    code = said["tracekit report before.tk --span score"]
    assert re.search(r"tail from p95 .* lock ", code)
    assert re.search(r"note \(scoring.py\) +lock ", code)
    failed = said["tracekit verdict before.tk -s sla.toml" + FAILS]
    assert failed.startswith("FAIL")
    assert "lock" in failed
    assert said["tracekit verdict after.tk -s sla.toml --baseline before.tk"].startswith("PASS")
    assert all((folder / name).stat().st_size for name in ("slow.svg", "scores.svg", "changed.svg"))


def typed(line: str, folder: Path, environment: dict[str, str], code: int) -> str:
    """Run a command, and return what it says on its standard output."""
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{line}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
