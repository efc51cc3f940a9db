"""Each way to start a process is one span `agent.spawn`, however many of them it goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.unchanged import run, written
from tracekit.auto.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

SPAWN = Settings(spawn=True)


def spawned(system: str) -> str:
    """Return the name of the series."""
    return f"agent.spawn{{system={system}}}"


def test_subprocesses(tmp_path: Path) -> None:
    """Each Popen is one, by whichever function; what fails to start is an error by its type."""
    source = """
        import os, subprocess, tally
        for _ in range(7): subprocess.run(["true"], check=True)
        for _ in range(3): subprocess.run("true", shell=True, check=True)
        for _ in range(2): assert subprocess.check_output(["echo", "x"], close_fds=False) == b"x\\n"
        os.popen("true").close()
        for _ in range(5):
            try: subprocess.Popen(["/no/such/program"])
            except FileNotFoundError: pass
        tally.write()
    """

    done = run(tmp_path, source, SPAWN)

    assert (done.stderr, done.spans) == ("", {spawned("subprocess"): 18})
    assert done.errors == {f"{spawned('subprocess')} FileNotFoundError": 5}


def test_subprocesses_of_asyncio(tmp_path: Path) -> None:
    """asyncio starts them by subprocess: that is not another one."""
    source = """
        import asyncio, tally
        async def start():
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()
        async def main():
            for _ in range(5): await start()
            await asyncio.gather(*(start() for _ in range(6)))
            process = await asyncio.create_subprocess_shell("exit 7")
            print(await process.wait())
        asyncio.run(main())
        tally.write()
    """

    done = run(tmp_path, source, SPAWN)

    assert (done.stdout, done.stderr, done.spans) == ("7\n", "", {spawned("asyncio"): 12})


def test_posix_spawn(tmp_path: Path) -> None:
    """With the arguments as they are, by keyword too."""
    source = """
        import os, tally
        for _ in range(3): os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
        for _ in range(2): os.waitpid(os.posix_spawnp("true", ["true"], os.environ, setsid=True), 0)
        try: os.posix_spawn("/no/such/program", ["x"], {})
        except FileNotFoundError: pass
        tally.write()
    """

    done = run(tmp_path, source, SPAWN)

    assert (done.stderr, done.spans) == ("", {spawned("posix_spawn"): 6})


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing(tmp_path: Path, method: str) -> None:
    """One for each Process; helpers of multiprocessing itself are none; the child begins with a clean slate."""
    source = f"""
        import multiprocessing, subprocess, tally

        def work():
            for _ in range(3): subprocess.run(["true"])
            tally.write()

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            for _ in range(5):
                process = context.Process(target=work)
                process.start()
                process.join()
                assert process.exitcode == 0
            tally.write()
    """

    done = run(tmp_path, source, SPAWN)

    assert (done.stdout, done.stderr) == ("", "")
    assert done.spans == {spawned("multiprocessing"): 5, spawned("subprocess"): 15}


def test_a_fork_in_the_middle_of_a_spawn_does_not_silence_the_child(tmp_path: Path) -> None:
    """A child of os.fork() is no part of the call that its parent was in."""
    source = """
        import os, subprocess, tally

        class Path:
            asked = False

            def __fspath__(self):
                if not self.asked and not os.fork():
                    for _ in range(3): subprocess.run(["true"])
                    tally.write()
                    os._exit(0)
                self.asked = True
                return "true"

        subprocess.Popen([Path()]).wait()
        os.wait()
        tally.write()
    """

    done = run(tmp_path, source, SPAWN)

    assert (done.stdout, done.stderr, done.code) == ("", "", 0)
    assert done.spans == {spawned("subprocess"): 4}


def test_a_child_with_an_environment_of_its_own_has_no_spans(tmp_path: Path) -> None:
    """Nothing is forced on it."""
    written(tmp_path, {"child.py": "import os; print('TRACEKIT_AUTO' in os.environ)"})
    source = """
        import subprocess, sys
        print(subprocess.check_output([sys.executable, "child.py"], text=True).strip())
        print(subprocess.check_output([sys.executable, "child.py"], text=True, env={}).strip())
    """

    done = run(tmp_path, source, SPAWN)

    assert (done.stdout, done.stderr) == ("True\nFalse\n", "")
