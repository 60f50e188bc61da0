"""One answer of the scripted server on its way out: its pace, its faults, and the events of `/generate`.

What is left out: choosing the turn (`scripted_engine`) and routes (`scripted`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from runtime.models.http_server import Exchange, HttpError
from runtime.models.script_file import FaultKind
from runtime.models.scripted_engine import Answer, Prompt

BROKEN_JSON: Final = '{"text": "this event ends too earl'
_BREAKS: Final = (FaultKind.CUT, FaultKind.GARBAGE, FaultKind.EMPTY, FaultKind.ABORT)
_YIELD_EVERY: Final = 8  # tokens sent without giving other requests a turn


class Outcome(StrEnum):
    RUNNING = "running"
    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"  # asked for by `/abort_request`
    GONE = "gone"  # the client went away
    FAULT = "fault"  # the script's fault ended it
    REFUSED = "refused"  # an HTTP error


@dataclass(slots=True)
class ServedRequest:
    """One request for a turn as the server saw it, for a test's assertions."""

    path: str
    rid: str
    body: dict[str, Any]  # without `input_ids`
    prompt_ids: Sequence[int] = ()
    turn: int | None = None
    cached_tokens: int = 0
    written: int = 0  # tokens sent
    fault: FaultKind | None = None
    outcome: Outcome = Outcome.RUNNING
    error: str = ""


@dataclass(slots=True)
class Delivery:
    """One answer on its way: the request's record, what to send, and whom to send it to."""

    served: ServedRequest
    exchange: Exchange
    prompt: Prompt
    answer: Answer
    delay: float
    aborted: bool = False
    _stalled: bool = field(default=False)

    @property
    def length(self) -> int:
        return len(self.answer.tokens.ids)

    @property
    def breaks(self) -> bool:
        """A fault ends the answer, at its last token at the latest, and no finish reason is sent."""
        return self.served.fault in _BREAKS

    async def pace(self) -> Outcome | None:
        """Wait until the next token is due. None: send it; else why the answer ends here."""
        fault = self.answer.fault
        sent = self.served.written
        delay = self.delay
        if fault is not None:
            if self.breaks and sent >= min(fault.tokens, self.length):
                return Outcome.FAULT
            if fault.kind is FaultKind.SLOW:
                delay = fault.seconds
            elif fault.kind is FaultKind.STALL and sent >= fault.tokens and not self._stalled:
                self._stalled = True
                await self._wait(fault.seconds)
        if delay:
            await self._wait(delay)
        elif sent % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
        if self.exchange.gone:
            return Outcome.GONE
        return Outcome.ABORT if self.aborted else None

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.exchange.interrupted.wait()
        except TimeoutError:
            pass

    async def write_all(self) -> Outcome | None:
        """Let the time pass that writing the answer takes; why it ended before its finish, if it did."""
        while self.served.written < self.length or self.breaks:
            outcome = await self.pace()
            if outcome is not None:
                return outcome
            self.served.written += 1
        return None

    async def send_fault(self) -> None:
        """End an answer that isn't streamed as its fault says. Raises `HttpError` for the server's own abort."""
        if self.answer.fault is not None and self.answer.fault.kind is FaultKind.ABORT:
            raise HttpError(self.answer.fault.status, self.answer.fault.message)
        if self.served.fault is FaultKind.CUT:
            await self.exchange.cut()
        else:
            body = BROKEN_JSON if self.served.fault is FaultKind.GARBAGE else ""
            await self.exchange.raw(body.encode(), kind="application/json")

    def finish(self, outcome: Outcome | None) -> dict[str, Any]:
        """SGLang's `finish_reason` for the end that it came to."""
        if outcome is Outcome.ABORT:
            return {"type": "abort", "message": "Aborted", "status_code": None, "err_type": None}
        return self.answer.finish

    def abort(self) -> dict[str, Any]:
        """SGLang's `finish_reason` where the scheduler gives a request up for a reason of its own."""
        fault = self.answer.fault
        assert fault is not None
        return {"type": "abort", "status_code": fault.status, "message": fault.message}


class GenerateEvents:
    """Builds the JSON of `/generate` piece by piece; every token is turned into JSON once, however often it is sent."""

    def __init__(
        self, delivery: Delivery, *, incremental: bool, with_end: bool, thinking_ends: int | None = None
    ) -> None:
        """`thinking_ends` is the id of `</think>` where the tokens of thinking are to be counted."""
        self._delivery = delivery
        self._incremental = incremental
        answer = delivery.answer
        stops = answer.finish["type"] == "stop"
        self._ids = list(map(str, answer.tokens.ids))
        self._pieces = list(answer.tokens.pieces)
        if stops and not with_end and self._pieces:
            self._pieces[-1] = ""
        self._from = 0
        details = {"device": answer.cached_tokens, "host": 0}
        self._head = f'"id":{json.dumps(delivery.served.rid)},"prompt_tokens":{answer.prompt_tokens},'
        ids = answer.tokens.ids
        self._thinking = 0 if thinking_ends is None else len(ids)
        if thinking_ends in ids:
            self._thinking = ids.index(thinking_ends) + 1
        self._tail = (
            '"weight_version":"default","num_retractions":0,'
            f'"cached_tokens":{answer.cached_tokens},"cached_tokens_details":{json.dumps(details)}'
        )

    def next(self, finish: dict[str, Any] | None) -> str:
        """The answer up to the tokens written by now, or what is new since the last event."""
        written = self._delivery.served.written
        part = slice(self._from if self._incremental else 0, written)
        self._from = written
        return (
            f'{{"text":"{"".join(self._pieces[part])}","output_ids":[{",".join(self._ids[part])}],'
            f'"meta_info":{{{self._head}"finish_reason":{json.dumps(finish)},'
            f'"completion_tokens":{written},"reasoning_tokens":{min(written, self._thinking)},{self._tail}}}}}'
        )

    def aborted(self, finish: dict[str, Any]) -> str:
        """The last event where the scheduler gave up outside of the model's loop: hardly any counts are in it."""
        written = self._delivery.served.written
        meta = {
            "id": self._delivery.served.rid,
            "finish_reason": finish,
            "weight_version": "default",
            "e2e_latency": 0.0,
            "completion_tokens": written,
        }
        first = max(0, written - 1) if self._incremental else 0
        text = "".join(self._pieces[:written])
        ids = ",".join(self._ids[first:written])
        return f'{{"text":"{text}","output_ids":[{ids}],"meta_info":{json.dumps(meta)}}}'
