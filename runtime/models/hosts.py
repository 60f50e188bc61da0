"""From a server's URL, or the name of a hosted model, to a `Model` that fits what is there.

A server that takes token ids is first asked how it reads a short conversation. Where its tokenizer or template isn't
ours, the ids would mean something else to it, so it gets chat messages instead and renders them itself; the facts say
so. Who writes the kind before the URL gets that kind, and a note. Keys come from the environment only. Left out: what
a server says of itself (`detect`, `detect_chat`), and models that aren't servers (`connect`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runtime.models.base import Feature, ModelRefused
from runtime.models.chat_dialects import API_KEY
from runtime.models.detect import Found, Kind, Server, detect
from runtime.models.target import base_url

if TYPE_CHECKING:
    from runtime.models.base import HostFacts, Model
    from runtime.models.chat_dialects import Dialect
    from runtime.models.chat_host import Price
    from runtime.models.compare import Comparison
    from runtime.models.http_client import Transport
    from runtime.tokenizer import Tokenizer

PROBE_SECONDS: Final = 30.0
KINDS: Final[Mapping[str, Kind]] = {
    "sglang": Kind.SGLANG,
    "ktransformers": Kind.SGLANG,
    "vllm": Kind.VLLM,
    "llamacpp": Kind.LLAMACPP,
    "chat": Kind.CHAT,
}
"""What may stand before a URL."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller of `connect` wants of a model; see there."""

    name: str | None
    tokenizer: Tokenizer
    context_length: int | None
    api_key: str | None
    idle_timeout: float

    def context(self, found: int) -> int:
        return min(found, self.context_length or found)


async def open_server(url: str, model: str | None, wish: Wish, expected: Kind | None = None) -> Model:
    """The model of the server at `url`; `model` where it may have several. Raises a `ModelError`."""
    wish = replace(wish, api_key=_key(wish, API_KEY))
    if expected is Kind.CHAT or (model and expected is None):
        return await open_chat(url, model, wish)
    server = Server(_transport(url, wish.api_key), url, wish.api_key)
    try:
        found = await detect(server, expected)
        if found.kind is not Kind.CHAT:
            found, wish = await _compared(found, server, wish, explicit=expected is not None)
    finally:
        await server.transport.close()
    if found.kind is Kind.CHAT:
        return await open_chat(url, found.name, wish, facts=found.facts if found.facts.engine != "chat" else None)
    return _token_model(replace(found, name=model or found.name), url, wish)


async def open_hosted(host: str, model: str, wish: Wish) -> Model:
    """`model` at one of the `HOSTED`. Raises a `ModelError`."""
    from runtime.models.chat_dialects import DIALECTS

    dialect = DIALECTS[host]
    if not model:
        raise ModelRefused(f"Name a model of {host}, such as {host}:qwen3.6-plus.")
    url = os.environ.get(dialect.url_variable or "") or dialect.url or ""
    key = _key(wish, *dialect.keys)
    if key is None and dialect.keys != (API_KEY,):
        raise ModelRefused(f"{host} wants a key; put it into {' or '.join(dialect.keys)}.")
    url = base_url(url)
    return await open_chat(url, model, replace(wish, api_key=key), dialect=dialect)


async def open_chat(
    url: str, model: str | None, wish: Wish, *, dialect: Dialect | None = None, facts: HostFacts | None = None
) -> Model:
    """A host of chat messages at `url` (without `/v1`). `facts`: of a server of ids that gets messages, and why."""
    from runtime.models.chat_host import ChatModel
    from runtime.models.detect_chat import chat_host

    transport = _transport(url, wish.api_key)
    try:
        host = await chat_host(Server(transport, url, wish.api_key), model, dialect=dialect)
    finally:
        await transport.close()
    notes = (*host.facts.notes, *(facts.notes if facts else ()))
    known = replace(host.facts, version=facts.version if facts else None, notes=notes)
    return ChatModel(
        f"{url}/v1",
        host.model,
        wish.tokenizer,
        dialect=host.dialect,
        context_length=wish.context(host.context_length),
        name=wish.name,
        api_key=wish.api_key,
        price=host.price or _catalog_price(host.model, host.dialect),
        idle_timeout=wish.idle_timeout,
        facts=known,
    )


async def _compared(found: Found, server: Server, wish: Wish, *, explicit: bool) -> tuple[Found, Wish]:
    """What was found, with the tokenizer that it reads by; as chat where it reads ids otherwise than we write them."""
    if Feature.EXACT_IDS not in found.facts.features:
        return _as_chat(found, "So it gets chat messages."), wish
    asked, url = server.at(found.worker) if found.worker else server, server.url
    try:
        compared = await _comparison(found, asked, wish.tokenizer)
        mismatch = compared.mismatch
        if mismatch is None:
            note = "How it reads text couldn't be compared with how prompts are written: it has no endpoint for that."
            return (_noted(found, note) if compared.unknown else found), wish
        own = _own_tokenizer(found, wish)
        agrees = own is not None and (await _comparison(found, asked, own)).mismatch is None
    finally:
        if asked is not server:
            await asked.transport.close()
    if own is not None and agrees:
        return _noted(found, f"Its tokenizer is {own.name}, as its checkpoint has it."), replace(wish, tokenizer=own)
    if not explicit:
        prefix = found.kind.value
        why = f"{mismatch.message} So it gets chat messages; write {prefix}:{url} to send ids all the same."
        return _as_chat(found, why), wish
    return _noted(found, f"{mismatch.message} It gets ids all the same, because it was named {found.kind}."), wish


async def _comparison(found: Found, server: Server, tokenizer: Tokenizer) -> Comparison:
    from runtime.models.compare_cache import recent_comparison

    identity = f"{found.kind} {found.facts.version} {found.name} {found.identity or ''}"
    return await recent_comparison(server.url, server.transport, tokenizer, identity=identity, model=found.name)


def _own_tokenizer(found: Found, wish: Wish) -> Tokenizer | None:
    """That of the served checkpoint, where its folder can be read here; None where the caller wants another."""
    from runtime.qwen_bpe import qwen_tokenizer

    if found.identity is None or wish.tokenizer is not qwen_tokenizer():
        return None
    file = Path(found.identity.tokenizer) / "tokenizer.json"
    try:
        from runtime.models.embedded_tokenizer import CheckpointTokenizer

        return CheckpointTokenizer.from_file(file)
    except (OSError, ValueError, ModelRefused, ImportError):  # not here, not of our kind, or the extra isn't there
        return None


def _noted(found: Found, note: str) -> Found:
    return replace(found, facts=replace(found.facts, notes=(*found.facts.notes, note)))


def _as_chat(found: Found, why: str) -> Found:
    return replace(_noted(found, why), kind=Kind.CHAT)


def _token_model(found: Found, url: str, wish: Wish) -> Model:
    common: dict[str, Any] = {
        "name": wish.name or found.name,
        "context_length": wish.context(found.context_length),
        "idle_timeout": wish.idle_timeout,
        "api_key": wish.api_key,
        "facts": found.facts,
    }
    if found.kind is Kind.VLLM:
        from runtime.models.vllm import VLLMModel

        return VLLMModel(url, wish.tokenizer, served=found.name, **common)
    if found.kind is Kind.LLAMACPP:
        from runtime.models.llamacpp import LlamaCppModel

        return LlamaCppModel(url, wish.tokenizer, identity=found.identity, **common)
    from runtime.models.sglang import SGLangModel

    return SGLangModel(
        url, wish.tokenizer, identity=found.identity, low_priority_first=found.low_priority_first, **common
    )


def _key(wish: Wish, *variables: str) -> str | None:
    """The caller's key, else that of the first variable that has one. Raises `ModelRefused` where it can't be one."""
    given = ((None, wish.api_key), *((variable, os.environ.get(variable)) for variable in variables))
    for source, value in given:
        if key := (value or "").strip():
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise ModelRefused(
                    f"{source or 'The key'} has a character that no key can have (a space, a line end, or one that "
                    "isn't ASCII). Copy the key again."
                )
            return key
    return None


def _catalog_price(model: str, dialect: Dialect) -> Price | None:
    if not dialect.paid:
        return None
    from runtime.catalog import find

    card = find(model)
    return card.price_at(dialect.name) if card is not None else None


def _transport(url: str, api_key: str | None) -> Transport:
    from runtime.models.http_client import open_transport

    try:
        return open_transport(url, idle_timeout=PROBE_SECONDS, api_key=api_key)
    except ValueError as error:
        raise ModelRefused(f"{url} can't be asked: {error}. Write http://HOST:PORT.") from error
