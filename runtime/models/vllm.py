"""vLLM's `/v1/completions` with a prompt of token ids and `return_token_ids`, streamed.

The prompt goes out as the bytes that the transcript keeps. Left out: pictures (the endpoint takes none), retries
(`retry`), finding out about a server (`connect`). Read from the shapes of vLLM 0.32.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    Feature,
    FinishReason,
    HostFacts,
    ModelError,
    ModelRefused,
    RequestOptions,
    Sampling,
    Usage,
)
from runtime.models.checked import checked_ids, count, fields, parse_object
from runtime.models.refusals import Host
from runtime.models.token_host import IDLE_SECONDS, TokenHost

if TYPE_CHECKING:
    from runtime.ids import Ids
    from runtime.tokenizer import Tokenizer

PATH: Final = "/v1/completions"
_DONE: Final = b"[DONE]"


class VLLMModel(TokenHost):
    """One vLLM server. Safe for concurrent `stream` calls.

    `served` is the model's name in requests, where it differs from `name`. A turn that the model ended with
    `<|endoftext|>` is handed on with `<|im_end|>` in its place.
    """

    def __init__(
        self,
        url: str,
        tokenizer: Tokenizer,
        *,
        name: str,
        context_length: int,
        served: str | None = None,
        idle_timeout: float = IDLE_SECONDS,
        api_key: str | None = None,
        facts: HostFacts | None = None,
    ) -> None:
        super().__init__(
            url,
            tokenizer,
            name=name,
            context_length=context_length,
            facts=facts or HostFacts("vllm"),
            idle_timeout=idle_timeout,
            api_key=api_key,
        )
        self._served = served or name

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncGenerator[Chunk, None]:
        """Generate after `ids`; `max_new_tokens` is lowered to what the context has room for.

        Raises a `ModelError`. An idle stream ends in `StreamCut`; there is no limit to the whole.
        """
        room = self._room(len(ids))
        decoder = VLLMDecoder(self._host, self._end, self._stops, len(ids))
        async with aclosing(self._chunks(PATH, self._body(ids, sampling, room, options), decoder)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _body(self, ids: Ids, sampling: Sampling, room: int, options: RequestOptions) -> bytes:
        fields: dict[str, Any] = {
            "model": self._served,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "presence_penalty": sampling.presence_penalty,
            "repetition_penalty": sampling.repetition_penalty,
            "max_tokens": min(sampling.max_new_tokens, room),
            "stop_token_ids": self._stops,
            "skip_special_tokens": False,
            "return_token_ids": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.seed is not None:
            fields["seed"] = sampling.seed
        if options.priority and Feature.PRIORITY in self._facts.features:
            fields["priority"] = -options.priority  # vLLM takes the lowest first
        if options.constrain_to and Feature.CONSTRAINED in self._facts.features:
            fields["structured_outputs"] = {"structural_tag": self._tag_for(options.constrain_to)}
        rest = json.dumps(fields).encode()
        return b"".join((b'{"prompt":', *ids.json_parts(), b",", rest[1:]))  # megabytes: copied once


class VLLMDecoder:
    """Turns the events of one stream into ids. The last ids are held back until the counts come behind them."""

    def __init__(self, host: Host, end: int, stops: Sequence[int], prompt_tokens: int) -> None:
        self.count = 0
        self.ended = False
        self.error: ModelError | None = None
        self._host = host
        self._end = end
        self._stops = stops
        self._prompt_tokens = prompt_tokens
        self._finish: FinishReason | None = None
        self._held: list[int] = []

    def feed(self, events: list[bytes]) -> Chunk | None:
        new: list[int] = []
        try:
            for data in events:
                if data == _DONE:
                    return self._last(new, None)
                event = self._parse(data)
                choices = event.get("choices")
                if choices:
                    new += self._read(choices[0] if isinstance(choices, list) else None, data)
                elif event.get("usage") and self._finish is not None:
                    return self._last(new, fields(event["usage"]))
        except ModelError as error:
            self.error = error
        self.count += len(new)
        return Chunk(tuple(new)) if new else None

    def close(self) -> Chunk | None:
        return self._last([], None)

    def _last(self, new: list[int], usage: Mapping[str, Any] | None) -> Chunk | None:
        """The chunk with the finish; None when there was none."""
        ids = [*new, *self._held]
        self.count += len(ids)
        if self._finish is None:
            return Chunk(tuple(ids)) if ids else None
        self.ended = True
        counts = usage or {}
        cached = count(fields(counts.get("prompt_tokens_details")).get("cached_tokens"))
        prompt = count(counts.get("prompt_tokens")) or self._prompt_tokens
        return Chunk(tuple(ids), self._finish, Usage(prompt, cached, self.count))

    def _read(self, choice: object, data: bytes) -> list[int]:
        """The ids to hand out now."""
        said = fields(choice)
        try:
            ids, reason = checked_ids(said.get("token_ids")), said.get("finish_reason")
            if reason is None:
                return ids
            self._finish = FinishReason(reason)
        except ValueError as error:
            raise self.no_protocol(data) from error
        self._held = self._with_end(ids) if self._finish is FinishReason.STOP else ids
        return []

    def _with_end(self, ids: list[int]) -> list[int]:
        return [*(ids[:-1] if ids and ids[-1] in self._stops else ids), self._end]

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            event = parse_object(data)
        except ValueError as error:
            raise self.no_protocol(data) from error
        if "error" in event:
            raise self._host.failed(event["error"], 400)
        return event

    def no_protocol(self, data: bytes) -> ModelRefused:
        host = self._host
        return ModelRefused(
            f"{host.url} doesn't answer {PATH} with token ids as vLLM does: {host.beginning(data)!r}. It needs vLLM "
            f"0.10.2 or later, and nothing in between that changes the stream; else write chat:{host.url} as the model."
        )
