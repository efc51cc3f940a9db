"""@traced: what becomes of functions, coroutines and generators."""

from __future__ import annotations

from tracekit.probe._engine import Kind, Steps, Traced

TYPE_CHECKING = False  # typing itself would be half of the import
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from typing import Any, TypeVar, overload

    Function = TypeVar("Function")

    @overload
    def traced(target: str | Kind, /) -> Callable[[Function], Function]: ...
    @overload
    def traced(target: Function, /) -> Function: ...
    def traced(target: Any, /) -> Any: ...

else:

    def traced(target, /):
        """
        Make every call of a function a span: `@traced`, `@traced("name")` or `@traced(KIND)`.

        Plain functions, methods, classmethods and staticmethods, `async def` (stays a coroutine
        function), generators and async generators. Without a name it is that of the module and the
        function, less as many of the first packages as do not fit.

        The span of a generator is current only while it runs, and its latency is the sum of its steps.

        Raises:
            TypeError: the target is a class, or cannot be called.
        """
        if isinstance(target, (str, Kind)):
            return lambda function: _trace(function, target)
        return _trace(target, None)


NAME_BYTES = 64
"""As in _layout, which would be another import, of struct too."""

# Of code objects, as inspect has them; that would be a heavy import.
GENERATOR, COROUTINE, ITERABLE_COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200


def _trace(function: Any, name: str | Kind | None) -> Any:
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(_trace(function.__func__, name))
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"@traced is for functions, not for {function!r}")
    kind = name if isinstance(name, Kind) else Kind(name or _name_of(function))

    from functools import update_wrapper  # noqa: PLC0415 - not in a process that traces no function

    return update_wrapper(_wrap(kind, function), function)


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    name = f"{getattr(function, '__module__', None) or '?'}.{name}"
    while len(name.encode("utf-8", "backslashreplace")) >= NAME_BYTES and "." in name:
        name = name.split(".", 1)[1]
    return name


def _wrap(kind: Kind, function: Any) -> Any:
    flags = _code_flags(function)
    if flags & (COROUTINE | ITERABLE_COROUTINE):
        return _trace_coroutine(kind, function)
    if flags & ASYNC_GENERATOR:
        return _trace_async_generator(kind, function)
    if flags & GENERATOR:
        return _trace_generator(kind, function)
    return Traced(kind, function)


def _code_flags(function: Any) -> int:
    while not hasattr(function, "__code__") and hasattr(function, "func"):  # functools.partial
        function = function.func
    code = getattr(function, "__code__", None)
    return code.co_flags if code else 0


def _trace_coroutine(kind: Kind, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with kind():
            return await function(*args, **kwargs)

    return call


def _trace_generator(
    kind: Kind, function: Callable[..., Generator[Any, Any, Any]]
) -> Callable[..., Generator[Any, Any, Any]]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator, steps = function(*args, **kwargs), Steps(kind)
        try:
            with steps:
                item = next(generator)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:  # noqa: PERF203 - as `yield from` does
                    with steps:
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's own
                    with steps:
                        item = generator.throw(error)
                else:
                    with steps:
                        item = generator.send(sent)
        except StopIteration as end:
            return end.value
        finally:
            steps.end()

    return call


def _trace_async_generator(
    kind: Kind, function: Callable[..., AsyncGenerator[Any, Any]]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator, steps = function(*args, **kwargs), Steps(kind)
        try:
            with steps:
                item = await generator.__anext__()
            while True:
                try:
                    sent = yield item
                except GeneratorExit:  # noqa: PERF203 - as `yield from` does
                    with steps:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's own
                    with steps:
                        item = await generator.athrow(error)
                else:
                    with steps:
                        item = await generator.asend(sent)
        except StopAsyncIteration:
            return
        finally:
            steps.end()

    return call
