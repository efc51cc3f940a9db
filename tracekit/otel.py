"""
OpenTelemetry: the spans of an instrumented program become tracekit's.

    provider = TracerProvider(sampler=AlwaysRecord(ParentBased(TraceIdRatioBased(0.01))))
    provider.add_span_processor(tracekit.otel.SpanProcessor())

Needs opentelemetry-sdk (`pip install tracekit[otel]`) in the program's environment.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import StatusCode

from tracekit.auto import db
from tracekit.auto.outermost import ENDED, QUERIES
from tracekit.probe import Kind, counter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context

    from tracekit.auto.outermost import Call
    from tracekit.probe import Span

__all__ = ["AlwaysRecord", "SpanProcessor"]

Name = tuple[str, tuple[tuple[str, str], ...]]
"""Of a span, and its labels."""

_OPERATIONS = {
    "create_agent": "agent.spawn",
    "invoke_agent": "agent.invoke",
    "execute_tool": "tool.call",
    "evaluate": "evaluation",
    "evaluation": "evaluation",
}
"""gen_ai.operation.name → span (semantic-conventions-genai, gen-ai-agent-spans.md and execute-tool.md)."""

_DRIVERS = {
    "aiopg": "postgresql",
    "asyncpg": "postgresql",
    "mysql": "mysql",
    "mysqlclient": "mysql",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pymongo": "mongodb",
    "pymysql": "mysql",
    "redis": "redis",
    "sqlite3": "sqlite",
}
"""Instrumentations that name the database only when the span has begun: `opentelemetry.instrumentation.<key>`."""

_RESULT = "gen_ai.evaluation.result"
_LONGEST = 60
_MOST_NAMES = 128
"""Half of what the probe has room for: a name for each request must not take it from the program's own spans."""


class SpanProcessor(sdk.SpanProcessor):  # type: ignore[misc,unused-ignore] # a linter may run without the SDK
    """
    Opens a tracekit span where an OpenTelemetry span starts, and ends it where that ends.

    Its latency is measured by the probe. Where a span ends may be another thread or Context. One
    that never ends is dropped with the object that the program holds. Of queries that are made of
    queries, also of those that `tracekit run --auto` names, only the outermost counts.

    Args:
        most_names: distinct names with labels; all others are the span `<other>`.
    """

    def __init__(self, most_names: int = _MOST_NAMES) -> None:
        self._most = most_names
        self._kinds: dict[Name, Kind] = {}
        self._other = Kind("<other>")
        self._classes: dict[str, type[BaseException]] = {}
        self._open: WeakValueDictionary[int, _Open] = WeakValueDictionary()
        self._lock = threading.Lock()

    def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Open a span of the current Context."""
        name = name_of(span)
        query = name[0] == db.SPAN
        if query and QUERIES.inside():
            return
        opened = _Open(self._kind(name)(), QUERIES.begin() if query else None)
        span._tracekit = opened  # type: ignore[attr-defined,unused-ignore] # noqa: SLF001 - lives as long as the span does
        self._open[span.get_span_context().span_id] = opened
        opened.span.__enter__()

    def on_end(self, span: sdk.ReadableSpan) -> None:
        """Close it: failed, if the status says so."""
        context = span.get_span_context()
        opened = self._open.pop(context.span_id, None) if context else None
        if opened is None:  # part of another query, or older than this processor
            return
        failure = span.status.status_code is StatusCode.ERROR
        error = self._class(_error(span)) if failure else None
        if failure and not error:
            opened.span.fail()
        opened.span.__exit__(error, None, None)
        opened.end_call()
        for event in span.events:
            if event.name == _RESULT:
                _count_result(event.attributes or {})

    def _kind(self, name: Name) -> Kind:
        kind = self._kinds.get(name)
        if kind is not None:
            return kind
        with self._lock:
            if len(self._kinds) >= self._most:
                return self._other
            return self._kinds.setdefault(name, Kind(name[0], **dict(name[1])))

    def _class(self, name: str) -> type[BaseException] | None:
        """Return an exception of this name, by which the probe counts errors; None if there is no name or no room."""
        if name and name not in self._classes and len(self._classes) < self._most:
            self._classes[name] = type(name, (Exception,), {})
        return self._classes.get(name)


class _Open:
    """A tracekit span that an OpenTelemetry span holds."""

    __slots__ = ("__weakref__", "_call", "span")

    def __init__(self, span: Span, call: Call | None) -> None:
        self.span = span
        self._call = call

    def end_call(self) -> None:
        """Let the next query of the Context count."""
        if self._call:
            self._call[0] = ENDED

    __del__ = end_call


def name_of(span: sdk.ReadableSpan) -> Name:
    """Return what tracekit calls *span*, by what is known when it starts."""
    attributes = span.attributes or {}
    operation = _OPERATIONS.get(str(attributes.get("gen_ai.operation.name")))
    if operation == "tool.call":
        return operation, _labels(tool=attributes.get("gen_ai.tool.name"))
    if operation == "evaluation" or "gen_ai.evaluation.name" in attributes:
        return "evaluation", _labels(evaluation=attributes.get("gen_ai.evaluation.name"))
    if operation:
        return operation, ()
    system = attributes.get("db.system.name") or attributes.get("db.system") or _driver(span)
    if system:
        return db.SPAN, _labels(system=system)
    return _short(span.name) or "<unnamed>", ()


def _driver(span: sdk.ReadableSpan) -> str | None:
    scope = span.instrumentation_scope
    return _DRIVERS.get(scope.name.removeprefix("opentelemetry.instrumentation.")) if scope else None


def _error(span: sdk.ReadableSpan) -> str:
    """Return the type of its error, without the module: what it was told, else its last exception; "" if neither."""
    recorded = [event.attributes or {} for event in span.events if event.name == "exception"]
    told = (span.attributes or {}).get("error.type") or (recorded[-1].get("exception.type") if recorded else None)
    return _short(str(told or "")).rpartition(".")[2]


def _count_result(attributes: Mapping[str, Any]) -> None:
    """Count a result: it is an event, without a length of its own."""
    name, result = attributes.get("gen_ai.evaluation.name"), attributes.get("gen_ai.evaluation.score.label")
    counter("evaluation.results", **dict(_labels(evaluation=name, result=result))).add()


def _labels(**values: object) -> tuple[tuple[str, str], ...]:
    return tuple((name, _short(str(value))) for name, value in sorted(values.items()) if value is not None)


def _short(text: str) -> str:
    """Cut what a user may have written to what a label holds, on one line."""
    return " ".join(text.replace("\0", " ").split()).encode(errors="replace")[:_LONGEST].decode(errors="ignore")


class AlwaysRecord(Sampler):  # type: ignore[misc,unused-ignore]
    """
    Records what *root* would drop, and leaves to it what is exported.

    The SDK shows its processors only spans that are recorded: with a sampler that keeps 1 %, 99 % of
    the work would have no span. Recording costs what OpenTelemetry's spans cost.
    """

    def __init__(self, root: Sampler) -> None:
        self._root = root

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        """Ask the root; make DROP a RECORD_ONLY."""
        result = self._root.should_sample(*args, **kwargs)
        if result.decision is not Decision.DROP:
            return result
        attributes = kwargs.get("attributes") or (args[4] if len(args) > 4 else None) or result.attributes
        return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)

    def get_description(self) -> str:
        """Name both."""
        return f"AlwaysRecord{{{self._root.get_description()}}}"
