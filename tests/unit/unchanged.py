"""Programs that know nothing of tracekit, run as `tracekit run --auto` or `-c` would, and what was counted of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING

from tracekit.auto.settings import Settings
from tracekit.capture.instrument import environment

if TYPE_CHECKING:
    from pathlib import Path

AUTO = Settings(spawn=True, db=True)
TALLY = '''
"""The one thing that a program here does for the test: each of its processes tells what it counted."""
import json, os, tempfile

def write():
    try:
        from tracekit import probe
    except ImportError:  # it is not to be had where Python shuts its environment out
        return
    with tempfile.NamedTemporaryFile("w", dir=os.environ["TALLIES"], suffix=".json", delete=False) as file:
        json.dump(probe.snapshot(), file)
'''


@dataclass
class Counted:
    """`spans["db.query{system=sqlite}"]`, `errors["db.query{system=sqlite} ValueError"]`, `counters[...]`: counts."""

    stdout: str
    stderr: str
    code: int
    spans: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)


def run(
    folder: Path,
    source: str,
    settings: Settings | None = AUTO,
    python: tuple[str, ...] = (sys.executable,),
    **variables: str,
) -> Counted:
    """Run *source* as `folder/app.py`; *settings* None: without tracekit."""
    tallies = folder / "tallies"
    tallies.mkdir(exist_ok=True)
    (folder / "tally.py").write_text(TALLY)
    (folder / "app.py").write_text(dedent(source))
    names = environment(settings) if settings else {}
    path = os.pathsep.join(filter(None, [names.get("PYTHONPATH", ""), variables.pop("PYTHONPATH", "")]))
    env = {**os.environ, **names, "PYTHONPATH": path, "TALLIES": str(tallies), **variables}
    done = subprocess.run(
        [*python, "app.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    counted = Counted(done.stdout, done.stderr, done.returncode)
    for file in sorted(tallies.iterdir()):
        _add(counted, json.loads(file.read_text()))
    return counted


def written(folder: Path, files: dict[str, str]) -> Path:
    """Write files of the program, by their paths in *folder*."""
    for name, source in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(source))
    return folder


def _add(counted: Counted, snapshot: dict) -> None:
    for span in snapshot["spans"]:
        counted.spans[_series(span)] += span["count"]
        for error, count in span["errors"].items():
            counted.errors[f"{_series(span)} {error}"] += count
    for value in snapshot["counters"]:
        counted.counters[_series(value)] += value["count"]


def _series(of: dict) -> str:
    labels = ",".join(f"{name}={value}" for name, value in sorted(of["labels"].items()))
    return f"{of['name']}{{{labels}}}" if labels else of["name"]
