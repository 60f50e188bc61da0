"""Spans of a request: its delivery, its dispatch, the work on it, requests to the forge, and its run.

A request's trace has an id made of the request's, so the web process, the dispatcher and workers on other machines
write to one trace without telling each other. No span holds text of people, repositories or models, unless the
standard variable for that is set. Without a target nothing is made at all. Left out: the run's own spans
(`service.telemetry.run_spans`), and sending (`service.telemetry.setup`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from service.telemetry import genai
from service.telemetry.ids import span_id, trace_id
from service.telemetry.logs import what
from service.telemetry.redaction import Redactor
from service.telemetry.routes import route
from service.telemetry.setup import CHOSEN, Exporting, exporting

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from agent.forges.github.client import Exchange

Value = str | int | float | bool | list[str]
_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it is told. Times in seconds since the epoch; `key` makes its id, `parent` that of its parent."""

    key: tuple[object, ...]
    parent: tuple[object, ...] | None
    name: str
    started: float
    ended: float
    kind: str = INTERNAL
    attributes: Mapping[str, Value | None] = field(default_factory=dict)
    error: str = ""  # its type; empty: none


class Traces:
    """Of a process. `content`: whether texts of runs may be in spans."""

    def __init__(self, to: Exporting | None, redact: Redactor, *, content: bool = False) -> None:
        self._to, self.redact, self.content = to, redact, content

    @classmethod
    def open(cls, environment: Mapping[str, str], part: str, redact: Redactor) -> Traces:
        content = environment.get(_CAPTURE, "").strip().lower() == "true"
        return cls(exporting(environment, part), redact, content=content)

    @property
    def on(self) -> bool:
        return self._to is not None

    def close(self) -> None:
        """Sends what is left; a target that doesn't answer is waited for some seconds."""
        if self._to is not None:
            self._to.close()

    def tell(self, request: str, span: Span) -> None:
        """Make a span of a request's trace."""
        if self._to is None:
            return
        trace = int(trace_id(request), 16)
        if not self._to.sampled(trace):
            return
        from opentelemetry.trace import SpanKind, StatusCode

        context = _below(trace, span.parent)
        token = CHOSEN.set((trace, int(span_id(*span.key), 16)))
        try:
            made = self._to.tracer.start_span(
                span.name, context, SpanKind[span.kind], self._attributes(span), start_time=_nanoseconds(span.started)
            )
        finally:
            CHOSEN.reset(token)
        if span.error:
            made.set_status(StatusCode.ERROR, self.redact(span.error))
        made.end(_nanoseconds(max(span.started, span.ended)))

    def _attributes(self, span: Span) -> dict[str, Any]:
        found = {name: value for name, value in span.attributes.items() if value is not None}
        if span.error:
            found[genai.ERROR_TYPE] = span.error
        return {name: self.redact(value) if isinstance(value, str) else value for name, value in found.items()}

    def delivery(self, request: str, guid: str, event: str, outcome: str, started: float, ended: float) -> None:
        """The delivery that made a request is its trace's first span; others of the same are below it."""
        first = ("webhook", request)
        made_it = outcome in ("new", "stale")
        attributes = {"patchwright.event": event, "patchwright.outcome": outcome, "patchwright.request": request}
        key: tuple[object, ...] = first if made_it else ("webhook", request, guid)
        parent = None if made_it else first
        self.tell(request, Span(key, parent, f"webhook {event}", started, ended, SERVER, attributes))

    def exchange(self, one: Exchange) -> None:
        """A request to the forge, below what is being worked on; what isn't about a request has no span."""
        request = what().get("request", "")
        if not self.on or not request:
            return
        template = route(one.path)
        attributes: dict[str, Value | None] = {
            genai.HTTP_METHOD: one.method,
            genai.URL_TEMPLATE: template,
            genai.HTTP_STATUS: one.status,
        }
        failed = one.status is None or one.status >= 400
        error = ("no answer" if one.status is None else str(one.status)) if failed else ""
        key = ("forge", request, one.method, one.path, one.started)
        span = Span(
            key, ("work", request), f"{one.method} {template}", one.started, one.started + one.seconds, CLIENT,
            attributes, error,
        )  # fmt: skip
        self.tell(request, span)


def _below(trace: int, parent: tuple[object, ...] | None) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if parent is None:
        return Context()  # whatever this process does otherwise is no parent of ours
    above = SpanContext(trace, int(span_id(*parent), 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(above), Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
