"""Real programs that nobody here wrote, or that stand on libraries that nobody here wrote, and how they are started."""

from __future__ import annotations

import os
import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.unit.pythons import PYTHONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WORKLOADS = Path(__file__).parent / "workloads"
VERSIONS = "3.8", "3.10", "3.11", "3.12", "3.13"
DEBIAN = "Debian 3.11"
_WARM_S = 3.0
_WITHOUT_END = "--worker", "--loops", "1", "--warmups", "0", "--values", "100000000"
_ROOTS = re.compile(r"<module> \(.*\)|Thread\._bootstrap \(threading\.py.*\)|_bootstrap \(threading\.py.*\)", re.DOTALL)


@dataclass(frozen=True)
class Program:
    """
    A program.

    Attributes:
        needs: what pip installs for it.
        benchmark: of pyperformance; "": *command*, behind the interpreter, has it.
        waits: its threads wait all the time, for requests.
    """

    name: str
    needs: tuple[str, ...] = ()
    benchmark: str = ""
    command: tuple[str, ...] = ()
    waits: bool = False

    def words(self, python: Path) -> list[str]:
        """Return the command by which *python* runs it without end."""
        if not self.benchmark:
            return [str(python), str(WORKLOADS / self.command[0]), *self.command[1:]]
        benchmarks = python.parents[1] / "lib" / _minor(python) / "site-packages/pyperformance/data-files/benchmarks"
        script = benchmarks / f"bm_{self.benchmark}" / "run_benchmark.py"
        return [str(python), str(script), *_WITHOUT_END, *self.command]


def _benchmark(name: str, *needs: str, command: tuple[str, ...] = ()) -> Program:
    return Program(name, ("pyperformance", "pyperf", *needs), name, command)


PROGRAMS = (
    _benchmark("json_dumps"),
    _benchmark("regex_compile"),
    _benchmark("richards"),
    _benchmark("deltablue"),
    _benchmark("generators"),
    _benchmark("async_tree", command=("cpu_io_mixed",)),
    _benchmark("asyncio_tcp"),
    _benchmark("mako", "mako==1.1.4"),
    _benchmark("django_template", "django"),
    _benchmark("sqlglot_v2", "sqlglot", command=("optimize",)),
    _benchmark("sqlalchemy_imperative", "sqlalchemy<2"),
    _benchmark("sympy", "sympy"),
    Program("numpy + pandas", ("numpy", "pandas"), command=("tables.py",)),
    Program("uvicorn + starlette", ("uvicorn", "starlette"), command=("served.py", "starlette"), waits=True),
    Program("flask", ("flask",), command=("served.py", "flask"), waits=True),
    Program("mypy", ("mypy",), command=("typed.py",)),
)


def _minor(python: Path) -> str:
    """Return the name of the folder with its libraries, as `python3.11`."""
    return next((python.parents[1] / "lib").glob("python3.*")).name


def interpreter(version: str) -> str:
    """Return the interpreter of *version*, "" if it is not here: pyenv's, or Debian's."""
    if version == DEBIAN:
        return PYTHONS[0] if Path(PYTHONS[0]).exists() else ""
    return next((each for each in PYTHONS[1:] if f"/{version}." in each), "")


def installed(version: str, programs: tuple[Program, ...], scratch: Path) -> tuple[Path, dict[Program, str]]:
    """
    Make a virtual environment in *scratch* with what *programs* need, if it is not there yet.

    Returns:
        Its interpreter, and why programs cannot run in it.
    """
    python = scratch / version.replace(" ", "-") / "bin/python"
    if not python.exists():
        subprocess.run([interpreter(version), "-m", "venv", str(python.parents[1])], check=True)
    if not _pip(python, sorted({need for program in programs for need in program.needs})):
        return python, {}
    failed = {program: _pip(python, program.needs) for program in programs}
    return python, {program: why for program, why in failed.items() if why}


def _pip(python: Path, needs: Iterable[str]) -> str:
    """Install, and return why not, "" if it could be."""
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *needs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1][:100] if done.returncode else ""


@contextmanager
def running(program: Program, python: Path) -> Iterator[int]:
    """
    Run a program for the block, and yield its pid once it does its work.

    Raises:
        RuntimeError: it ends at once.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        program.words(python),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=python.parents[1],
        start_new_session=True,
    ) as child:
        try:
            time.sleep(_WARM_S)
            if child.poll() is not None:
                said = child.stderr.read().decode(errors="replace").strip() if child.stderr else ""
                raise RuntimeError(said.splitlines()[-1][:100] if said else f"it ended with {child.returncode}")
            yield child.pid
        finally:
            child.kill()


def begins_at_the_outermost(first: str) -> bool:
    """Tell whether the outermost Python frame of a stack is one: a module, or what a thread begins in."""
    return _ROOTS.fullmatch(first) is not None
