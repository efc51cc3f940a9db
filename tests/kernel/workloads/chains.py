"""
Work and waits in functions that are known, on CPython 3.8 and newer. Arguments: name of the process, TRUTH.

It says where it was: {"chains": [[[function, file, line], ...], ...]}, root first, of all places where it worked;
"cpu_ns": of each scenario; "off_ns", "queued_ns": of each function that waits, blocked and then waiting for a CPU;
"failures": how many calls failed.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import select
import socket
import sys
import threading
import time
import zlib
from pathlib import Path

ROUNDS, WORK_S = 5, 0.0113
WAIT_S, WAITS = 0.0231, 3
THREADS = 20
FAILURES = 120
DEEP = 500
ROOM = bytes(1 << 20)
FILE = "made_" + Path(__file__).name
chains = set()
cpu_ns = {}
off_ns, queued_ns = {}, {}


def say(frame):
    """Remember the stack that *frame* tops."""
    found = []
    while frame:
        code = frame.f_code
        found.append((getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno))
        frame = frame.f_back
    chains.add(tuple(reversed(found)))


def burn(seconds=WORK_S):
    say(sys._getframe())
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(3000))


def recursion(depth=12):
    if depth:
        return recursion(depth - 1)
    return burn()


class Object:
    def method(self):
        return self.static(self)

    @staticmethod
    def static(it):
        return it.of_class()

    @classmethod
    def of_class(cls):
        return cls().attribute

    @property
    def attribute(self):
        return self + 1

    def __add__(self, other):
        burn()


def methods():
    return Object().method()


def generated(depth):
    if depth:
        yield from generated(depth - 1)
    else:
        for _ in range(2):
            burn(WORK_S / 2)
            yield


def generators():
    return [(x,) for x in generated(4)]


def lambdas():
    call = lambda f: f()  # noqa: E731 - that is what is tried
    return call(lambda: call(burn))


def comprehensions():
    return [{burn(WORK_S / 4) for _ in range(2)} for _ in range(2)]


def callbacks():
    sorted([2, 1], key=lambda x: burn(WORK_S / 3) or x)
    return functools.reduce(lambda a, b: burn(WORK_S / 3), [1, 2])


def made():
    text = "def inside():\n  class Made:\n    burn()\n\ninside()"
    return compile(text, FILE, "exec")


def executed():
    exec(MADE, globals())


def fleeting():
    """Code that is gone when somebody asks for its name."""
    exec(made(), globals())


async def awaited(depth):
    if depth:
        return await awaited(depth - 1)
    burn(WORK_S / 4)
    await asyncio.sleep(0)
    return burn(WORK_S / 4)


def coroutines():
    async def both():
        say(sys._getframe())
        await asyncio.gather(awaited(5), awaited(1))

    loop.run_until_complete(both())


def in_c():
    """C code that works without the interpreter's lock, on a thread beside the one that has it."""

    def sums():
        began = time.thread_time_ns()
        say(sys._getframe())
        for until, work in enumerate((zlib.crc32, hashlib.sha256), 1):
            while time.thread_time_ns() - began < until * 2 * WORK_S * 1e9:
                work(ROOM)
        cpu_ns["sums"] = cpu_ns.get("sums", 0) + time.thread_time_ns() - began

    thread = threading.Thread(target=sums)
    thread.start()
    burn()
    thread.join()


def bottomless(depth=DEEP):
    if depth:
        return bottomless(depth - 1)
    return burn()


def run_delay_ns():
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


def timed(function):
    """Measure how long *function* is blocked: neither on a CPU nor waiting for one."""
    before = time.monotonic_ns(), time.thread_time_ns(), run_delay_ns()
    function()
    delay = run_delay_ns() - before[2]
    now = time.monotonic_ns(), time.thread_time_ns()
    ns = now[0] - before[0] - (now[1] - before[1]) - delay
    off_ns[function.__name__] = off_ns.get(function.__name__, 0) + ns
    queued_ns[function.__name__] = queued_ns.get(function.__name__, 0) + delay


def sleeps():
    time.sleep(WAIT_S)


def locks():
    lock.acquire()


def reads():
    here.recv(1)


def pipes():
    os.read(pipe[0], 1)


def children():
    os.waitpid(-1, 0)


def bad():
    for _ in range(FAILURES):
        with contextlib.suppress(OSError):
            os.rmdir("/missing/folder")  # noqa: PTH106 - no Python between
        time.sleep(0.001)


def wait():
    """Wait in each way, for what a thread does later: it sleeps in the same functions of the kernel, but not here."""
    lock.acquire()

    def helper():
        time.sleep(WAIT_S)
        lock.release()
        time.sleep(WAIT_S)
        there.send(b"x")
        time.sleep(WAIT_S)
        os.write(pipe[1], b"x")

    thread = threading.Thread(target=helper)
    thread.start()
    for function in (locks, reads, pipes):
        timed(function)
    thread.join()
    lock.release()
    os.posix_spawn("/bin/sleep", ["sleep", str(WAIT_S)], {})
    timed(children)
    timed(sleeps)


def crowd():
    """Many threads, each in a function of its own."""

    def member(name):
        text = f"def {name}():\n  burn(0.003)\n  time.sleep(WAIT_S)"
        names = dict(globals())
        exec(compile(text, FILE, "exec"), names)
        return threading.Thread(target=timed, args=(names[name],))

    threads = [member(f"member_{i}") for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stay():
    """Wait for the word to begin, where the walkers meet it often."""
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        pass


def work():
    scenarios = [recursion, methods, generators, lambdas, comprehensions, callbacks, executed, fleeting, coroutines]
    for _ in range(ROUNDS):
        for scenario in (*scenarios, in_c, bottomless):
            began = time.thread_time_ns()
            scenario()
            name = scenario.__name__
            cpu_ns[name] = cpu_ns.get(name, 0) + time.thread_time_ns() - began


def main():
    for _ in range(WAITS):
        wait()
    bad()
    work()
    crowd()


lock, pipe = threading.Lock(), os.pipe()
here, there = socket.socketpair()
MADE = made()
loop = asyncio.new_event_loop()
if __name__ == "__main__":
    sys.setrecursionlimit(DEEP * 3)
    Path("/proc/self/comm").write_text(sys.argv[1])
    Path(sys.argv[2] + ".ready").touch()
    stay()
    main()
    facts = {"chains": sorted(chains), "cpu_ns": cpu_ns, "off_ns": off_ns, "queued_ns": queued_ns, "failures": FAILURES}
    Path(sys.argv[2]).write_text(json.dumps({**facts, "minor": sys.version_info[1]}))
    time.sleep(0.15)  # names are read ten times a second
    os._exit(0)
