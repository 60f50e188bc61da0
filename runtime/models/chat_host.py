"""Hosts that only take chat messages, behind the protocol of token ids.

A prompt's ids are read back into messages (`runtime.conversation`), and what the host answers is written as the ids
of a canonical turn (`chat_turn`). So transcripts, events and resume are the same as with any other model; what such a
host can't do is to take the very ids, and `Feature.EXACT_IDS` is missing from its facts.

A stream that broke is asked for anew by `retry`: what of it was handed out stays, and is not said twice. Keys come
from the environment and appear nowhere else. Left out: which host a URL is (`connect`), retries (`retry`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from runtime.conversation import Conversation, ConversationError, ConversationReader
from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    ContextExceeded,
    FinishReason,
    HostFacts,
    ModelError,
    ModelRefused,
    RequestOptions,
    Sampling,
    StreamCut,
    Usage,
)
from runtime.models.chat_dialects import Dialect
from runtime.models.chat_errors import Host, refusal_of
from runtime.models.chat_events import DONE, EventReader, Said
from runtime.models.chat_request import request_body
from runtime.models.chat_turn import TurnWriter
from runtime.models.http_client import LAST_ON_ITS_CONNECTION, Response, open_transport
from runtime.models.http_wire import ConnectError, IdleError, TransportError
from runtime.models.sse import SSEReader
from runtime.tool_call_specs import ToolBook

if TYPE_CHECKING:
    from runtime.ids import Ids
    from runtime.tokenizer import Tokenizer

IDLE_SECONDS: Final = 600.0
_REST_SECONDS: Final = 5.0  # for the counts that come behind the finish


class Price(Protocol):
    """What a host asks for."""

    def cost(self, usage: Usage) -> float:
        """US dollars of one request."""
        ...


class ChatModel:
    """One model of a chat host. Safe for concurrent `stream` calls."""

    def __init__(
        self,
        url: str,
        model: str,
        tokenizer: Tokenizer,
        *,
        dialect: Dialect,
        context_length: int,
        name: str | None = None,
        api_key: str | None = None,
        price: Price | None = None,
        idle_timeout: float = IDLE_SECONDS,
        facts: HostFacts | None = None,
    ) -> None:
        """`url` goes up to the API's version. Raises ValueError for what is no http(s) URL.

        Where a host costs money and nobody knows how much, the facts say so in a note.
        """
        self._host = Host(url, api_key, dialect.keys)
        self._model = model
        self._name = name or model
        self._tokenizer = tokenizer
        self._conversations = ConversationReader(tokenizer)
        self._dialect = dialect
        self._context_length = context_length
        self._price = price
        self._idle_timeout = idle_timeout
        self._facts = facts or HostFacts("chat", features=dialect.features)
        if dialect.paid and not dialect.usage_cost and price is None and not _is_near(url):
            note = f"No price is known for {model} at {url}: what it costs isn't counted, and no limit can hold it."
            self._facts = replace(self._facts, notes=(*self._facts.notes, note))
        self._transport = open_transport(url, idle_timeout=idle_timeout, api_key=api_key)

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

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncGenerator[Chunk, None]:
        """Generate after `ids`, which may end inside of the turn (see the module). Raises a `ModelError`."""
        room = self._context_length - len(ids)
        if room < 1:
            raise ContextExceeded(
                f"The prompt has {len(ids)} tokens and {self._name} takes {self._context_length} with its answer. "
                "Shorten the conversation, or use a model with a longer context."
            )
        conversation = self._read(ids)
        answer = _Answer(self, conversation)
        if answer.writer.over:
            yield Chunk((self._tokenizer.special("<|im_end|>"),), FinishReason.STOP, Usage(len(ids)))
            return
        body = self._body(conversation, sampling, room, options)
        response: Response | None = None
        try:
            headers = self._headers(options.routing_key)
            response = await self._transport.send("POST", "/chat/completions", body, headers)
            if response.status != 200:
                raise refusal_of(self._host, response.status, response.headers, await response.read())
            async with aclosing(answer.ids(response)) as received:
                async for new in received:
                    yield Chunk(tuple(new))
            yield answer.last(len(ids))
        except TransportError as error:
            raise self._lost(error, response, answer.count) from error
        finally:
            if response is not None:
                await response.close()

    def _headers(self, routing_key: str | None) -> Mapping[str, str]:
        headers = LAST_ON_ITS_CONNECTION if self._dialect.ends_streams else {}
        header = self._dialect.routing_header
        return {**headers, header: routing_key} if header and routing_key else headers

    def _body(self, conversation: Conversation, sampling: Sampling, room: int, options: RequestOptions) -> bytes:
        """The request. What of the turn was there has to be written again, so it gets as many tokens more."""
        body = request_body(
            conversation,
            sampling,
            model=self._model,
            dialect=self._dialect,
            max_tokens=min(sampling.max_new_tokens, room) + len(conversation.partial or ()),
            images=options.images,
        )
        return json.dumps(body, ensure_ascii=False).encode(errors="replace")

    def _read(self, ids: Ids) -> Conversation:
        try:
            conversation = self._conversations.read(ids)
        except ConversationError as error:
            raise ModelRefused(f"The prompt can't be told to a chat host: {error}") from error
        if conversation.partial is None:
            raise ModelRefused("The prompt doesn't end where a turn of the model begins; a chat host needs that.")
        return conversation

    def writer(self, conversation: Conversation) -> TurnWriter:
        return TurnWriter(
            self._tokenizer,
            ToolBook(conversation.tools),
            thinking=conversation.thinking,
            partial=conversation.partial or (),
        )

    def reader(self) -> EventReader:
        return EventReader(self._host)

    def no_protocol(self, data: bytes) -> ModelRefused:
        return self._host.no_protocol(data)

    def cut(self, count: int, why: str) -> StreamCut:
        return StreamCut(f"{self._host.url} {why} after {count} tokens, before its finish.")

    def priced(self, usage: Usage) -> Usage:
        """The usage with its cost: the host's word, else by the price. None where neither is known."""
        if usage.cost is not None or self._price is None:
            return usage
        return replace(usage, cost=self._price.cost(usage))

    def _lost(self, error: TransportError, response: Response | None, count: int) -> ModelError:
        if isinstance(error, IdleError):
            return self.cut(count, f"sent nothing for {self._idle_timeout:g} s")
        if response is None or isinstance(error, ConnectError):
            return self._host.unreachable(error)
        return StreamCut(f"The connection to {self._host.url} broke after {count} tokens ({error}).")


class _Answer:
    """One answer on its way in."""

    def __init__(self, model: ChatModel, conversation: Conversation) -> None:
        self.writer = model.writer(conversation)
        self.count = 0  # ids handed out
        self._model = model
        self._reader = model.reader()
        self._events = 0
        self._finish: FinishReason | None = None
        self._usage: Usage | None = None

    async def ids(self, response: Response) -> AsyncGenerator[list[int], None]:
        """What is new, read by read, up to the finish; then only counts are waited for."""
        if "json" in response.headers.get("content-type", ""):
            body = await response.read()
            if new := self._take(SSEReader().feed(body + b"\n\n") if body.lstrip().startswith(b"data:") else [body]):
                yield new
        else:
            events, received, beginning = SSEReader(), response.chunks(), b""
            async for data in received:
                beginning = beginning or data
                if new := self._take(events.feed(data)):
                    yield new
                if self._finish is not None:
                    await self._rest(received, events)
                    break
            if beginning and not self._events:
                raise self._model.no_protocol(beginning)
        if self._finish is None:
            raise self._model.cut(self.count, "ended the stream")

    async def _rest(self, received: AsyncIterator[bytes], events: SSEReader) -> None:
        """Read what is behind the finish: the counts, and the end, so that the connection can be used again.

        The turn is whole whatever comes there, or doesn't.
        """
        try:
            async with asyncio.timeout(_REST_SECONDS):
                async for data in received:
                    self._take(events.feed(data))
        except (TimeoutError, TransportError, ModelError):
            pass

    def _take(self, events: list[bytes]) -> list[int]:
        new: list[int] = []
        for data in events:
            self._events += 1
            if data.strip() in (DONE, b""):
                continue
            said = self._reader.read(data)
            self._usage = said.usage or self._usage
            if self._finish is None:
                new += self._write(said)
                self._finish = said.finish
        self.count += len(new)
        return new

    def _write(self, said: Said) -> list[int]:
        self.writer.call(said.calls)
        new = self.writer.think(said.reasoning) if said.reasoning else []
        return new + (self.writer.say(said.content) if said.content else [])

    def last(self, prompt: int) -> Chunk:
        """The end of the turn; counts of ours where the host gave none."""
        assert self._finish is not None
        rest = self.writer.finish(self._finish)
        usage = self._usage or Usage(prompt, completion_tokens=self.count + len(rest))
        return Chunk(tuple(rest), self._finish, self._model.priced(usage))


def _is_near(url: str) -> bool:
    """Whether the host is this machine or stands in a private network, where nobody asks for money per token."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal"))
