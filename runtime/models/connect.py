"""From what a user names as the model to a `Model`: a server's URL, a checkpoint, or a script.

What is left out: starting servers (`runtime.serving`) and retries (`runtime.models.retry`), which the caller puts
around what it gets here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runtime.models.base import NO_OPTIONS, ModelRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.ids import Ids
    from runtime.models.base import Chunk, HostFacts, Model, RequestOptions, Sampling
    from runtime.models.http_client import Transport
    from runtime.tokenizer import Tokenizer

QWEN36_CONTEXT: Final = 262_144  # what the family takes; for servers that don't say
PROBE_SECONDS: Final = 30.0
FORMS: Final = (
    "http://HOST:PORT of an SGLang server, a folder with a checkpoint, embedded:HUB_ID, "
    "or script:FILE for a scripted model"
)


async def connect(
    target: str,
    *,
    name: str | None = None,
    tokenizer: Tokenizer | None = None,
    context_length: int | None = None,
    api_key: str | None = None,
    idle_timeout: float = 600.0,
) -> Model:
    """The model at `target`: `http(s)://...`, a checkpoint's folder, `embedded:ID_OR_FOLDER` or `script:FILE`.

    `name` is what events call it; by default the server's own name for it. `context_length` in tokens can only
    lower what the model takes. `tokenizer` is Qwen's for servers, a checkpoint's own otherwise. `idle_timeout` is
    the longest silence of a server in seconds. Raises a `ModelError`, also for a target of no known form.
    """
    if target.startswith(("http://", "https://")):
        return await _server(
            target,
            name=name,
            tokenizer=tokenizer,
            context_length=context_length,
            api_key=api_key,
            idle_timeout=idle_timeout,
        )
    if target.startswith("script:"):
        return await _script(Path(target.removeprefix("script:")), name=name, tokenizer=tokenizer)
    if target.startswith("embedded:") or Path(target).is_dir():
        return await _embedded(target.removeprefix("embedded:"), context_length)
    hint = f" For a server, write http://{target}." if ":" in target or target == "localhost" else ""
    raise ModelRefused(f"{target!r} names no model: there is no such folder.{hint} A model is {FORMS}.")


async def _server(
    target: str,
    *,
    name: str | None,
    tokenizer: Tokenizer | None,
    context_length: int | None,
    api_key: str | None,
    idle_timeout: float,
) -> Model:
    from runtime.models.http_client import open_transport
    from runtime.models.sglang import SGLangModel

    url = target.rstrip("/").removesuffix("/generate").removesuffix("/v1")
    try:
        transport = open_transport(url, idle_timeout=PROBE_SECONDS, api_key=api_key)
    except ValueError as error:
        raise ModelRefused(f"{target} can't be asked: {error}. A model is {FORMS}.") from error
    try:
        found_name, found_length = await _probe(transport, url)
    finally:
        await transport.close()
    return SGLangModel(
        url,
        tokenizer or _qwen_tokenizer(),
        name=name or found_name,
        context_length=min(found_length, context_length or found_length),
        idle_timeout=idle_timeout,
        api_key=api_key,
    )


async def _probe(transport: Transport, url: str) -> tuple[str, int]:
    """The server's name for its model and the tokens that a request may have. Raises a `ModelError`."""
    info = await _ask(transport, url, "/model_info", "/get_model_info")
    server = await _ask(transport, url, "/server_info", "/get_server_info")
    card: dict[str, Any] = {}
    if info is None or server is None or not isinstance(server.get("context_length"), int):
        models = await _ask(transport, url, "/v1/models")
        cards = (models or {}).get("data") or [{}]
        card = cards[0] if isinstance(cards, list) and isinstance(cards[0], dict) else {}
    if info is None and not card:
        raise ModelRefused(
            f"{url} answers, but neither /model_info nor /v1/models. Give the URL of an SGLang server, such as "
            "http://127.0.0.1:30000."
        )
    named = [(info or {}).get("served_model_name"), (info or {}).get("model_path"), card.get("id")]
    lengths = [(server or {}).get("context_length"), card.get("max_model_len")]
    length = next((value for value in lengths if isinstance(value, int)), QWEN36_CONTEXT)
    pool = (server or {}).get("max_total_num_tokens")
    if isinstance(pool, int) and pool > 0:
        length = min(length, pool)  # a request must also fit into the server's cache memory
    return next((str(value) for value in named if value), url), length


async def _ask(transport: Transport, url: str, *paths: str) -> dict[str, Any] | None:
    """The JSON object at the first path that the server has. None: it has none of them."""
    import json

    from runtime.models.http_wire import TransportError
    from runtime.models.sglang import refusal, unreachable

    for path in paths:
        try:
            response = await transport.send("GET", path)
            text = await response.read()
            await response.close()
        except TransportError as error:
            raise unreachable(url, error) from error
        if response.status in (404, 405):
            continue
        if response.status != 200:
            raise refusal(url + path, response.status, text[:300].decode(errors="replace"))
        try:
            body = json.loads(text)
        except ValueError:
            continue
        if isinstance(body, dict):
            return body
    return None


async def _embedded(source: str, context_length: int | None) -> Model:
    try:
        from runtime.models.embedded import load
    except ImportError as error:
        raise ModelRefused(
            f"A checkpoint in this process needs more packages ({error}): pip install 'patchwright[embedded]'."
        ) from error
    import asyncio

    return await asyncio.to_thread(load, source, context_length=context_length)


async def _script(path: Path, *, name: str | None, tokenizer: Tokenizer | None) -> Model:
    from runtime.models.script_file import ScriptError
    from runtime.models.scripted import ScriptedServer

    try:
        server = ScriptedServer(path, tokenizer, record=False)
    except ScriptError as error:
        raise ModelRefused(str(error)) from error
    await server.start()
    try:
        model = await connect(server.url, name=name, tokenizer=server.engine.tokenizer)
    except BaseException:  # whatever ends the start, the server must not stay behind
        await server.close()
        raise
    return _Owning(model, server.close)


class _Owning:
    """A model together with something that is closed after it."""

    def __init__(self, model: Model, close: Callable[[], Awaitable[None]]) -> None:
        self._model = model
        self._close = close

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def tokenizer(self) -> Tokenizer:
        return self._model.tokenizer

    @property
    def context_length(self) -> int:
        return self._model.context_length

    def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncIterator[Chunk]:
        return self._model.stream(ids, sampling, request_id=request_id, options=options)

    @property
    def facts(self) -> HostFacts:
        return self._model.facts

    async def close(self) -> None:
        await self._model.close()
        await self._close()


def _qwen_tokenizer() -> Tokenizer:
    from runtime.qwen_bpe import qwen_tokenizer

    return qwen_tokenizer()
