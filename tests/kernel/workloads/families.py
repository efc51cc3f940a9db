"""
Children that work in functions that are known. Arguments: another CPython, name of the process, TRUTH.

It says what CPU time each function took: {"cpu_ns": {function: ns}}.
"""

import json
import multiprocessing
import os
import select
import sys
import time
from pathlib import Path

BRIEF = 25
REPLACED = """
import sys, time
def replaced():
    end = time.thread_time() + 0.6
    while time.thread_time() < end:
        sum(range(3000))
    time.sleep(0.15)
def other_program():
    replaced()
other_program()
"""


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(3000))


def work(function, *arguments):
    """Write down what CPU time *function* takes."""
    began = time.thread_time_ns()
    function(*arguments)
    with Path(sys.argv[-1] + ".cpu").open("a") as file:
        file.write(f"{function.__name__} {time.thread_time_ns() - began}\n")


def fork(function):
    """Have a child call *function*, and wait for it."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    work(function)
    os._exit(0)


def forked():
    burn(0.15)


def with_code_of_its_own():
    names = dict(globals())
    exec(compile("def born_later():\n  burn(0.2)\n  time.sleep(0.15)", "born.py", "exec"), names)
    names["born_later"]()


def orphaned():
    """Work when the parent has ended, and is forgotten."""
    if os.fork():
        os._exit(0)
    time.sleep(0.5)
    work(alone)
    os._exit(0)


def alone():
    burn(0.15)
    time.sleep(0.15)


def brief():
    burn(0.005)


def of_pool():
    burn(0.15)
    time.sleep(0.15)


def pool(how):
    process = multiprocessing.get_context(how).Process(target=work, args=(of_pool,))
    process.start()
    process.join()


def become_another():
    os.execv(sys.argv[1], [sys.argv[1], "-c", REPLACED])


def stay():
    """Wait for the word to begin, where the walkers meet it often."""
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        pass


def main():
    fork(forked)
    fork(with_code_of_its_own)
    for _ in range(BRIEF):
        fork(brief)
    fork(orphaned)
    pool("fork")
    pool("spawn")
    fork(become_another)
    time.sleep(0.3)  # the orphan


if __name__ == "__main__":
    Path("/proc/self/comm").write_text(sys.argv[2])
    Path(sys.argv[3] + ".ready").touch()
    stay()
    main()
    found = {}
    for line in Path(sys.argv[3] + ".cpu").read_text().splitlines():
        name, ns = line.split()
        found[name] = found.get(name, 0) + int(ns)
    Path(sys.argv[3]).write_text(json.dumps({"cpu_ns": found}))
    time.sleep(0.15)  # names are read ten times a second
    os._exit(0)
