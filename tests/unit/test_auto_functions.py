"""Functions that tracekit.toml names are spans, however they are called, defined and passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.unchanged import run, written
from tracekit.auto.settings import Settings, Target

if TYPE_CHECKING:
    from pathlib import Path

WORK = """
    import functools, time

    def plain(n): return n
    async def coroutine(n): return n
    def generator(n): yield from range(n)
    async def generated(n):
        for i in range(n): yield i
    def raising(n): raise KeyError(n)
    @functools.lru_cache
    def cached(n): return n

    class Base:
        def inherited(self, n): return n
        @staticmethod
        def static(n): return n
        @classmethod
        def of_class(cls, n): return cls, n
        @property
        def read(self): return 7
        class Inner:
            def method(self, n): return n

    class Work(Base):
        def __call__(self, n): return n
"""
NAMES = [
    "plain",
    "coroutine",
    "generator",
    "generated",
    "raising",
    "cached",
    "Work.inherited",
    "Base.static",
    "Base.of_class",
    "Base.read",
    "Base.Inner.method",
    "Work.__call__",
    "Work",
    "gone",
    "Work.gone",
]
CALLS = """
    import asyncio, tally, work
    from work import Base, Work, coroutine, generated, generator, plain

    async def main():
        for _ in range(3): await coroutine(1)
        for _ in range(5): assert [i async for i in generated(3)] == [0, 1, 2]

    for _ in range(7): plain(1)
    asyncio.run(main())
    for _ in range(11): assert list(generator(3)) == [0, 1, 2]
    for _ in range(13):
        try: work.raising(1)
        except KeyError: pass
    for _ in range(17): Work().inherited(1)
    for _ in range(19): Base().inherited(1), work.cached(1), work.cached.cache_clear(), Base().read
    for _ in range(23): assert Base.static(1) == Work().static(1) == 1
    for _ in range(29): assert Work.of_class(1) == (Work, 1)
    for _ in range(31): Base.Inner().method(1)
    for _ in range(37): Work()(1)
    tally.write()
"""


def test_every_call_is_one_span(tmp_path: Path) -> None:
    """Functions, coroutines, generators and methods of every sort; as many spans as calls."""
    written(tmp_path, {"work.py": WORK})
    targets = tuple(Target(name.lower(), "work", name, (("store", "x"),)) for name in NAMES)

    done = run(tmp_path, CALLS, Settings(targets=targets))

    assert (done.stdout, done.stderr, done.code) == ("", "", 0)
    assert {name.removesuffix("{store=x}"): count for name, count in done.spans.items()} == {
        "plain": 7,
        "coroutine": 3,
        "generated": 5,
        "generator": 11,
        "raising": 13,
        "work.inherited": 17,
        "base.static": 46,
        "base.of_class": 29,
        "base.inner.method": 31,
        "work.__call__": 37,
    }
    assert done.errors == {"raising{store=x} KeyError": 13}


def test_what_is_no_function_is_left_alone_and_said(tmp_path: Path) -> None:
    """A property, a class, a cache, and names that are not there."""
    written(tmp_path, {"work.py": WORK})
    targets = tuple(Target(name.lower(), "work", name) for name in NAMES)

    done = run(tmp_path, CALLS, Settings(targets=targets))

    failed = sorted(name.removeprefix("tracekit.hook_failed") for name in done.counters)
    assert failed == [
        "{hook=work:Base.read,why=TypeError: a property, not a function}",
        "{hook=work:Work,why=TypeError: a type, not a function}",
        "{hook=work:Work.gone,why=AttributeError: Work has no gone}",
        "{hook=work:cached,why=TypeError: a _lru_cache_wrapper, not a function}",
        "{hook=work:gone,why=AttributeError: work has no gone}",
    ]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes_evaluates_as_without_us(tmp_path: Path, method: str) -> None:
    """The function is pickled by name, and found, wrapped, in workers however they begin."""
    written(tmp_path, {"jobs.py": "import tally\ndef evaluate(n): return n * n\ndef end(_):\n    tally.write()\n"})
    source = f"""
        import multiprocessing, jobs
        from concurrent.futures import ProcessPoolExecutor

        if __name__ == "__main__":
            with ProcessPoolExecutor(1, multiprocessing.get_context({method!r})) as pool:
                print(sum(pool.map(jobs.evaluate, range(101))))
                list(pool.map(jobs.end, [0]))
    """

    done = run(tmp_path, source, Settings(targets=(Target("evaluation", "jobs", "evaluate"),)))

    assert (done.stdout, done.stderr, done.code) == ("338350\n", "", 0)
    assert done.spans == {"evaluation": 101}


def test_a_module_that_is_loaded_anew_has_spans_again(tmp_path: Path) -> None:
    """importlib.reload() makes new functions."""
    written(tmp_path, {"work.py": WORK})
    source = """
        import importlib, tally, work
        for _ in range(3): work.plain(1)
        importlib.reload(work)
        for _ in range(2): work.plain(1)
        tally.write()
    """

    done = run(tmp_path, source, Settings(targets=(Target("evaluation", "work", "plain"),)))

    assert (done.stderr, done.spans) == ("", {"evaluation": 5})
