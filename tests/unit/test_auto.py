"""The hooks get into every Python below the command, and nobody there notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tracekit
from tests.unit.unchanged import AUTO, run, written
from tracekit.auto.settings import Settings, Target
from tracekit.capture.workload import Command

QUERIES = """
    import sqlite3, tally
    connection = sqlite3.connect(":memory:")
    for _ in range(7):
        connection.execute("select 1")
    tally.write()
"""
SQLITE = "db.query{system=sqlite}"


def test_a_sitecustomize_that_is_there_runs_as_if_it_were_alone(tmp_path: Path) -> None:
    """Debian has one, companies have one: it must not see that another came first."""
    there = written(tmp_path, {"there/sitecustomize.py": "import sys; sys.seen = (__name__, list(sys.path))"}) / "there"
    source = """
        import sys
        print(sys.seen, sys.modules["sitecustomize"].__file__, sys.path)
    """
    alone = run(tmp_path, source, None, PYTHONPATH=str(there))

    chained = run(tmp_path, source, PYTHONPATH=str(there))

    assert alone.stdout.startswith("('sitecustomize', [")
    assert (chained.stdout, chained.stderr) == (alone.stdout, alone.stderr)


@pytest.mark.parametrize("failure", ["1 / 0", "import no_such_module", "raise SystemExit(3)"])
def test_a_sitecustomize_that_fails_fails_as_if_it_were_alone(tmp_path: Path, failure: str) -> None:
    """What Python says of it, and whether it goes on, is not ours to change."""
    there = written(tmp_path, {"there/sitecustomize.py": failure}) / "there"
    alone = run(tmp_path, QUERIES, None, PYTHONPATH=str(there))

    chained = run(tmp_path, QUERIES, PYTHONPATH=str(there))

    assert (chained.stdout, chained.code) == (alone.stdout, alone.code)
    assert chained.stderr.splitlines()[-1:] == alone.stderr.splitlines()[-1:]
    assert chained.spans[SQLITE] == (0 if "Exit" in failure else 7)


def test_a_python_without_tracekit_has_spans(tmp_path: Path) -> None:
    """The target's virtual environment need not have tracekit, nor what tracekit needs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")

    without = run(tmp_path, "import tracekit", None, (python,))
    counted = run(tmp_path, QUERIES, AUTO, (python,))

    assert "No module named 'tracekit'" in without.stderr
    assert (counted.spans[SQLITE], counted.stderr) == (7, "")


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_a_python_that_shuts_its_environment_out_runs_without_spans(tmp_path: Path, flag: str) -> None:
    """It reads no PYTHONPATH, or no sitecustomize: documented, and nothing breaks."""
    source = "import sqlite3; print(sqlite3.connect(':memory:').execute('select 7').fetchone(), type(sqlite3.connect))"

    done = run(tmp_path, source, AUTO, (sys.executable, flag))

    assert (done.stdout, done.stderr, done.code) == ("(7,) <class 'builtin_function_or_method'>\n", "", 0)


def test_nothing_but_the_spans_differs(tmp_path: Path) -> None:
    """Signatures, names, classes, pickles, sources and resources are what they are without us."""
    written(
        tmp_path, {"package/__init__.py": "", "package/work.py": "def evaluate(a, b=2):\n    'A.'\n    return a + b\n"}
    )
    source = """
        import asyncio, doctest, importlib.util, inspect, multiprocessing, os, pickle, sqlite3, subprocess, sys
        from package import work
        from sqlite3 import dbapi2

        for function in (subprocess.Popen.__init__, asyncio.create_subprocess_exec, multiprocessing.Process.start,
                         work.evaluate):
            print(inspect.signature(function), function.__name__, function.__qualname__, function.__module__,
                  function.__doc__, inspect.iscoroutinefunction(function), inspect.isroutine(function))
        print(inspect.getsource(work.evaluate), inspect.isfunction(work.evaluate), pickle.dumps(work.evaluate))
        print(work.evaluate(1), work.__loader__.get_source("package.work"), work.__spec__.origin, type(work.__loader__))
        connection, cursor = sqlite3.connect(":memory:"), sqlite3.connect(":memory:").cursor()
        print(isinstance(connection, sqlite3.Connection), isinstance(cursor, sqlite3.Cursor), type(cursor))
        print(type(connection), str(connection).split(" at ")[0])
        class Holder:
            connect, spawn = sqlite3.connect, os.posix_spawn
        print(Holder().connect(":memory:").execute("select 7").fetchone())
        print(os.waitpid(Holder().spawn("/bin/true", ["true"], {}), 0)[1], Holder.spawn.__name__, Holder.spawn.__doc__)
        print(repr(os.posix_spawn), repr(sqlite3.connect), os.posix_spawn.__qualname__)
        print(pickle.loads(pickle.dumps(sqlite3.connect)) is sqlite3.connect)
        print(sqlite3.connect is dbapi2.connect, sqlite3.connect.__name__, connection.execute.__name__)
        print(subprocess.Popen([sys.executable, "-c", "print(7)"]).wait(), sys.argv, sys.path)
        print(doctest.run_docstring_examples(work.evaluate, vars(work)), importlib.util.find_spec("package.work").name)
    """
    settings = Settings(spawn=True, db=True, targets=(Target("evaluation", "package.work", "evaluate"),))
    plain = run(tmp_path, source, None)

    counted = run(tmp_path, source, settings)

    assert plain.code == 0
    assert (counted.stdout, counted.stderr, counted.code) == (plain.stdout, plain.stderr, plain.code)


def test_a_hook_that_fails_is_a_count_and_nothing_else(tmp_path: Path) -> None:
    """A driver of a version that nobody has seen: the program goes on, the report has its line."""
    written(tmp_path, {"redis/__init__.py": "from redis import client", "redis/client.py": "answer = 7"})
    written(
        tmp_path, {"pymysql/__init__.py": "", "pymysql/cursors.py": "class Cursor:\n    def execute(self): return 7\n"}
    )
    source = """
        import redis, pymysql.cursors, tally
        print(redis.client.answer, pymysql.cursors.Cursor().execute())
        tally.write()
    """

    done = run(tmp_path, source)

    assert (done.stdout, done.stderr, done.code) == ("7 7\n", "", 0)
    assert done.counters == {
        "tracekit.hook_failed{hook=redis.client,why=LookupError: no method of redis.client is known}": 1
    }
    assert done.spans == {"db.query{system=mysql}": 1}


def test_a_tracekit_in_a_tracekit_counts_once(tmp_path: Path) -> None:
    """Two installations: the folder of the outer one is still on PYTHONPATH, behind that of the inner one."""
    outer = shutil.copytree(Path(tracekit.__file__).parent, tmp_path / "outer" / "tracekit")

    done = run(tmp_path, QUERIES, PYTHONPATH=str(outer / "auto" / "site"))

    assert (done.stderr, done.spans) == ("", {SQLITE: 7})


@pytest.mark.parametrize(
    "text", ["", "nonsense", "tracekit-auto 2\ndb", "tracekit-auto 1\nspan\tx", "tracekit-auto 1\n\n"]
)
def test_settings_that_are_not_ours_are_no_settings(tmp_path: Path, text: str) -> None:
    """Another version may have written them: the program runs, without spans."""
    done = run(tmp_path, QUERIES, TRACEKIT_AUTO=text)

    assert (done.stdout, done.stderr, done.code, done.spans) == ("", "", 0, {})


def test_a_module_of_a_zip_file_is_wrapped_and_its_neighbours_are_loaded(tmp_path: Path) -> None:
    """One loader loads all modules of a zip file: the hook of one must not run for another."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("near.py", "import far\n")
        archive.writestr("far.py", "import deep\ndef evaluate(): return deep.answer\n")
        archive.writestr("deep.py", "answer = 7\n")
    targets = (Target("evaluation", "far", "evaluate"), Target("nothing", "near", "nothing"))
    source = "import near, far, tally; print(far.evaluate()); tally.write()"

    done = run(tmp_path, source, Settings(targets=targets), PYTHONPATH=str(tmp_path / "all.zip"))

    assert (done.stdout, done.stderr, done.spans) == ("7\n", "", {"evaluation": 1})
    assert list(done.counters) == ["tracekit.hook_failed{hook=near:nothing,why=AttributeError: near has no nothing}"]


def test_a_command_has_the_variables_that_it_was_given(tmp_path: Path) -> None:
    """The variables reach it beside ours."""
    code = (
        f"import os, pathlib; pathlib.Path({str(tmp_path / 'out')!r}).write_text(os.environ['A'] + os.environ['PATH'])"
    )

    command = Command((sys.executable, "-c", code), (("A", "7"),))
    command.go()
    command.poll(wait=True)

    assert command.exit_code == 0
    assert (tmp_path / "out").read_text() == "7" + os.environ["PATH"]
