"""Opening a chat host: its address, the key, and what it says about the model. For `runtime.models.connect`.

A host's limits and prices are read from its list of models where it has one, then from the catalog. What neither
says becomes a note in the model's facts. Left out: which dialect a URL speaks (`connect`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from runtime.models.base import Feature, HostFacts, ModelRefused, Usage
from runtime.models.chat_dialects import DIALECTS, Dialect
from runtime.models.chat_errors import Host, refusal_of
from runtime.models.chat_host import IDLE_SECONDS, ChatModel, Price
from runtime.models.http_client import open_transport
from runtime.models.http_wire import TransportError

if TYPE_CHECKING:
    from runtime.model_card import ModelCard
    from runtime.tokenizer import Tokenizer

PROBE_SECONDS: Final = 30.0
USUAL_CONTEXT: Final = 262_144  # of Qwen3.6, where nobody says
_LENGTHS: Final = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
_MOST_NAMED: Final = 12


async def open_chat(
    url: str | None,
    model: str | None = None,
    *,
    dialect: Dialect | str = "chat",
    name: str | None = None,
    tokenizer: Tokenizer | None = None,
    context_length: int | None = None,
    api_key: str | None = None,
    idle_timeout: float = IDLE_SECONDS,
    notes: Sequence[str] = (),
) -> ChatModel:
    """The model called `model` at a chat host; None: the only one that it has.

    `url` is the API's address with or without its version (`http://HOST:PORT` stands for `http://HOST:PORT/v1`);
    None: the dialect's own. `dialect` is one of `chat_dialects.DIALECTS`. `api_key` comes from the environment
    variable that the dialect names unless it is given. `context_length` in tokens can only lower what the host says.
    `notes` are kept in the facts, such as why this host isn't reached by ids. Raises a `ModelError`.
    """
    kind = DIALECTS[dialect] if isinstance(dialect, str) else dialect
    base = address(url, kind)
    key = api_key or next((os.environ[variable] for variable in kind.keys if os.environ.get(variable)), None)
    host = Host(base, key, kind.keys)
    if kind.url and kind.paid and not key:
        raise ModelRefused(f"{kind.name} wants a key: put it into the environment as {kind.keys[0]}.")
    listed = await _listed(host)
    model = model or _only(host, listed)
    entry: Mapping[str, Any] = next((entry for entry in listed if entry.get("id") == model), {})
    card = _card(model)
    found, more = list(notes), _length(entry)
    length = more or (card.context if card else None)
    if length is None:
        length = USUAL_CONTEXT
        found.append(f"{base} doesn't say how long a prompt of {model} may be; taken for {length:,} tokens.")
    price = _listed_price(entry) or (card.price_at(kind.name) if card else None)
    if price is None and kind.paid and not _is_local(base):
        found.append(f"No price is known for {model} at {base}: what it costs isn't counted or limited.")
    features = kind.features - {Feature.IMAGES} if card is not None and not card.images else kind.features
    return ChatModel(
        base,
        model,
        tokenizer or _qwen_tokenizer(),
        dialect=kind,
        context_length=min(length, context_length or length),
        name=name,
        api_key=key,
        price=price,
        idle_timeout=idle_timeout,
        facts=HostFacts("chat", features=features, notes=tuple(found)),
    )


def address(url: str | None, dialect: Dialect) -> str:
    """The API's address up to its version, from what a user or the environment gives. Raises ModelRefused."""
    given = url or (os.environ.get(dialect.url_variable) if dialect.url_variable else None) or dialect.url
    if not given:
        raise ModelRefused(f"A host of kind {dialect.name} needs its address, as in chat:http://HOST:PORT#MODEL.")
    full = given if "://" in given else f"http://{given}"
    full = full.replace("://0.0.0.0", "://127.0.0.1").rstrip("/").removesuffix("/chat/completions")
    parts = urlsplit(full)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelRefused(f"{given!r} is no address of a chat host; one begins with http:// or https://.")
    return full if parts.path else f"{full}/v1"


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """US dollars per token, as a host's list of models states them."""

    prompt: float
    completion: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        return fresh * self.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.completion


async def _listed(host: Host) -> list[dict[str, Any]]:
    """The host's models; none where it has no such list. Raises a ModelError where it can't be asked at all."""
    transport = open_transport(host.url, idle_timeout=PROBE_SECONDS, api_key=host.key)
    try:
        response = await transport.send("GET", "/models")
        body = await response.read()
        await response.close()
    except TransportError as error:
        raise host.unreachable(error) from error
    finally:
        await transport.close()
    if response.status in (401, 403):
        raise refusal_of(host, response.status, response.headers, body)
    try:
        listed = json.loads(body)["data"] if response.status == 200 else []
    except (ValueError, KeyError, TypeError):
        return []
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _only(host: Host, listed: list[dict[str, Any]]) -> str:
    names = [str(entry["id"]) for entry in listed if entry.get("id")]
    if len(names) == 1:
        return names[0]
    there = f"it has {', '.join(names[:_MOST_NAMED])}" + (" and more" if len(names) > _MOST_NAMED else "")
    raise ModelRefused(f"Name the model of {host.url}: {there if names else 'it lists none'}.")


def _length(entry: Mapping[str, Any]) -> int | None:
    """The context that the list gives; the smallest where a host gives several."""
    owners = (entry, entry.get("meta"), entry.get("top_provider"))
    found = [owner.get(name) for owner in owners if isinstance(owner, Mapping) for name in _LENGTHS]
    return min((value for value in found if isinstance(value, int) and value > 0), default=None)


def _listed_price(entry: Mapping[str, Any]) -> Price | None:
    stated = entry.get("pricing")
    if not isinstance(stated, Mapping):
        return None
    try:
        cached = stated.get("input_cache_read")
        found = ListedPrice(
            float(stated["prompt"]), float(stated["completion"]), None if cached is None else float(cached)
        )
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.prompt >= 0 and found.completion >= 0 else None  # -1 stands for a price that varies


def _card(model: str) -> ModelCard | None:
    from runtime.catalog import find

    return find(model)


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith(("127.", "10.", "192.168."))


def _qwen_tokenizer() -> Tokenizer:
    from runtime.qwen_bpe import qwen_tokenizer

    return qwen_tokenizer()
