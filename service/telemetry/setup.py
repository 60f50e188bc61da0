"""Whether spans go anywhere: the SDK and its OTLP exporter, loaded only where OpenTelemetry's variables name a target.

Ids of spans are ours to choose (`service.telemetry.ids`), so the generator gives what was asked for last in this
context. Left out: which spans there are (`service.telemetry.traces`).
"""

from __future__ import annotations

import importlib.metadata
import logging
import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from service.telemetry.logs import tell

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

CHOSEN: Final[ContextVar[tuple[int, int] | None]] = ContextVar("telemetry_span_ids", default=None)
"""Trace and span id of the span that is made next in this context."""
_TARGETS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Exporting:
    """A tracer whose spans are sent. `sampled` says of a trace's id whether they are; `close` sends what is left."""

    def __init__(self, tracer: Tracer, sampled: Callable[[int], bool], close: Callable[[], None]) -> None:
        self.tracer, self.sampled, self.close = tracer, sampled, close


def exporting(environment: Mapping[str, str], part: str) -> Exporting | None:
    """None where no target is named or the extra isn't installed. `part`: of the service, web or work."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(environment.get, _TARGETS)):
        return None
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("", "otlp"):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import IdGenerator
        from opentelemetry.sdk.trace.sampling import Decision
    except ImportError as error:
        words = f"no spans are sent, for a package is missing ({error}): pip install 'patchwright[telemetry]'"
        tell(logging.WARNING, "telemetry missing", words)
        return None

    class Ids(IdGenerator):
        def generate_trace_id(self) -> int:
            chosen = CHOSEN.get()
            return chosen[0] if chosen else random.getrandbits(128) or 1

        def generate_span_id(self) -> int:
            chosen = CHOSEN.get()
            return chosen[1] if chosen else random.getrandbits(64) or 1

    version = importlib.metadata.version("patchwright")
    named = {"service.name": environment.get("OTEL_SERVICE_NAME") or f"patchwright-{part}", "service.version": version}
    provider = TracerProvider(resource=Resource.create(named), id_generator=Ids(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def sampled(trace: int) -> bool:
        return provider.sampler.should_sample(None, trace, "request").decision is Decision.RECORD_AND_SAMPLE

    return Exporting(provider.get_tracer("patchwright", version), sampled, provider.shutdown)
