"""Children as Python programs have them, and what became of each: {name: [pid, exit code]}. Argument: TRUTH."""

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path


def leave(code):
    os._exit(code)


def forked(how, code):
    process = multiprocessing.get_context(how).Process(target=leave, args=(code,))
    process.start()
    process.join()
    return [process.pid, process.exitcode]


def spawned():
    process = subprocess.Popen(["/bin/sh", "-c", "exit 3"])
    return [process.pid, process.wait()]


async def awaited():
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 5")
    return [process.pid, await process.wait()]


def posix_spawned():
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 11"], {})
    return [pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


def main():
    truth = {
        "fork": forked("fork", 7),
        "spawn": forked("spawn", 13),
        "forkserver": forked("forkserver", 17),
        "subprocess": spawned(),
        "asyncio": asyncio.run(awaited()),
        "posix_spawn": posix_spawned(),
    }
    with Path(sys.argv[1]).open("w") as file:
        json.dump(truth, file)


if __name__ == "__main__":
    main()
