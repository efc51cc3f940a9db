"""What a program says of its spans is counted, whatever way it takes through them."""

from tests.unit.probing import BOTH, run


@BOTH
def test_a_span_is_counted_with_its_latency(engine):
    """Count, exact sum, lowest and highest; quantiles within 1/128."""
    found = run(
        engine,
        """
        for pause in (0.001, 0.002, 0.02):
            with span("x"):
                time.sleep(pause)
        tell(spans()["x"])
        """,
    )

    assert found["count"] == 3
    assert 1_000_000 <= found["low_ns"] < found["high_ns"]
    assert 20_000_000 <= found["high_ns"] <= found["quantiles_ns"]["0.99"]
    assert found["low_ns"] + 2_000_000 + found["high_ns"] <= found["total_ns"] < 2_000_000_000
    assert found["awaited_ns"] == 0
    assert found["labels"] == {}


@BOTH
def test_the_current_span_is_the_innermost_open_one(engine):
    """A reader outside sees it, and none where there is none."""
    found = run(
        engine,
        """
        seen = [current()]
        with span("outer"):
            seen.append(current())
            with span("inner"):
                seen.append(current())
                with span("outer"):
                    seen.append(current())
            seen.append(current())
        tell(seen + [current()])
        """,
    )

    assert found == [None, "outer", "inner", "outer", "outer", None]


@BOTH
def test_exceptions_are_counted_by_type_and_pass(engine):
    """Control flow of generators is no error; a cancellation is one of its own type."""
    found = run(
        engine,
        """
        class Bad(ValueError): pass
        for kind in (ValueError, ValueError, Bad, KeyboardInterrupt, asyncio.CancelledError,
                     StopIteration, StopAsyncIteration, GeneratorExit):
            try:
                with span("x"):
                    raise kind
            except BaseException as error:
                assert type(error) is kind
        tell([spans()["x"], current()])
        """,
    )

    assert found[0]["count"] == 8
    assert found[0]["errors"] == {"ValueError": 2, "Bad": 1, "KeyboardInterrupt": 1, "CancelledError": 1}
    assert found[1] is None


@BOTH
def test_fail_counts_once(engine):
    """As type "failed", or as the exception's if one follows."""
    found = run(
        engine,
        """
        with span("said") as s:
            s.fail(); s.fail()
        try:
            with span("raised") as s:
                s.fail()
                raise OSError
        except OSError:
            pass
        with s:  # used again: its failure was the last one's
            pass
        tell([spans()["said"]["errors"], spans()["raised"]["errors"], spans()["raised"]["count"]])
        """,
    )

    assert found == [{"failed": 1}, {"OSError": 1}, 2]


@BOTH
def test_long_names_of_exceptions_are_cut_between_characters(engine):
    """51 bytes of UTF-8 fit."""
    found = run(
        engine,
        """
        try:
            with span("x"):
                raise type("é" * 40, (Exception,), {})
        except Exception:
            pass
        tell(spans()["x"]["errors"])
        """,
    )

    assert found == {"é" * 25: 1}


@BOTH
def test_a_kind_has_labels_and_the_id_of_both(engine):
    """The id is of name and labels, sorted, and so the same in every process."""
    found = run(
        engine,
        """
        from hashlib import blake2b
        K = Kind("db.query", system="postgresql", **{"db.name": "üser"})
        with K(), K():
            pass
        text = "db.query\\0db.name=üser\\nsystem=postgresql\\n".encode()
        assert K.id == int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
        assert (K.name, K.labels) == ("db.query", {"system": "postgresql", "db.name": "üser"})
        with Kind("db.query", **{"db.name": "üser", "system": "postgresql"})():
            pass
        tell(spans()["db.query"])
        """,
    )

    assert found["count"] == 3
    assert found["labels"] == {"db.name": "üser", "system": "postgresql"}


@BOTH
def test_ids_are_blake2b_of_any_length(engine):
    """Names and labels take one block of the hash or two, or end with one."""
    run(
        engine,
        """
        from hashlib import blake2b
        for name, value in ((n, v) for n in range(1, 64) for v in (0, 60, 62, 63, 64, 65, 120, 180)):
            text = b"n" * name + b"\\0a=" + b"v" * value + b"\\n"
            wanted = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
            made = Kind("n" * name, a="v" * value)
            assert made.id in (wanted, Kind("<other>").id), (name, value)
        assert snapshot()
        """,
    )


@BOTH
def test_misuse_of_names_and_labels_raises_when_they_are_made(engine):
    """And so never in the midst of a program's work."""
    run(
        engine,
        """
        def raises(kind, call):
            try:
                call()
            except kind as error:
                return str(error)
            raise AssertionError(call)
        for reserved in "role span type errno syscall reason kind thread cpu source".split():
            for make in (Kind, counter, gauge):
                raises(ValueError, lambda: make("x", **{reserved: "y"}))
        for bad in ("", "A", "1a", "a-b", "ü", "a b", ".a", "a=b", "a\\n", "\\udc80"):
            raises(ValueError, lambda: Kind("x", **{bad: "y"}))
        for value in ("a\\nb", "\\0"):
            raises(ValueError, lambda: Kind("x", a=value))
        for make in (Kind, counter, gauge, span, mark, lambda name: traced("x")(name)):
            for bad in (1, None, b"x"):
                raises(TypeError, lambda: make(bad))
        raises(TypeError, lambda: Kind("x", a=1))
        raises(TypeError, lambda: Kind())
        raises(TypeError, lambda: Kind("x", "y"))
        raises(TypeError, lambda: Kind("x")(1))
        s = span("open")
        with s:
            assert "open already" in raises(RuntimeError, s.__enter__)
        assert spans()["open"]["count"] == 1
        """,
    )


@BOTH
def test_any_text_is_a_name(engine):
    """What does not fit is counted as <other>, and nothing raises."""
    found = run(
        engine,
        """
        import enum
        class Name(str, enum.Enum):
            MEMBER = "member"
        for name in ("", "a\\0b", "n" * 64, "é" * 32, "x" * 1_000_000):
            with span(name), Kind(name)():
                pass
        with span("n" * 63), span("\\x1b[31m<b>\\n"), span("\\udc80"), span(Name.MEMBER), span("mem" + "ber"):
            pass
        with Kind("x", a="v" * 200)():
            pass
        tell([{name: values["count"] for name, values in spans().items()}, snapshot()["lost"]])
        """,
    )

    assert found[0] == {"<other>": 11, "n" * 63: 1, "\x1b[31m<b>\n": 1, "\\udc80": 1, "member": 2}
    assert found[1] == {"kinds": 11, "errors": 0, "values": 0, "threads": 0}


@BOTH
def test_more_kinds_than_rows_are_counted_as_other(engine):
    """Names that come from data cost no memory and lose no span."""
    found = run(
        engine,
        """
        for turn in range(2):
            for i in range(400):
                with span(f"name-{i}"):
                    pass
        with Kind("late", a="b")():
            pass
        all = spans()
        tell([len(all), all["name-254"]["count"], all["<other>"]["count"], snapshot()["lost"]["kinds"]])
        """,
    )

    assert found == [256, 2, 2 * 145 + 1, 2 * 145 + 1]


@BOTH
def test_more_errors_than_rows_are_counted_as_lost(engine):
    """The sum stays right, and so do the rows that have a place."""
    found = run(
        engine,
        """
        for i in range(600):
            try:
                with span("x"):
                    raise type(f"E{i}", (Exception,), {})
            except Exception:
                pass
        errors = spans()["x"]["errors"]
        tell([len(errors), sum(errors.values()), errors["E510"], errors["<other>"], snapshot()["lost"]["errors"]])
        """,
    )

    assert found == [512, 600, 1, 89, 89]


@BOTH
def test_counters_gauges_and_marks(engine):
    """The same name and labels are the same value; what was never set is not there."""
    found = run(
        engine,
        """
        hits, again, other = counter("hits", cache="a"), counter("hits", cache="a"), counter("hits", cache="b")
        hits.add(); again.add(2); hits.add(0.5); other.add(3); counter("never")
        depth = gauge("depth"); depth.set(10); depth.add(-2.5); depth.add(1)
        before = time.monotonic_ns()
        mark("ready"); mark("ready")
        found = snapshot()
        assert before <= found["marks"][0].pop("first_ns") <= time.monotonic_ns()
        tell(found)
        """,
    )

    assert found["counters"] == [
        {"name": "hits", "labels": {"cache": "a"}, "value": 3.5, "count": 3},
        {"name": "hits", "labels": {"cache": "b"}, "value": 3, "count": 1},
    ]
    assert found["gauges"] == [{"name": "depth", "labels": {}, "value": 8.5, "count": 3}]
    assert found["marks"] == [{"name": "ready", "count": 2}]
    assert found["spans"] == []


@BOTH
def test_values_that_cannot_be_are_refused_or_lost(engine):
    """A counter never goes down; what is not finite spoils no sum."""
    found = run(
        engine,
        """
        c, g = counter("c"), gauge("g")
        for bad in (-1, -0.5):
            try:
                c.add(bad)
                raise AssertionError
            except ValueError:
                pass
        for call in (lambda: c.add("1"), lambda: g.set(None), lambda: c.add(1, 2)):
            try:
                call()
                raise AssertionError
            except TypeError:
                pass
        c.add(float("inf")); c.add(float("nan")); g.set(float("nan")); mark("m" * 64); c.add(1)
        for i in range(300):
            counter(f"c{i}").add()
        found = snapshot()
        tell([found["counters"][0]["value"], len(found["counters"]), found["gauges"], found["lost"]["values"]])
        """,
    )

    assert found == [1, 254, [], 4 + 47]


@BOTH
def test_a_snapshot_is_plain_values(engine):
    """It can be written as JSON, and what the process never did is not in it."""
    found = run(engine, "tell([snapshot(), os.getpid()])")

    assert found[0] == {
        "pid": found[1],
        "spans": [],
        "counters": [],
        "gauges": [],
        "marks": [],
        "lost": {"kinds": 0, "errors": 0, "values": 0, "threads": 0},
    }


@BOTH
def test_crossed_exits_leave_nothing_behind(engine):
    """Generators that hold spans open end in any order; a span ends once."""
    found = run(
        engine,
        """
        def held(name):
            with span(name):
                yield
        seen = []
        for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)):
            open = [held(name) for name in "abc"]
            for each in open:
                next(each)
            for i in order:
                open[i].close()
            seen.append(current())
        s = span("once")
        with s:
            s.__exit__(None, None, None)
        tell([seen, {name: values["count"] for name, values in spans().items()}])
        """,
    )

    assert found == [[None] * 4, {"a": 4, "b": 4, "c": 4, "once": 1}]


@BOTH
def test_exit_stacks_and_direct_calls(engine):
    """What contextlib and tests do with a context manager."""
    found = run(
        engine,
        """
        with contextlib.ExitStack() as stack:
            entered = stack.enter_context(span("stack"))
            assert type(entered) is type(span("x"))
        async def main():
            async with contextlib.AsyncExitStack() as stack:
                stack.enter_context(span("stack"))
        asyncio.run(main())
        s = span("direct")
        assert s.__enter__() is s
        assert not s.__exit__(ValueError, ValueError("x"), None)
        tell([spans()["stack"]["count"], spans()["direct"]["errors"]])
        """,
    )

    assert found == [2, {"ValueError": 1}]


def test_a_span_that_is_never_left_is_unlinked(engine="c"):
    """An interrupt between enter and body leaves nothing current, and counts nothing."""
    found = run(
        engine,
        """
        span("x").__enter__()
        gc.collect()
        tell([current(), spans()])
        """,
    )

    assert found == [None, {}]


def test_spans_do_not_keep_garbage_alive():
    """A span open in an abandoned task holds its Context, which may hold the task."""
    found = run(
        "c",
        """
        import weakref
        var = contextvars.ContextVar("var")
        class Holder: pass
        async def abandoned(holder):
            var.set(holder)
            holder.me = sys._getframe()
            with span("x"):
                await asyncio.sleep(0)
        def leave():
            holder = Holder()
            context = contextvars.copy_context()
            coroutine = abandoned(holder)
            holder.coroutine = coroutine
            context.run(coroutine.send, None)
            return weakref.ref(holder)
        held = leave()
        gc.collect()
        tell([held() is None, current()])
        """,
    )

    assert found == [True, None]


def test_a_million_spans_hold_no_memory():  # 3 of each turn, and the ways out of them
    """No reference is lost in any way out of a span, a kind, a traced call, a generator."""
    found = run(
        "c",
        """
        import resource
        KIND, c, g = Kind("k", a="b"), counter("c"), gauge("g")
        @traced
        def call(x): return x
        @traced
        def steps():
            yield 1
        def turn(n):
            for i in range(n):
                with span("x") as s: pass
                with KIND(): pass
                with span("dynamic" + str(i % 500)): pass
                call(i); c.add(i); g.set(i)
                if not i % 10:
                    list(steps())
                    try:
                        with span("x"): raise ValueError
                    except ValueError: pass
                    contextvars.copy_context().run(span("y").__enter__)
        turn(20_000)
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        counts = [sys.getrefcount(each) for each in (KIND, call, type(span("x")), contextvars.copy_context)]
        turn(334_000)
        gc.collect()
        after = [sys.getrefcount(each) for each in (KIND, call, type(span("x")), contextvars.copy_context)]
        tell([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, counts == after])
        """,
    )

    assert found[0] < 1000  # KiB
    assert found[1]


@BOTH
def test_the_import_is_light(engine):
    """What runs in every traced program brings nothing that it had not."""
    found = run(
        engine,
        """
        import sys
        before = set(sys.modules)
        import tracekit
        assert "tracekit.probe" not in sys.modules
        from tracekit import span
        with span("x"): pass
        new = sorted(set(sys.modules) - before)
        print(__import__("json").dumps(new))
        """,
        first="",
    )

    heavy = {
        "re",
        "typing",
        "enum",
        "functools",
        "threading",
        "asyncio",
        "inspect",
        "hashlib",
        "collections",
        "pathlib",
    }
    assert not heavy & {name.split(".")[0] for name in found}
    assert len(found) < 20


def test_tracekit_has_no_other_attributes():
    """The lazy import is not a trap for misspelt names."""
    run("c", "import tracekit\nassert not hasattr(tracekit, 'spam')\nfrom tracekit import *")
