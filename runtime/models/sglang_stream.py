"""The answer of SGLang's `/generate`: its events as chunks of ids, and its errors by name.

Streams may be cumulative (SGLang's default) or incremental; which one it is shows in the counts and needs no
setting. Left out: requests (`runtime.models.sglang`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn

from runtime.models.base import Chunk, FinishReason, ModelError, ModelRefused, StreamCut, Usage
from runtime.models.refusals import refusal, refusal_in_stream

_DONE: Final = b"[DONE]"


class Decoder:
    """Turns the events of one `/generate` stream into the ids that are new, and their end into a finish."""

    def __init__(self, url: str, end: int, stops: Sequence[int]) -> None:
        self.count = 0  # ids handed out
        self.ended = False  # the server has said that the request is over
        self.error: ModelError | None = None  # what came behind the last chunk
        self._last = -1  # the last of them
        self._url = url
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
                    reason = self._finish(finish)
                    return Chunk(tuple(self._ended([*new, *ids], finish)), reason, usage)
                new += ids
        except ModelError as error:
            self.error = error
        return Chunk(tuple(new), None, usage) if new else None

    def close(self) -> None:
        """Nothing is held back until the end of the stream."""

    def _needed(self, events: list[bytes]) -> list[bytes]:
        """The events of a read without those whose ids a later one repeats; broken ones stay to be reported."""
        try:
            last = json.loads(events[-1].decode())
            whole = len(last["output_ids"]) >= last["meta_info"]["completion_tokens"]
        except (ValueError, KeyError, TypeError):
            return events[-2:] if self._cumulative else events
        return events[-1:] if whole else events

    def _read(self, data: bytes) -> tuple[list[int], dict[str, Any] | None, Usage]:
        event = self._parse(data)
        try:
            meta = event["meta_info"]
            finish, total = meta["finish_reason"], meta["completion_tokens"]
            self._usage = self._counted(meta, total)
            return self._new_ids(event["output_ids"], total), finish, self._usage
        except (KeyError, TypeError, AttributeError) as error:
            self._no_protocol(data, error)

    def _counted(self, meta: dict[str, Any], total: int) -> Usage:
        """The counts of an event. One that ends a request outside of the model's own loop has hardly any."""
        if "prompt_tokens" not in meta:
            return replace(self._usage, completion_tokens=total)
        cached, details = meta.get("cached_tokens") or 0, meta.get("cached_tokens_details")
        fetched = max(0, cached - details.get("device", cached)) if details else 0
        return Usage(
            meta["prompt_tokens"],
            cached,
            total,
            meta.get("reasoning_tokens") or 0,
            fetched_tokens=fetched,
        )

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            event = json.loads(data.decode())
        except ValueError as error:
            self._no_protocol(data, error)
        if not isinstance(event, dict):
            self._no_protocol(data, None)
        if "error" in event:
            self.ended = True
            raise refusal_in_stream(self._url, event)
        return event

    def _new_ids(self, ids: list[int], total: int) -> list[int]:
        """The ids not handed out yet. `total` counts all that were written, in either way of streaming.

        A cumulative event may already hold more than `total`; an incremental one may repeat its last id at an
        abort.
        """
        known = self.count
        if known == 0:
            new = ids
        elif len(ids) >= total or self._cumulative:
            self._cumulative = True
            new = ids[known:]
        elif known + len(ids) >= total:
            new = ids[known + len(ids) - total :]
        else:
            raise StreamCut(f"{self._url} left out {total - known - len(ids)} tokens of the stream.")
        self.count = known + len(new)
        if new:
            self._last = new[-1]
        return new

    def _finish(self, finish: dict[str, Any]) -> FinishReason:
        status = finish.get("status_code")
        if finish["type"] == "abort" and isinstance(status, int) and status >= 400:
            raise refusal(self._url, status, str(finish.get("message")))
        return FinishReason(finish["type"])

    def _ended(self, new: list[int], finish: dict[str, Any]) -> list[int]:
        """The last ids, with `<|im_end|>` as the end of a turn that was stopped."""
        if finish["type"] != "stop" or self._last == self._end:
            return new
        return [*(new[:-1] if new and new[-1] in self._stops else new), self._end]

    def _no_protocol(self, data: bytes, error: Exception | None) -> NoReturn:
        shown = data[:200].decode(errors="replace")
        raise ModelRefused(
            f"{self._url} doesn't answer /generate as SGLang does: {shown!r}. Check that the URL is that of an "
            "SGLang server of version 0.5 or later, and that nothing in between changes the stream."
        ) from error
