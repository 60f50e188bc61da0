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
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    Feature,
    HostFacts,
    ModelChanged,
    RequestOptions,
    Sampling,
    StreamCut,
)
from runtime.models.checked import parse_object
from runtime.models.http_client import Response, open_transport
from runtime.models.http_wire import TransportError
from runtime.models.open_turn import ThinkingMarks
from runtime.models.refusals import Host, read_refusal, refusal, too_long, unreachable
from runtime.models.sglang_facts import SGLANG_FEATURES, Identity, identity_of
from runtime.models.sglang_stream import Decoder
from runtime.models.token_host import read_chunks

if TYPE_CHECKING:
    from runtime.ids import Ids
    from runtime.tokenizer import Tokenizer

__all__ = ["SGLangModel", "refusal", "unreachable"]

IDLE_SECONDS: Final = 600.0  # a long prefill on a busy server says nothing for minutes
ABORT_SECONDS: Final = 2.0
SILENCE_BEFORE_DOUBT: Final = 1.0  # seconds after which a lost connection may mean another server
ROUTING_HEADER: Final = "x-smg-routing-key"
_MOST_SESSIONS: Final = 64


class SGLangModel:
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
        self._facts = facts or HostFacts("sglang", features=SGLANG_FEATURES)
        self._url = url.rstrip("/")
        self._host = Host(self._url, api_key)
        self._name = name
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._end = tokenizer.special("<|im_end|>")
        self._stops = [self._end, *_special(tokenizer, "<|endoftext|>")]
        self._marks = ThinkingMarks.of(tokenizer)
        self._transport = open_transport(self._url, idle_timeout=idle_timeout, api_key=api_key)
        self._idle_timeout = idle_timeout
        self._identity = identity
        self._priority_sign = -1 if low_priority_first else 1
        self._in_doubt = False  # a request failed since the server was last known to be the same
        self._heard = 0.0  # when it last answered in full, by the loop's clock
        self._sessions: dict[str, None] = {}
        self._tag: tuple[object, str] | None = None

    @property
    def facts(self) -> HostFacts:
        return self._facts

    @property
    def name(self) -> str:
        return self._name

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def context_length(self) -> int:
        return self._context_length

    async def close(self) -> None:
        """Lets go of the sessions whose cache the server was asked to keep, and of the connections."""
        for session in self._sessions:
            await self._tell("/close_session", {"session_id": session})
        self._sessions.clear()
        await self._transport.close()

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncGenerator[Chunk, None]:
        """Generate after `ids`; `max_new_tokens` is lowered to what the context has room for.

        Raises a `ModelError`. An idle stream ends in `StreamCut`; there is no limit to the whole.
        """
        room = self._room(ids, options)
        if self._identity is not None and self._may_have_changed():
            await self._check_identity(self._identity)
        # A server refuses an id that it is serving already, and aborts by prefix: so each try has its own ending.
        rid = f"{request_id}~{secrets.token_hex(4)}"
        decoder = Decoder(self._host, self._end, self._stops)
        response: Response | None = None
        sent = True
        try:
            body, headers = self._request(ids, sampling, room, rid, options)
            response = await self._transport.send("POST", "/generate", body, headers)
            if response.status != 200:
                sent = False
                self._in_doubt = True
                raise await read_refusal(self._host, response)
            async with aclosing(read_chunks(response, decoder)) as chunks:
                async for chunk in chunks:
                    yield chunk
            if not decoder.ended:
                self._in_doubt = True
                raise StreamCut(f"{self._url} ended the stream after {decoder.count} tokens, before its finish.")
            self._heard = asyncio.get_running_loop().time()
        except TransportError as error:
            sent = sent and response is not None
            self._in_doubt = True
            begun, idle = response is not None, self._idle_timeout
            raise self._host.lost(error, begun=begun, count=decoder.count, idle_timeout=idle) from error
        finally:
            if response is not None:
                await response.close()
            if sent and not decoder.ended:
                await self._tell("/abort_request", {"rid": rid})

    def _room(self, ids: Ids, options: RequestOptions) -> int:
        """Tokens that the answer may have. Raises `ContextExceeded` when there is none."""
        prompt = len(ids)
        if options.images:
            from runtime.models.pictures import most_tokens

            prompt += sum(most_tokens(image) - 1 for image in options.images)
        room = self._context_length - prompt
        if room < 1:
            raise too_long(self._name, prompt, self._context_length)
        return room

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

    def _tag_for(self, specs: tuple[Mapping[str, Any], ...]) -> str:
        """The structural tag; a run asks with the same specs again and again."""
        if self._tag is None or self._tag[0] is not specs:
            from runtime.models.structural_tag import structural_tag

            self._tag = (specs, structural_tag(specs))
        return self._tag[1]

    def _may_have_changed(self) -> bool:
        if self._in_doubt:
            return True
        if not self._heard or self._transport.resting:
            return False
        return asyncio.get_running_loop().time() - self._heard > SILENCE_BEFORE_DOUBT

    async def _check_identity(self, expected: Identity) -> None:
        """Raises `ModelChanged` when another model is served now, `ModelUnreachable` when none is."""
        try:
            for path in ("/model_info", "/get_model_info"):  # a router passes on the second only
                response = await self._transport.send("GET", path)
                data = await response.read()
                await response.close()
                if response.status != 404:
                    break
        except TransportError as error:
            raise self._host.unreachable(error) from error
        self._in_doubt = False
        try:
            found = identity_of(parse_object(data)) if response.status == 200 else expected
        except ValueError:
            return  # what can't be read tells nothing; the request itself will show whether the server is there
        if found != expected:
            self._in_doubt = True
            raise ModelChanged(
                f"{self._url} serves {found} now; it was {expected} when this run began. Serve that model again "
                "and resume the run, or begin a new one."
            )

    async def _tell(self, path: str, message: Mapping[str, str]) -> None:
        """Say that nobody needs something any more; a server that can't be told notices by itself later."""
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                response = await self._transport.send("POST", path, json.dumps(message).encode())
                await response.read()
                await response.close()
        except (TimeoutError, TransportError):
            pass


def _special(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return [tokenizer.special(text)]
    except KeyError:
        return []
