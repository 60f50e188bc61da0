"""What model servers that take token ids over HTTP have in common: a request, its stream, and their errors.

A server's own module gives the body of a request and a decoder for the events of its answer. Aborting is closing the
connection, which every one of them notices. Left out: telling a server more than that (`sglang`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Protocol

from runtime.models.base import Chunk, HostFacts, ModelError, ModelRefused, StreamCut
from runtime.models.http_client import Response, open_transport
from runtime.models.http_wire import TransportError
from runtime.models.refusals import Host, read_refusal, too_long
from runtime.models.same_server import SameServer
from runtime.models.sse import SSEReader

if TYPE_CHECKING:
    from runtime.tokenizer import Tokenizer

IDLE_SECONDS: Final = 600.0  # a long prefill on a busy server says nothing for minutes
REST_SECONDS: Final = 2.0  # for what comes behind a finish
_EVENT_FIELDS: Final = (b"data", b":", b"event", b"id", b"retry")


class EventDecoder(Protocol):
    """Makes chunks of ids out of the events of one answer."""

    ended: bool
    """The answer has come to its end."""
    error: ModelError | None
    """What came behind the last chunk."""

    @property
    def count(self) -> int:
        """Ids handed out."""
        ...

    def feed(self, events: list[bytes]) -> Chunk | None:
        """One chunk for all the events of a read. None: nothing new."""
        ...

    def close(self) -> Chunk | None:
        """The stream is over: what was held back until then."""
        ...

    def no_protocol(self, data: bytes) -> ModelRefused:
        """The error for an answer that isn't of this protocol."""
        ...


class TokenHost:
    """One server. Safe for concurrent requests. A subclass adds `stream`."""

    def __init__(
        self,
        url: str,
        tokenizer: Tokenizer,
        *,
        name: str,
        context_length: int,
        facts: HostFacts,
        idle_timeout: float = IDLE_SECONDS,
        api_key: str | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._host = Host(self._url, api_key)
        self._tokenizer = tokenizer
        self._name = name
        self._context_length = context_length
        self._facts = facts
        self._idle_timeout = idle_timeout
        self._end = tokenizer.special("<|im_end|>")
        self._stops = [self._end, *_special(tokenizer, "<|endoftext|>")]
        self._transport = open_transport(self._url, idle_timeout=idle_timeout, api_key=api_key)
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
        await self._transport.close()

    def _room(self, prompt: int) -> int:
        """Tokens that the answer may have. Raises `ContextExceeded` when there is none."""
        room = self._context_length - prompt
        if room < 1:
            raise too_long(self._name, prompt, self._context_length)
        return room

    def _tag_for(self, specs: tuple[Mapping[str, Any], ...]) -> str:
        """The structural tag; a run asks with the same specs again and again."""
        if self._tag is None or self._tag[0] is not specs:
            from runtime.models.structural_tag import structural_tag

            self._tag = (specs, structural_tag(specs))
        return self._tag[1]

    async def _chunks(
        self, path: str, body: bytes, decoder: EventDecoder, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of one streamed answer. Raises a `ModelError`; closing it early closes the connection."""
        response: Response | None = None
        try:
            response = await self._transport.send("POST", path, body, headers)
            if response.status != 200:
                raise await read_refusal(self._host, response)
            async with aclosing(read_chunks(response, decoder)) as chunks:
                async for chunk in chunks:
                    yield chunk
            if not decoder.ended:
                raise StreamCut(f"{self._url} ended the stream after {decoder.count} tokens, before its finish.")
        except TransportError as error:
            raise self._lost(error, response, decoder.count) from error
        finally:
            if response is not None:
                await response.close()

    async def _whole(self, path: str, body: bytes) -> bytes:
        """The body of an answer that isn't streamed. Raises a `ModelError`."""
        response: Response | None = None
        try:
            response = await self._transport.send("POST", path, body)
            if response.status != 200:
                raise await read_refusal(self._host, response)
            return await response.read()
        except TransportError as error:
            raise self._lost(error, response, 0) from error
        finally:
            if response is not None:
                await response.close()

    def _lost(self, error: TransportError, response: Response | None, count: int) -> ModelError:
        return self._host.lost(error, begun=response is not None, count=count, idle_timeout=self._idle_timeout)


async def known_server(server: SameServer, chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The chunks of one turn, after making sure of the server. Raises `ModelChanged` besides what they raise."""
    async with aclosing(chunks):
        await server.make_sure()
        try:
            async for chunk in chunks:
                if chunk.finish is not None:
                    server.answered()
                yield chunk
        except ModelError:
            server.failed()
            raise


async def read_chunks(response: Response, decoder: EventDecoder) -> AsyncGenerator[Chunk, None]:
    """The chunks of one answer; ends with its finish, or where the stream does. Raises what the decoder found."""
    reader = SSEReader()
    received = response.chunks()
    beginning, is_stream = b"", False
    async for data in received:
        events = reader.feed(data)
        if not is_stream:
            is_stream = bool(events)
            beginning = beginning or data
        chunk = decoder.feed(events)
        if chunk is not None:
            if chunk.finish is not None:
                await _read_rest(received)
            yield chunk
            if chunk.finish is not None:
                return
        if decoder.error is not None:
            raise decoder.error
        if decoder.ended:
            return
    if not is_stream and beginning and not beginning.lstrip().startswith(_EVENT_FIELDS):
        raise decoder.no_protocol(beginning)  # a page to log in, say; asking again would bring it again
    last = decoder.close()
    if last is not None:
        yield last


async def _read_rest(received: AsyncIterator[bytes]) -> None:
    """Read behind the finish, so that the connection can be used again. The answer is whole either way."""
    try:
        async with asyncio.timeout(REST_SECONDS):
            async for _ in received:
                pass
    except (TimeoutError, TransportError):
        pass


def _special(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return [tokenizer.special(text)]
    except KeyError:
        return []
