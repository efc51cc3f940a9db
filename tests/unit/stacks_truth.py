"""
A program of which all threads say in which functions they are, and stay there. It runs on CPython 3.8 and newer.

`python stacks_truth.py` writes one line of JSON: {thread: [[function, file, line], ...]} innermost first, and
{name of a scenario: thread}; then it sleeps until somebody ends it.
"""

import asyncio
import ctypes
import functools
import json
import re
import sys
import threading
import time

truths = {}
scenarios = {}
ready = threading.Semaphore(0)


def say(frame):
    """Remember the stack that *frame* tops."""
    rows = []
    while frame:
        code = frame.f_code
        rows.append((getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno))
        frame = frame.f_back
    truths[threading.get_ident()] = rows
    ready.release()


def hold(result=None):
    """Stay here: on the line that was said."""
    say(sys._getframe()), time.sleep(1000)
    return result


class Object:
    def method(self):
        return hold()

    @classmethod
    def of_class(cls):
        return cls().method()

    @staticmethod
    def static():
        return Object.of_class()

    @property
    def attribute(self):
        return self.static()

    def __add__(self, other):
        return self.attribute

    def __init_subclass__(cls):
        Object() + 1


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **named):
        return function(*args, **named)

    return wrapper


def deep(depth):
    return deep(depth - 1) if depth else hold()


def generator(depth):
    if depth:
        yield from generator(depth - 1)
    else:
        yield hold()


async def coroutine(depth):
    if depth:
        return await coroutine(depth - 1)
    await asyncio.sleep(0)
    return hold()


class Made:
    def __init__(self, stays):
        if stays:
            hold()


def made(stays):
    return Made(stays)


def s_deep():
    deep(300)


def s_class():
    class Sub(Object):
        pass


@decorated
def s_decorated():
    anonymous = lambda: hold(1)  # noqa: E731 - that is what is tried
    return anonymous()


def s_sorted():
    return sorted([3, 1], key=lambda x: hold(x) if x == 1 else x)


def s_re():
    return re.sub("a", lambda m: hold("b"), "cat")


def s_reduce():
    return functools.reduce(lambda a, b: hold(a), [1, 2])


def s_generator():
    return [(x,) for x in generator(5)]


def s_generator_expression():
    return sum(hold(1) for _ in range(1))


def s_comprehension():
    return [hold() for _ in range(1)]


def s_async():
    asyncio.run(coroutine(6))


def s_gather():
    async def both():
        return await asyncio.gather(coroutine(0), asyncio.sleep(100))

    asyncio.run(both())


def s_exec():
    exec("def inside():\n  hold()\ninside()", globals())


def s_lines_far_apart():
    text = "def far():\n" + "  x = 1\n" * 40 + "\n" * 1000 + "  (\n   hold\n  )(\n" + "\n" * 200 + "  1)\n" + "far()"
    exec(compile(text, "<far away>", "exec"), globals())


def s_no_text_file():
    exec(compile("hold()", "fil\xe9 \u65e5\U00020000\ud800.py", "exec"), globals())


def s_names():
    exec(
        "def \xe9t\xe9(): \u65e5\u672c()\ndef \u65e5\u672c(): \U00020000()\ndef \U00020000(): hold()\n\xe9t\xe9()",
        globals(),
    )


def s_long_name():
    exec("def %s(): hold()\n%s()" % (("x" * 2000,) * 2), globals())


def s_with():
    class Held:
        def __enter__(self):
            hold()

        def __exit__(self, *what):
            pass

    with Held():
        pass


def s_except():
    try:
        raise ValueError
    except ValueError:
        hold(
            1,
        )


def s_delete():
    class Deleted:
        def __del__(self):
            hold()

    it = Deleted()
    del it


def s_ctypes():
    done = []
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    numbers = (ctypes.c_int * 2)(2, 1)
    compare = kind(lambda a, b: done.append(hold()) or 0)
    ctypes.CDLL(None).qsort(numbers, 2, 4, compare)


def s_made():
    for _ in range(5000):  # from 3.13 on its __init__ is called by code of the interpreter then
        made(False)
    made(True)


def main():
    found = {name[2:]: function for name, function in globals().items() if name.startswith("s_")}
    for name, function in found.items():
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        scenarios[name] = thread.ident
    for _ in found:
        ready.acquire()
    print(json.dumps({"truths": truths, "scenarios": scenarios}), flush=True), hold()


if __name__ == "__main__":
    main()
