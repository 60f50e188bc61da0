"""From what a user names as the model to a `Model`: a server's URL, a hosted model, a checkpoint, or a script.

What is left out: how targets are written (`runtime.models.target`), what is at a URL (`runtime.models.hosts`),
starting servers (`runtime.serving`) and retries (`runtime.models.retry`), which the caller puts around what it gets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.models.around import Around
from runtime.models.base import NO_OPTIONS, ModelRefused
from runtime.models.target import EMBEDDED, FORMS, HOSTED, SCRIPT, read_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.ids import Ids
    from runtime.models.base import Chunk, Model, RequestOptions, Sampling
    from runtime.tokenizer import Tokenizer

__all__ = ["FORMS", "connect"]


async def connect(
    target: str,
    *,
    name: str | None = None,
    tokenizer: Tokenizer | None = None,
    context_length: int | None = None,
    api_key: str | None = None,
    idle_timeout: float = 600.0,
) -> Model:
    """The model at `target`, which has one of the `FORMS`. What kind of server a URL is, is found out.

    `name` is what events call it; by default the host's own name for it. `context_length` in tokens can only
    lower what the model takes. `tokenizer` is Qwen's for servers, a checkpoint's own otherwise. `api_key` is by
    default the environment's (`PATCHWRIGHT_API_KEY`, for hosted models their own variable). `idle_timeout` is the
    longest silence of a server in seconds. Raises a `ModelError`, also for a target of no known form.
    """
    named = read_target(target)
    if named.kind == SCRIPT:
        return await _script(Path(named.where), name=name, tokenizer=tokenizer)
    if named.kind == EMBEDDED:
        return await _embedded(named.where, context_length)
    from runtime.models.hosts import KINDS, Wish, open_hosted, open_server

    wish = Wish(name, tokenizer or _qwen_tokenizer(), context_length, api_key, idle_timeout)
    if named.kind in HOSTED:
        return await open_hosted(named.kind, named.where, wish)
    return await open_server(named.where, named.model, wish, KINDS.get(named.kind))


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


class _Owning(Around):
    """A model together with something that is closed after it."""

    def __init__(self, model: Model, close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(model)
        self._close = close

    def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncIterator[Chunk]:
        return self._model.stream(ids, sampling, request_id=request_id, options=options)

    async def close(self) -> None:
        await super().close()
        await self._close()


def _qwen_tokenizer() -> Tokenizer:
    from runtime.qwen_bpe import qwen_tokenizer

    return qwen_tokenizer()
