"""The answer of SGLang's `/generate`: its events as chunks of ids, and its errors by name.

Streams may be cumulative (SGLang's default) or incremental; which one it is shows in the counts and needs no
setting. Left out: requests (`runtime.models.sglang`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from runtime.models.base import Chunk, FinishReason, ModelError, ModelRefused, StreamCut, Usage
from runtime.models.checked import checked_ids, count, fields, parse_object
from runtime.models.refusals import Host

_DONE: Final = b"[DONE]"
_FINISHES: Final = {finish.value: finish for finish in FinishReason}


class Decoder:
    """Turns the events of one `/generate` stream into the ids that are new, and their end into a finish."""

    def __init__(self, host: Host, end: int, stops: Sequence[int]) -> None:
        self.count = 0  # ids handed out
        self.ended = False  # the server has said that the request is over
        self.error: ModelError | None = None  # what came behind the last chunk
        self._last = -1  # the last of them
        self._host = host
        self._end = end
        self._stops = stops
        self._cumulative = False
        self._usage = Usage()

    def feed(self, events: list[bytes]) -> Chunk | None:
        """One chunk for all the events of a read. None: nothing new. Sets `error` when the stream is broken."""
        if events and events[-1] == _DONE:
            events.pop()
        if len(events) > 1:
            events = self._needed(events)
        new: list[int] = []
        usage = Usage()
        try:
            for data in events:
                ids, finish, usage = self._read(data)
                if finish is not None:
                    self.ended = True
                    # What comes with a failure isn't taken: SGLang lets a request that it refuses write a token.
                    reason = self._finish(finish, data)
                    return Chunk(tuple(self._ended([*new, *ids], reason)), reason, usage)
                new += ids
        except ModelError as error:
            self.error = error
        return Chunk(tuple(new), None, usage) if new else None

    def close(self) -> None:
        """Nothing is held back until the end of the stream."""

    def no_protocol(self, data: bytes) -> ModelRefused:
        return ModelRefused(
            f"{self._host.url} doesn't answer /generate as SGLang does: {self._host.beginning(data)!r}. Check that the "
            "URL is that of an SGLang server of version 0.5 or later, and that nothing in between changes the stream."
        )

    def _needed(self, events: list[bytes]) -> list[bytes]:
        """The events of a read without those whose ids a later one repeats; broken ones stay to be reported."""
        try:
            last = json.loads(events[-1].decode())
            whole = len(last["output_ids"]) >= last["meta_info"]["completion_tokens"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return events[-2:] if self._cumulative else events
        return events[-1:] if whole else events

    def _read(self, data: bytes) -> tuple[list[int], Mapping[str, Any] | None, Usage]:
        event = self._parse(data)
        try:
            meta = event["meta_info"]
            finish, total = meta["finish_reason"], meta["completion_tokens"]
            if type(total) is not int or not (finish is None or isinstance(finish, dict)):
                raise TypeError("the counts or the finish are of another kind")
            self._usage = self._counted(meta, total)
            return self._new_ids(event["output_ids"], total), finish, self._usage
        except (KeyError, TypeError, ValueError) as error:
            raise self.no_protocol(data) from error

    def _counted(self, meta: Mapping[str, Any], total: int) -> Usage:
        """The counts of an event. One that ends a request outside of the model's own loop has hardly any."""
        if "prompt_tokens" not in meta:
            return replace(self._usage, completion_tokens=count(total))
        cached, details = count(meta.get("cached_tokens")), fields(meta.get("cached_tokens_details"))
        fetched = max(0, cached - count(details["device"])) if "device" in details else 0
        return Usage(
            count(meta["prompt_tokens"]),
            cached,
            count(total),
            count(meta.get("reasoning_tokens")),
            fetched_tokens=fetched,
        )

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            event = parse_object(data)
        except ValueError as error:
            raise self.no_protocol(data) from error
        if "error" in event:
            self.ended = True
            raise self._host.failed(event["error"], 400)
        return event

    def _new_ids(self, ids: list[int], total: int) -> list[int]:
        """The ids not handed out yet. `total` counts all that were written, in either way of streaming.

        A cumulative event may already hold more than `total`; an incremental one may repeat its last id at an
        abort.
        """
        if type(ids) is not list:
            raise TypeError("the ids are no list")
        known = self.count
        if known == 0:
            new = ids
        elif len(ids) >= total or self._cumulative:
            self._cumulative = True
            new = ids[known:]
        elif known + len(ids) >= total:
            new = ids[known + len(ids) - total :]
        else:
            raise StreamCut(f"{self._host.url} left out {total - known - len(ids)} tokens of the stream.")
        checked_ids(new)
        self.count = known + len(new)
        if new:
            self._last = new[-1]
        return new

    def _finish(self, finish: Mapping[str, Any], data: bytes) -> FinishReason:
        kind, status = finish.get("type"), finish.get("status_code")
        if kind == "abort" and isinstance(status, int) and status >= 400:
            raise self._host.refusal(status, str(finish.get("message")))
        reason = _FINISHES.get(kind) if isinstance(kind, str) else None
        if reason is None:
            raise self.no_protocol(data)
        return reason

    def _ended(self, new: list[int], finish: FinishReason) -> list[int]:
        """The last ids, with `<|im_end|>` as the end of a turn that was stopped."""
        if finish is not FinishReason.STOP or self._last == self._end:
            return new
        return [*(new[:-1] if new and new[-1] in self._stops else new), self._end]
