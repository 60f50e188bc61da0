"""SGLang's native `/generate`: token ids in, token ids out, streamed.

The prompt goes out as the bytes that the transcript keeps, so a request costs no re-encoding. Streams may be
cumulative (SGLang's default) or incremental; which one it is shows in the counts and needs no setting. What is
left out: retries (`retry`), finding out about a server (`connect`), starting one (`runtime.serving`).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NoReturn

from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    ContextExceeded,
    FinishReason,
    HostFacts,
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelRefused,
    ModelUnreachable,
    RequestOptions,
    Sampling,
    StreamCut,
    Usage,
)
from runtime.models.http_client import Response, open_transport
from runtime.models.http_wire import ConnectError, IdleError, TransportError
from runtime.models.sse import SSEReader

if TYPE_CHECKING:
    from runtime.ids import Ids
    from runtime.tokenizer import Tokenizer

IDLE_SECONDS: Final = 600.0  # a long prefill on a busy server says nothing for minutes
ABORT_SECONDS: Final = 2.0
_DONE: Final = b"[DONE]"
_CONTEXT_WORDS: Final = ("context length", "longer than the model", "exceeds the maximum allowed length")


class SGLangModel:
    """One SGLang server (or anything that answers `/generate` as it does). Safe for concurrent `stream` calls.

    A turn that the model ended with `<|endoftext|>` is handed on with `<|im_end|>` in its place: the transcript
    needs that one, and a server never has the last token of a turn in its cache.
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
    ) -> None:
        self._facts = facts or HostFacts("sglang")
        self._url = url.rstrip("/")
        self._name = name
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._end = tokenizer.special("<|im_end|>")
        self._stops = [self._end, *_special(tokenizer, "<|endoftext|>")]
        self._transport = open_transport(self._url, idle_timeout=idle_timeout, api_key=api_key)
        self._idle_timeout = idle_timeout

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
        """Generate after `ids`; `max_new_tokens` is lowered to what the context has room for.

        Raises a `ModelError`. An idle stream ends in `StreamCut`; there is no limit to the whole.
        """
        room = self._context_length - len(ids)
        if room < 1:
            raise ContextExceeded(
                f"The prompt has {len(ids)} tokens and {self._name} takes {self._context_length} with its answer. "
                "Shorten the conversation or serve the model with a longer context."
            )
        # A server refuses an id that it is serving already, and aborts by prefix: so each try has its own ending.
        rid = f"{request_id}~{secrets.token_hex(4)}"
        decoder = _Decoder(self._url, self._end, self._stops)
        response: Response | None = None
        sent = True
        try:
            response = await self._transport.send("POST", "/generate", self._body(ids, sampling, room, rid))
            if response.status != 200:
                sent = False
                raise await _refusal(self._url, response)
            async with aclosing(_chunks(response, decoder)) as chunks:
                async for chunk in chunks:
                    yield chunk
            if not decoder.ended:
                raise StreamCut(f"{self._url} ended the stream after {decoder.count} tokens, before its finish.")
        except TransportError as error:
            sent = sent and response is not None
            raise self._lost(error, response, decoder.count) from error
        finally:
            if response is not None:
                await response.close()
            if sent and not decoder.ended:
                await self._abort(rid)

    def _body(self, ids: Ids, sampling: Sampling, room: int, rid: str) -> bytes:
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
        rest = json.dumps({"sampling_params": parameters, "rid": rid, "stream": True}).encode()
        return b"".join((b'{"input_ids":', *ids.json_parts(), b",", rest[1:]))  # megabytes: copied once

    def _lost(self, error: TransportError, response: Response | None, count: int) -> ModelError:
        if isinstance(error, IdleError):
            return StreamCut(f"{self._url} sent nothing for {self._idle_timeout:g} s, after {count} tokens.")
        if response is None or isinstance(error, ConnectError):
            return unreachable(self._url, error)
        return StreamCut(f"The connection to {self._url} broke after {count} tokens ({error}).")

    async def _abort(self, rid: str) -> None:
        """Tell the server that nobody waits any more; a server that can't be told notices by itself later."""
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                response = await self._transport.send("POST", "/abort_request", json.dumps({"rid": rid}).encode())
                await response.read()
                await response.close()
        except (TimeoutError, TransportError):
            pass


class _Decoder:
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
                new += ids
                if finish is not None:
                    self.ended = True
                    return Chunk(tuple(self._ended(new, finish)), self._finish(finish), usage)
        except ModelError as error:
            self.error = error
        return Chunk(tuple(new), None, usage) if new else None

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
            total = meta["completion_tokens"]
            usage = Usage(meta["prompt_tokens"], meta.get("cached_tokens") or 0, total)
            return self._new_ids(event["output_ids"], total), meta["finish_reason"], usage
        except (KeyError, TypeError, AttributeError) as error:
            self._no_protocol(data, error)

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            event = json.loads(data.decode())
        except ValueError as error:
            self._no_protocol(data, error)
        if not isinstance(event, dict):
            self._no_protocol(data, None)
        if "error" in event:
            self.ended = True
            status = event["error"].get("code") if isinstance(event["error"], dict) else None
            raise refusal(self._url, status if isinstance(status, int) else 400, _message(event))
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


def unreachable(url: str, error: Exception) -> ModelUnreachable:
    return ModelUnreachable(
        f"No answer from {url} ({error}). Check that the server runs there and that this machine may "
        "reach it, or name another model."
    )


def refusal(url: str, status: int, message: str, retry_after: float | None = None) -> ModelError:
    """The named error for an HTTP status of 300 or more and the server's own words."""
    said = f"{url} answered {status}: {message}"
    if status in (429, 503):
        return ModelBusy(f"{said}. It is busy; try again later.", retry_after)
    if status >= 500:
        return ModelFailed(f"{said}. The server failed; its log says why.")
    if any(words in message for words in _CONTEXT_WORDS):
        return ContextExceeded(f"{said}. Shorten the conversation or serve the model with a longer context.")
    if status < 400:
        return ModelRefused(f"{said}. It redirects; give the URL that it points to.")
    return ModelRefused(f"{said}. The same request would be refused again.")


async def _refusal(url: str, response: Response) -> ModelError:
    body = await response.read()
    try:
        message = _message(json.loads(body))
    except ValueError:
        message = body[:500].decode(errors="replace").strip() or response.headers.get("location", "no message")
    try:
        retry_after = float(response.headers.get("retry-after", ""))
    except ValueError:
        retry_after = None
    return refusal(url, response.status, message, retry_after)


async def _chunks(response: Response, decoder: _Decoder) -> AsyncGenerator[Chunk, None]:
    """The chunks of one answer; ends with its finish, or where the stream does."""
    reader = SSEReader()
    received = response.chunks()
    async for data in received:
        chunk = decoder.feed(reader.feed(data))
        if chunk is not None:
            if chunk.finish is not None:
                await _read_rest(received)
            yield chunk
            if chunk.finish is not None:
                return
        if decoder.error is not None:
            raise decoder.error


async def _read_rest(received: AsyncIterator[bytes]) -> None:
    """Read behind the finish, so that the connection can be used again. The answer is whole either way."""
    try:
        async with asyncio.timeout(ABORT_SECONDS):
            async for _ in received:
                pass
    except (TimeoutError, TransportError):
        pass


def _message(body: Any) -> str:
    """The server's own words in any of the shapes that SGLang, FastAPI and proxies give them."""
    while isinstance(body, dict):
        body = next((body[key] for key in ("error", "message", "detail") if key in body), json.dumps(body)[:500])
    return str(body).rstrip(".")


def _special(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return [tokenizer.special(text)]
    except KeyError:
        return []
