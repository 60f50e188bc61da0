"""What the scripted server's kinds that take token ids have in common: one answer, streamed in deltas or whole.

Each kind gives the shape of its events (`Shape`). Left out: SGLang's `/generate`, which streams cumulatively too
(`scripted_sglang`).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from runtime.models.http_server import HttpError
from runtime.models.script_file import FaultKind
from runtime.models.scripted_delivery import BROKEN_JSON, Delivery, Outcome, ServedRequest

if TYPE_CHECKING:
    from runtime.models.http_server import Exchange
    from runtime.models.scripted import ScriptedServer


class Shape(Protocol):
    """How one kind of server writes one answer down."""

    def events(self, start: int, stop: int) -> list[str]:
        """The data of the events for the tokens from `start` to `stop`, which end the answer when it has no more."""
        ...

    def whole(self, finish: str) -> dict[str, Any]:
        """The body of an answer that isn't streamed."""
        ...


def ids_of(body: dict[str, Any]) -> array[int]:
    """The ids in `prompt`, taken out of the body. Raises `HttpError`."""
    try:
        return array("i", body.pop("prompt", None))
    except (TypeError, OverflowError) as error:
        raise HttpError(400, f"`prompt` must be one list of token ids here ({error}).") from error


async def serve(
    server: ScriptedServer,
    exchange: Exchange,
    served: ServedRequest,
    limit: int,
    shape_of: Callable[[Delivery], Shape],
) -> None:
    """Answer one request whose `served.prompt_ids` are known. Raises `HttpError` for one that can't be served."""
    try:
        prompt = server.engine.read(served.prompt_ids)
        delivery = server.deliver(exchange, prompt, server.engine.answer(prompt, limit), served)
    except HttpError as error:
        server.refused(served, error)
        raise
    outcome = Outcome.GONE
    try:
        send = _stream if served.body.get("stream") else _whole
        outcome = await send(delivery, shape_of(delivery), server.stream_interval)
    finally:
        server.done(delivery, outcome)


async def _stream(delivery: Delivery, shape: Shape, interval: int) -> Outcome:
    exchange, served = delivery.exchange, delivery.served
    exchange.start_events()
    while served.written < delivery.length:
        outcome = await delivery.pace()
        if outcome is not None:
            return await _end_early(delivery, outcome)
        start = served.written
        served.written = min(start + interval, delivery.length)
        events = shape.events(start, served.written)
        if served.written == delivery.length and delivery.breaks:
            return await _end_early(delivery, Outcome.FAULT)
        for event in events:
            exchange.event(event)
        await exchange.drain()
    await exchange.end_events()
    return Outcome(delivery.answer.finish["type"])


async def _end_early(delivery: Delivery, outcome: Outcome) -> Outcome:
    exchange, fault = delivery.exchange, delivery.answer.fault
    if outcome is Outcome.GONE or fault is None:
        return outcome
    if fault.kind is FaultKind.CUT:
        await exchange.cut()
        return outcome
    if fault.kind is FaultKind.GARBAGE:
        exchange.event(BROKEN_JSON)
    if fault.kind is FaultKind.ABORT:
        exchange.event(json.dumps({"error": {"message": fault.message, "type": "error", "code": fault.status}}))
    await exchange.end_events()
    return outcome


async def _whole(delivery: Delivery, shape: Shape, _: int) -> Outcome:
    outcome = await delivery.write_all()
    if outcome is Outcome.GONE:
        return outcome
    if outcome is Outcome.FAULT:
        await delivery.send_fault()
        return outcome
    finish = str(delivery.finish(outcome)["type"])
    await delivery.exchange.json(shape.whole(finish))
    return Outcome(finish)
