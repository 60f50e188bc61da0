"""llama.cpp's `/completion` with a prompt of token ids and `return_tokens`, streamed.

The server streams text: a token that leaves a character unfinished is sent with the one that completes it, and then
only the last of their ids is told. The others are read off the bytes where our tokenizer splits them in the same
way; where it doesn't (bytes that are no text), that stretch is thrown away and written once more without streaming,
which tells all ids. So what is handed on are always ids that the server knows.

Which slot takes a request is left to the server: it looks for the one whose cache has most of the prompt. Left out:
pictures and grammars, retries (`retry`), finding out about a server (`connect`). Read from the sources of llama.cpp
as of llama-cpp-python 0.3.36, and run against them.
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
from runtime.models.http_client import LAST_ON_ITS_CONNECTION
from runtime.models.refusals import Host
from runtime.models.same_server import SameServer
from runtime.models.sglang_facts import Identity
from runtime.models.token_host import IDLE_SECONDS, TokenHost, known_server

if TYPE_CHECKING:
    from runtime.ids import Ids
    from runtime.tokenizer import Tokenizer

PATH: Final = "/completion"
LLAMACPP_FEATURES: Final = frozenset({Feature.EXACT_IDS, Feature.CACHED_TOKENS})
_FINISHES: Final = {"eos": FinishReason.STOP, "word": FinishReason.STOP, "limit": FinishReason.LENGTH}
_SAMPLERS: Final = ("penalties", "temperature", "top_k", "top_p", "min_p")
"""In the order in which SGLang and vLLM apply them; llama.cpp's own order has the temperature last."""
_FINAL_FIELDS: Final = ("tokens", "stop", "stop_type", "id_slot", "tokens_predicted", "tokens_evaluated", "timings")
"""Of the last event, which else repeats the prompt as text."""


class LlamaCppModel(TokenHost):
    """One llama.cpp server. Safe for concurrent `stream` calls; as many run at once as the server has slots."""

    def __init__(
        self,
        url: str,
        tokenizer: Tokenizer,
        *,
        name: str,
        context_length: int,
        idle_timeout: float = IDLE_SECONDS,
        api_key: str | None = None,
        facts: HostFacts | None = None,
        identity: Identity | None = None,
    ) -> None:
        """`identity` is what the server said that it serves; it is asked again where it may have been started anew."""
        super().__init__(
            url,
            tokenizer,
            name=name,
            context_length=context_length,
            facts=facts or HostFacts("llamacpp", features=LLAMACPP_FEATURES),
            idle_timeout=idle_timeout,
            api_key=api_key,
        )
        self._server = SameServer(self._host, self._transport, identity, ("/props",), identity_of)

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncGenerator[Chunk, None]:
        """Generate after `ids`; `max_new_tokens` is lowered to what the context has room for.

        Raises a `ModelError`. An idle stream ends in `StreamCut`; there is no limit to the whole.
        """
        async with aclosing(known_server(self._server, self._turn(ids, sampling))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _turn(self, ids: Ids, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        limit = min(sampling.max_new_tokens, self._room(len(ids)))
        turn = _Turn(len(ids), self._end, self._stops)
        while True:
            decoder = LlamaCppDecoder(self._host, self._tokenizer, turn)
            body = _body(ids.extended(turn.ids), sampling, limit - len(turn.ids))
            async with aclosing(self._chunks(PATH, body, decoder, LAST_ON_ITS_CONNECTION)) as chunks:
                async for chunk in chunks:
                    yield chunk
            if not decoder.unread:
                return
            few = min(decoder.unread, limit - len(turn.ids))
            body = _body(ids.extended(turn.ids), sampling, few, stream=False, slot=decoder.slot)
            answer = _parsed(self._host, await self._whole(PATH, body))
            chunk = turn.take(answer["tokens"], answer, at_limit=len(turn.ids) + few >= limit)
            yield chunk
            if chunk.finish is not None:
                return


def identity_of(props: Mapping[str, Any]) -> Identity | None:
    """From `/props`; the tokenizer is in the same file. None where it doesn't name the file."""
    path, alias = props.get("model_path"), props.get("model_alias")
    return Identity(str(alias or path), str(path), str(path)) if path else None


def _body(ids: Ids, sampling: Sampling, limit: int, *, stream: bool = True, slot: int | None = None) -> bytes:
    fields: dict[str, Any] = {
        "n_predict": limit,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "repeat_penalty": sampling.repetition_penalty,
        "samplers": _SAMPLERS,
        "cache_prompt": True,
        "return_tokens": True,
        "return_progress": True,
        "response_fields": _FINAL_FIELDS,
        "stream": stream,
    }
    if sampling.seed is not None:
        fields["seed"] = sampling.seed
    if slot is not None:
        fields["id_slot"] = slot
    rest = json.dumps(fields).encode()
    return b"".join((b'{"prompt":', *ids.json_parts(), b",", rest[1:]))  # megabytes: copied once


class _Turn:
    """What has come of one turn, over all the requests that it took."""

    def __init__(self, prompt_tokens: int, end: int, stops: Sequence[int]) -> None:
        self.ids: list[int] = []
        self._prompt_tokens = prompt_tokens
        self._end = end
        self._stops = stops
        self._cached: int | None = None

    def begin(self, cached: int) -> None:
        """A request found so many tokens of its prompt in the cache; the turn's first one counts."""
        if self._cached is None:
            self._cached = cached

    def take(self, new: Sequence[int], answer: Mapping[str, Any] | None, *, at_limit: bool = True) -> Chunk:
        """The next chunk. `answer` is the event or body that ends a request; None inside of one.

        `at_limit`: where that request ended by its length, the turn does so too.
        """
        if answer is None:
            self.ids += new
            return Chunk(tuple(new))
        self.begin(count(fields(answer.get("timings")).get("cache_n")))
        finish = _FINISHES.get(str(answer.get("stop_type")), FinishReason.ABORT)
        if finish is FinishReason.LENGTH and not at_limit:
            self.ids += new
            return Chunk(tuple(new))
        if finish is FinishReason.STOP and [*self.ids, *new][-1:] != [self._end]:
            new = [*(new[:-1] if new and new[-1] in self._stops else new), self._end]
        self.ids += new
        return Chunk(tuple(new), finish, Usage(self._prompt_tokens, self._cached or 0, len(self.ids)))


class LlamaCppDecoder:
    """Turns the events of one stream into ids; sets `unread` where they can't be known."""

    def __init__(self, host: Host, tokenizer: Tokenizer, turn: _Turn) -> None:
        self.ended = False
        self.error: ModelError | None = None
        self.unread = 0  # ids that came and aren't known, and the one behind them
        self.slot: int | None = None  # where the server keeps what it has of the turn
        self._host = host
        self._tokenizer = tokenizer
        self._turn = turn
        self._come = 0  # ids of this request that are known

    @property
    def count(self) -> int:
        return len(self._turn.ids)

    def feed(self, events: list[bytes]) -> Chunk | None:
        new: list[int] = []
        try:
            for data in events:
                event = _parsed(self._host, data)
                new += self._ids(event)
                if self.unread:
                    self.ended = True
                    break
                if event["stop"]:
                    self.ended = True
                    return self._turn.take([*new], event)
        except ModelError as error:
            self.error = error
        return self._turn.take(new, None) if new else None

    def close(self) -> Chunk | None:
        return None

    def no_protocol(self, data: bytes) -> ModelRefused:
        return _no_ids(self._host, data)

    def _ids(self, event: Mapping[str, Any]) -> list[int]:
        """The ids of an event, with those that it should have told before it."""
        if "prompt_progress" in event:
            self._turn.begin(count(fields(event["prompt_progress"]).get("cache")))
            return []
        ids: list[int] = event["tokens"]
        slot = event.get("id_slot")
        self.slot = slot if isinstance(slot, int) else None
        self._come += len(ids)
        if type(event.get("tokens_predicted")) is not int:
            raise _no_ids(self._host, json.dumps(event).encode())
        left_out = event["tokens_predicted"] - self._come
        if left_out <= 0:
            return ids
        found = _split(self._tokenizer, str(event.get("content", "")), ids[-1:], left_out)
        if found is None:
            self.unread = left_out + 1
            return []
        self._come += left_out
        return [*found, *ids]


def _split(tokenizer: Tokenizer, text: str, last: Sequence[int], count: int) -> list[int] | None:
    """The `count` ids before `last` that write `text` with it. None: not to be known."""
    ids = tokenizer.encode(text)
    if len(ids) != count + 1 or ids[-1:] != list(last) or tokenizer.decode_bytes(ids) != text.encode():
        return None
    return ids[:-1] if "\N{REPLACEMENT CHARACTER}" not in text else None


def _parsed(host: Host, data: bytes) -> dict[str, Any]:
    try:
        event = parse_object(data)
        if "error" in event:
            raise host.failed(event["error"], 400)
        if "prompt_progress" not in event:  # which has one token that is none
            checked_ids(event.get("tokens"))
        if not isinstance(event.get("stop"), bool):
            raise ValueError("it doesn't say whether it is the last event")
    except ValueError as error:
        raise _no_ids(host, data) from error
    return event


def _no_ids(host: Host, data: bytes) -> ModelRefused:
    return ModelRefused(
        f"{host.url} doesn't answer {PATH} with token ids as llama.cpp does: {host.beginning(data)!r}. It needs a "
        f"llama-server that knows `return_tokens` (December 2024 or later); else write chat:{host.url} as the model."
    )
