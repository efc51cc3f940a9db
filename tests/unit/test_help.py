"""Examples of commands that read recordings, as `--help` shows them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import examples, sample, sample_db

READERS = ("report", "hist", "heatmap", "flamegraph", "verdict")
EXAMPLES = [line for name in READERS for line in examples.of(name)]
CODES = {"verdict": {0, 1, 3}}
"""Commands that say more by their exit code than that they worked."""
SLA = Path(__file__).parents[2] / "docs" / "examples" / "agents" / "sla.toml"
OTHERS = {
    "perf": "echo 'main;work 3'",
    "stackcollapse-perf.pl": "cat",
    "go": '[ "$1 $2 $3 $4" = "tool pprof -http :" ] && gzip -t "$5"',
}
"""Programs that read and write what stands between them and us, and would do more: ask a kernel, serve pages."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all files that the examples name."""
    path = tmp_path_factory.mktemp("examples")
    for name in ("run", "before", "after", "one", "main"):
        sample.write(path / f"{name}.tk")
    (path / "db").mkdir()
    sample_db.write(path / "db" / "run.tk")
    shutil.copy(SLA, path)
    environment = examples.shell(path, OTHERS)
    write = "tracekit hist run.tk --metric runq.wait --format hlog -o"
    subprocess.run(f"{write} two.hlog && {write} jhiccup.hlog", shell=True, check=True, cwd=path, env=environment)
    return path


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_work(folder: Path, line: str):
    """They do what they are there for, and write the files that they name."""
    words = line.split()
    here = folder / "db" if "--db" in words else folder

    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=here,
        env=examples.shell(folder, OTHERS),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode in CODES.get(words[1], {0}), done.stderr
    written = words[words.index("-o") + 1] if "-o" in words else ""
    assert (here / written).stat().st_size if written else done.stdout
