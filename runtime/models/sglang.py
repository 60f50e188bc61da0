"""SGLang's native `/generate`: token ids in, token ids out, streamed.

The prompt goes out as the bytes that the transcript keeps, so a request costs no re-encoding. What a request may
carry besides (priority, session, pictures, a constraint) is sent where the server's facts say that it has a use for
it. What is left out: the answer's form (`sglang_stream`), the structural tag (`constrained`), retries (`retry`),
finding out about a server (`connect`), starting one (`runtime.serving`).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    Feature,
    HostFacts,
    Image,
    RequestOptions,
    Sampling,
    StreamCut,
)
from runtime.models.http_wire import TransportError
from runtime.models.open_turn import ThinkingMarks
from runtime.models.same_server import SameServer
from runtime.models.sglang_facts import SGLANG_FEATURES, Identity, identity_of
from runtime.models.sglang_stream import Decoder
from runtime.models.token_host import IDLE_SECONDS, TokenHost, known_server

if TYPE_CHECKING:
    from runtime.ids import Ids
    from runtime.tokenizer import Tokenizer

PATH: Final = "/generate"
ABORT_SECONDS: Final = 2.0
_WHO: Final = ("/model_info", "/get_model_info")  # a router passes on the second only
ROUTING_HEADER: Final = "x-smg-routing-key"
_MOST_SESSIONS: Final = 64


class SGLangModel(TokenHost):
    """One SGLang server (or anything that answers `/generate` as it does). Safe for concurrent `stream` calls.

    A turn that the model ended with `<|endoftext|>` is handed on with `<|im_end|>` in its place: the transcript
    needs that one, and a server never has the last token of a turn in its cache.

    `identity` is what the server said that it serves; whenever the server may have been started anew, it is asked
    again, and another answer ends in `ModelChanged`. `low_priority_first` is the server's flag of that name.
    """

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
        low_priority_first: bool = False,
    ) -> None:
        super().__init__(
            url,
            tokenizer,
            name=name,
            context_length=context_length,
            facts=facts or HostFacts("sglang", features=SGLANG_FEATURES),
            idle_timeout=idle_timeout,
            api_key=api_key,
        )
        self._marks = ThinkingMarks.of(tokenizer)
        self._server = SameServer(self._host, self._transport, identity, _WHO, identity_of)
        self._priority_sign = -1 if low_priority_first else 1
        self._sessions: dict[str, None] = {}

    async def close(self) -> None:
        """Lets go of the sessions whose cache the server was asked to keep, and of the connections."""
        for session in self._sessions:
            await self._tell("/close_session", {"session_id": session})
        self._sessions.clear()
        await super().close()

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncGenerator[Chunk, None]:
        """Generate after `ids`; `max_new_tokens` is lowered to what the context has room for.

        Raises a `ModelError`. An idle stream ends in `StreamCut`; there is no limit to the whole.
        """
        async with aclosing(known_server(self._server, self._turn(ids, sampling, request_id, options))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _turn(
        self, ids: Ids, sampling: Sampling, request_id: str, options: RequestOptions
    ) -> AsyncGenerator[Chunk, None]:
        # A server refuses an id that it is serving already, and aborts by prefix: so each try has its own ending.
        rid = f"{request_id}~{secrets.token_hex(4)}"
        room = self._room(len(ids) + _more_for(options.images))
        decoder = Decoder(self._host, self._end, self._stops)
        body, headers = self._request(ids, sampling, room, rid, options)
        try:
            async with aclosing(self._chunks(PATH, body, decoder, headers)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except (StreamCut, asyncio.CancelledError, GeneratorExit):
            if not decoder.ended:
                await self._tell("/abort_request", {"rid": rid})
            raise

    def _request(
        self, ids: Ids, sampling: Sampling, room: int, rid: str, options: RequestOptions
    ) -> tuple[bytes, Mapping[str, str] | None]:
        """The body and the headers of its own."""
        parameters: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "presence_penalty": sampling.presence_penalty,
            "repetition_penalty": sampling.repetition_penalty,
            "max_new_tokens": min(sampling.max_new_tokens, room),
            "stop_token_ids": self._stops,
            "skip_special_tokens": False,
            "no_stop_trim": True,
        }
        if sampling.seed is not None:
            parameters["sampling_seed"] = sampling.seed
        fields: dict[str, Any] = {"sampling_params": parameters, "rid": rid, "stream": True}
        if self._marks is not None and self._marks.length(ids) is not None:
            fields["require_reasoning"] = True  # counts the thinking, and a constraint begins behind it
        headers = self._add_options(fields, parameters, options) if options is not NO_OPTIONS else None
        rest = json.dumps(fields).encode()
        return b"".join((b'{"input_ids":', *ids.json_parts(), b",", rest[1:])), headers  # megabytes: copied once

    def _add_options(
        self, fields: dict[str, Any], parameters: dict[str, Any], options: RequestOptions
    ) -> Mapping[str, str] | None:
        features, headers = self._facts.features, None
        if options.priority is not None and Feature.PRIORITY in features:
            fields["priority"] = self._priority_sign * options.priority
        if options.images:
            from runtime.models.pictures import data_url

            fields["image_data"] = [data_url(image) for image in options.images]
        if options.constrain_to and Feature.CONSTRAINED in features:
            parameters["structural_tag"] = self._tag_for(options.constrain_to)
        if options.routing_key is not None:
            if Feature.ROUTING in features:
                fields["routing_key"] = options.routing_key
                headers = {ROUTING_HEADER: quote(options.routing_key, safe=":;@!$()*+,=/ ")}
            if Feature.SESSIONS in features:
                fields["session_id"] = options.routing_key
                self._sessions[options.routing_key] = None
                while len(self._sessions) > _MOST_SESSIONS:
                    del self._sessions[next(iter(self._sessions))]
        return headers

    async def _tell(self, path: str, message: Mapping[str, str]) -> None:
        """Say that nobody needs something any more; a server that can't be told notices by itself later."""
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                response = await self._transport.send("POST", path, json.dumps(message).encode())
                await response.read()
                await response.close()
        except (TimeoutError, TransportError):
            pass


def _more_for(images: Sequence[Image]) -> int:
    """Tokens that pictures take beyond the one id that stands for each of them."""
    if not images:
        return 0
    from runtime.models.pictures import most_tokens

    return sum(most_tokens(image) - 1 for image in images)
