"""The scripts around the code, as somebody with a fresh checkout meets them."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())


def programs(folder: Path, **sources: str) -> str:
    """Return a PATH of one folder, with these shell programs (`_` stands for `-`) and the ordinary ones."""
    folder.mkdir()
    for name in ("date", "dirname", "env", "flock", "grep", "mktemp", "rm", "sh", "sleep", "tail"):
        (folder / name).symlink_to(shutil.which(name) or name)
    for name, source in sources.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{source}\n")
        path.chmod(0o755)
    return str(folder)


def setup(path: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/setup where only the programs of *path* are to be found."""
    environment = {"PATH": path, "HOME": "/nonexistent"}
    return subprocess.run([ROOT / "scripts" / "setup"], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_run_and_say_how(script: Path):
    """`scripts/X -h` tells what X does and how to call it, and does nothing."""
    assert script.stat().st_mode & stat.S_IXUSR

    done = subprocess.run([script, "-h"], capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 0
    assert f"usage: scripts/{script.name}" in done.stdout


def test_setup_says_that_this_is_not_debian(tmp_path: Path):
    """Without dpkg there is one line, with what is needed by hand."""
    done = setup(programs(tmp_path / "bin"))

    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("setup: cannot look for packages: this is not Debian; by hand: clang-19 ")
    assert done.stderr.count("\n") == 1


def test_setup_says_that_it_may_not_install(tmp_path: Path):
    """Neither root nor sudo: one line that names what is missing."""
    sudo = "echo 'Sorry, user may not run sudo.' >&2; exit 1"
    done = setup(programs(tmp_path / "bin", dpkg_query="exit 1", id="echo 1000", sudo=sudo))

    assert done.returncode == 4
    assert "setup: cannot install clang-19 " in done.stderr
    assert "neither root nor allowed to sudo" in done.stderr


@pytest.mark.parametrize(
    ("apt", "cause"),
    [
        ("echo 'Err:1 http://deb.debian.org Temporary failure resolving'; echo 'E: no candidate'", "Temporary failure"),
        ("echo 'Reading...'; echo 'E: Unable to locate package clang-19'", "E: Unable to locate package clang-19"),
    ],
)
def test_setup_says_why_apt_failed(tmp_path: Path, apt: str, cause: str):
    """The line that names the cause is shown, not the pages around it."""
    path = programs(tmp_path / "bin", dpkg_query="exit 1", id="echo 0", apt_get=f"{apt}; exit 100")

    done = setup(path)

    last = done.stderr.splitlines()[-1]
    assert done.returncode == 4
    assert last.startswith("setup: cannot install packages: ")
    assert cause in last


def test_a_machine_knows_its_limits():
    """A kernel that nobody has is refused before anything is fetched."""
    done = subprocess.run([ROOT / "scripts" / "vm", "-k", "2.6", "true"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "vm: no kernel 2.6: it is 5.10, 6.1 or 6.12\n"


@pytest.mark.kernel
def test_the_demo_shows_all_and_leaves_only_pictures():
    """A real system recorded: report, verdict, heat map, two pictures; no process and no scratch file is left."""
    done = subprocess.run([ROOT / "scripts" / "demo", "4"], capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 0, done.stderr
    for words in ("Where the time went", "ECONNREFUSED", "evaluators get a CPU", "runq.wait ("):
        assert words in done.stdout
    left = {path.name for path in (ROOT / "demo-output").iterdir()}
    assert left >= {"demo.tk", "runq-wait.svg", "wall-time.svg"}
    assert not [name for name in left if name.startswith("work.")]
    assert servers() == []


@pytest.mark.kernel
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_its_servers_along(number: signal.Signals):
    """Ctrl-C (to all in the foreground) and SIGTERM: the system, Redis and the scratch files go."""
    demo = subprocess.Popen(
        ["env", "--default-signal=INT", ROOT / "scripts" / "demo", "60"],  # tests in the background ignore it
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tracer := running("-f -o demo-output/demo.tk")) and time.monotonic() < deadline:
        time.sleep(0.1)

    os.killpg(demo.pid, number)

    assert tracer
    assert demo.wait(60) == 130
    assert servers() == []
    assert not list((ROOT / "demo-output").glob("work.*"))


def servers() -> list[str]:
    """Return the command lines of what a demo of this checkout started and that still runs."""
    return running(f"{ROOT}/demo-output/work.")


def running(words: str) -> list[str]:
    """Return the command lines that hold *words*."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if words in line:
            found.append(line)
    return found
