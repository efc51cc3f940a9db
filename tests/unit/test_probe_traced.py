"""@traced leaves a function what it was, and makes a span of each call."""

from tests.unit.probing import BOTH, run


@BOTH
def test_functions_methods_and_their_kinds(engine):
    """Stacked with classmethod and staticmethod either way, in subclasses and instances."""
    found = run(
        engine,
        """
        class A:
            @traced("method")
            def method(self, x, *, y=1): return (type(self).__name__, x, y, current())
            @traced("class")
            @classmethod
            def of_class(cls, x): return (cls.__name__, x, current())
            @classmethod
            @traced("class")
            def of_class_too(cls, x): return (cls.__name__, x, current())
            @traced("static")
            @staticmethod
            def static(x): return (x, current())
            @staticmethod
            @traced("static")
            def static_too(x): return (x, current())
            @property
            @traced("property")
            def property(self): return current()
        class B(A): pass
        a, b = A(), B()
        bound = b.method
        tell([a.method(1), A.method(a, 2, y=3), bound(4), A.of_class(1), b.of_class(2), b.of_class_too(3),
              A.static(1), b.static(2), b.static_too(3), a.property,
              {name: values["count"] for name, values in spans().items()}])
        """,
    )

    assert found == [
        ["A", 1, 1, "method"],
        ["A", 2, 3, "method"],
        ["B", 4, 1, "method"],
        ["A", 1, "class"],
        ["B", 2, "class"],
        ["B", 3, "class"],
        [1, "static"],
        [2, "static"],
        [3, "static"],
        "property",
        {"method": 3, "class": 3, "static": 3, "property": 1},
    ]


@BOTH
def test_a_traced_function_looks_like_the_function(engine):
    """Name, documentation, signature, annotations, own attributes; pickled, copied and referred to weakly."""
    run(
        engine,
        """
        import copy, inspect, pickle, weakref, abc
        def plain(x: int, y: str = "z") -> bytes:
            "What it does."
        plain.own = 5
        made = traced(plain)
        plain2 = plain
        assert (made.__name__, made.__qualname__, made.__module__, made.__doc__) == (
            "plain", "plain", "__main__", "What it does.")
        assert made.__wrapped__ is plain and inspect.unwrap(made) is plain
        assert inspect.signature(made) == inspect.signature(plain)
        assert made.__annotations__ == plain.__annotations__
        assert made.own == 5
        made.mine = 6
        assert made.mine == 6 and not hasattr(plain, "mine")
        assert weakref.ref(made)() is made
        assert copy.deepcopy(made) is made
        plain = made
        assert pickle.loads(pickle.dumps(made)) is made
        assert "plain" in repr(made)
        class Abstract(abc.ABC):
            @traced
            @abc.abstractmethod
            def do(self): pass
        try:
            Abstract()
            raise AssertionError
        except TypeError:
            pass
        for bad in (int, Abstract, 5, None):
            try:
                traced(bad)
                raise AssertionError(bad)
            except TypeError:
                pass
        """,
    )


@BOTH
def test_the_default_name_is_that_of_the_function(engine):
    """With its module; the first packages go where the name is too long."""
    found = run(
        engine,
        """
        import functools
        class A:
            @traced
            def m(self): pass
        A().m()
        def f(): pass
        f.__module__ = "a_package_with_a_long_name.another_one_in_it.a_module"
        f.__qualname__ = "ALongClassName.a_method"
        traced(f)()
        f.__qualname__ = "n" * 70
        traced(f)()
        traced(functools.partial(print, end=""))()
        tell(list(spans()))
        """,
    )

    assert found[0:3] == [
        "<other>",
        "__main__.A.m",
        "another_one_in_it.a_module.ALongClassName.a_method",
    ]
    assert found[3].endswith("partial")


@BOTH
def test_kinds_and_names_for_traced(engine):
    """@traced(KIND) brings its labels."""
    found = run(
        engine,
        """
        @traced(Kind("k", a="b"))
        def f(): return 1
        assert f() == 1
        tell(spans()["k"]["labels"])
        """,
    )

    assert found == {"a": "b"}


@BOTH
def test_exceptions_of_traced_functions(engine):
    """They pass as they are, and count by type; recursion ends as it would without."""
    found = run(
        engine,
        """
        @traced("f")
        def f(kind): raise kind
        for kind in (ValueError("x"), StopIteration(5)):
            try:
                f(kind)
            except Exception as error:
                assert error is kind
        @traced("deep")
        def deep(): return deep()
        try:
            deep()
        except RecursionError:
            pass
        all = spans()
        tell([all["f"]["count"], all["f"]["errors"], list(all["deep"]["errors"]), current()])
        """,
    )

    assert found == [2, {"ValueError": 1}, ["RecursionError"], None]


@BOTH
def test_coroutine_functions_stay_what_they_are(engine):
    """Frameworks ask inspect and asyncio; arguments, result, exception and cancellation pass."""
    found = run(
        engine,
        """
        import inspect, functools
        @traced("co")
        async def co(x, *, y=1):
            await asyncio.sleep(0.001)
            if x is None:
                raise ValueError
            return x + y
        assert inspect.iscoroutinefunction(co) and asyncio.iscoroutinefunction(co)
        assert co.__name__ == "co"
        assert inspect.iscoroutinefunction(traced("p")(functools.partial(co, 1)))
        class A:
            @traced("method")
            async def m(self): return 7
        async def main():
            assert await co(1, y=5) == 6 and await A().m() == 7
            try:
                await co(None)
            except ValueError:
                pass
            task = asyncio.create_task(co(1))
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
        asyncio.run(main())
        tell(spans()["co"])
        """,
    )

    assert found["count"] == 3
    assert found["errors"] == {"ValueError": 1, "CancelledError": 1}
    assert found["total_ns"] >= 2_000_000


@BOTH
def test_generators_keep_their_protocol(engine):
    """next, send, throw, close, the value of return, `yield from`; errors count, ends do not."""
    found = run(
        engine,
        """
        import inspect
        log = []
        @traced("gen")
        def gen(n):
            try:
                got = None
                for i in range(n):
                    try:
                        got = yield (i, got)
                    except KeyError as error:
                        got = repr(error)
                return "returned"
            finally:
                log.append("finally")
        assert inspect.isgeneratorfunction(gen)
        g = gen(4)
        assert [next(g), g.send("a"), g.throw(KeyError("k"))] == [(0, None), (1, "a"), (2, "KeyError('k')")]
        g.close()
        def outer():
            return (yield from gen(2))
        o = outer()
        assert list(iter(lambda: next(o, None), None)) == [(0, None), (1, None)]
        g = gen(1)
        next(g)
        try:
            g.throw(ValueError("v"))
        except ValueError:
            pass
        try:
            next(gen(0))
        except StopIteration as end:
            assert end.value == "returned"
        gen(5)
        g = gen(5); next(g); del g; gc.collect()
        tell([spans()["gen"]["count"], spans()["gen"]["errors"], log, current()])
        """,
    )

    assert found == [5, {"ValueError": 1}, ["finally"] * 5, None]


@BOTH
def test_a_generators_latency_is_the_sum_of_its_steps(engine):
    """What its consumer does between them is the consumer's."""
    found = run(
        engine,
        """
        @traced("gen")
        def gen():
            for _ in range(3):
                time.sleep(0.002)
                yield
        for _ in gen():
            time.sleep(0.05)
        tell(spans()["gen"])
        """,
    )

    assert found["count"] == 1
    assert 6_000_000 <= found["total_ns"] < 100_000_000


def test_a_generator_is_current_in_its_steps_only():
    """Unlike a `with` held over a yield, which stays current in the consumer."""
    found = run(
        "c",
        """
        @traced("gen")
        def gen():
            for _ in range(2):
                yield current()
        seen = []
        with span("consumer"):
            for inside in gen():
                seen += [inside, current()]
        tell([seen, current()])
        """,
    )

    assert found == [["gen", "consumer"] * 2, None]


@BOTH
def test_async_generators_keep_their_protocol(engine):
    """asend, athrow, aclose, exceptions, and early leaving of `async for`."""
    found = run(
        engine,
        """
        import inspect
        log = []
        @traced("agen")
        async def agen(n):
            try:
                got = None
                for i in range(n):
                    await asyncio.sleep(0)
                    try:
                        got = yield (i, got)
                    except KeyError:
                        got = "caught"
                if n == 3:
                    raise OSError
            finally:
                await asyncio.sleep(0)
                log.append("finally")
        assert inspect.isasyncgenfunction(agen)
        async def main():
            assert [x async for x in agen(2)] == [(0, None), (1, None)]
            g = agen(5)
            assert [await g.__anext__(), await g.asend("a"), await g.athrow(KeyError())] == [
                (0, None), (1, "a"), (2, "caught")]
            await g.aclose()
            try:
                async for _ in agen(3): pass
            except OSError:
                pass
        asyncio.run(main())
        tell([spans()["agen"]["count"], spans()["agen"]["errors"], log, current()])
        """,
    )

    assert found == [3, {"OSError": 1}, ["finally"] * 3, None]
