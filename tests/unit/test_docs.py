"""Pages that are made from the program, and files that must say what licence they have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.cli import PAGE
from tests import examples

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs" / "tracekit.1"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_the_page_of_the_command_line_is_what_help_says():
    """scripts/docs was run after the last change of an option. Elsewhere: commands remember how they were asked."""
    code = "from docs.cli import page; print(page(), end='')"
    made = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)

    assert PAGE.read_text(encoding="utf-8") == made.stdout, "run scripts/docs"


def test_the_manual_page_is_what_help_says():
    """And groff has nothing to say against it."""
    code = "from docs.man import page; print(page(), end='')"
    made = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)

    shown = subprocess.run(["groff", "-man", "-ww", "-Tutf8", MANUAL], check=True, capture_output=True, text=True)

    assert MANUAL.read_text(encoding="utf-8") == made.stdout, "run scripts/docs"
    assert shown.stderr == ""
    assert "tracekit attach" in shown.stdout


@pytest.mark.parametrize(
    ("words", "completed"), [("tracekit att", ["attach"]), ("tracekit verdict --bas", ["--baseline"])]
)
def test_bash_completes(words: str, completed: list[str], tmp_path: Path):
    """By the line of docs/cli.md."""
    line = next(text.strip() for text in PAGE.read_text().splitlines() if "bash_source" in text)
    script = f"{line}\nCOMP_WORDS=({words}) COMP_CWORD={len(words.split()) - 1}\n_tracekit_completion tracekit\n"

    done = subprocess.run(
        ["bash", "-c", script + 'echo "${COMPREPLY[@]}"'],
        env=examples.shell(tmp_path, {}),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    assert (done.stdout.split(), done.stderr) == (completed, "")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(path: Path):
    """A reader who follows a link of ours finds a file."""
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in link]

    dead = [link for link in links if not (path.parent / link).exists()]

    assert dead == []


def test_files_of_the_kernel_say_their_licence():
    """bpf/ is GPL-2.0-only OR BSD-2-Clause, what crosses to user space MIT: CONTRIBUTING.md."""
    sources = [*(ROOT / "bpf").glob("*.bpf.[ch]"), *(ROOT / "bpf" / "abi").glob("*.h")]
    wanted = {path: "MIT" if path.parent.name == "abi" else "GPL-2.0-only OR BSD-2-Clause" for path in sources}

    wrong = [path.name for path, licence in wanted.items() if _licence(path) != licence]

    assert sources
    assert wrong == []


def _licence(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.partition("SPDX-License-Identifier: ")[2].removesuffix("*/").strip()
