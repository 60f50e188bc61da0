"""What a host of chat messages says of itself: which models it has, how long a context, at which price.

OpenAI's API has no word for most of it, so each kind of host is asked in its own way, and the catalog answers for the
rest. Left out: hosts that take token ids (`detect`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from runtime.models.base import HostFacts, ModelRefused
from runtime.models.chat_dialects import DIALECTS, OLLAMA, OPENROUTER, PLAIN, Dialect
from runtime.models.checked import count, fields

if TYPE_CHECKING:
    from runtime.models.base import Usage
    from runtime.models.detect import Found, Server

_OWNERS: Final = {"library": OLLAMA}
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """What a host's own list of models asks, in US dollars per token."""

    input: float
    output: float
    cached_input: float

    def cost(self, usage: Usage) -> float:
        fresh = usage.prompt_tokens - usage.cached_tokens
        return fresh * self.input + usage.cached_tokens * self.cached_input + usage.completion_tokens * self.output


@dataclass(frozen=True, slots=True)
class ChatHost:
    """One model of a chat host."""

    model: str
    dialect: Dialect
    context_length: int
    facts: HostFacts
    price: ListedPrice | None = None  # None: what the catalog says, if anything


async def chat_found(server: Server, models: Mapping[str, Any]) -> Found:
    """The only model of a host that takes no token ids. Raises `ModelRefused` where there are several."""
    from runtime.models.detect import Found, Kind

    cards = _cards(models)
    if len(cards) != 1:
        raise several(server.url, cards)
    host = await chat_host(server, str(cards[0]["id"]), cards=cards)
    return Found(Kind.CHAT, host.model, host.context_length, host.facts)


async def chat_host(
    server: Server,
    model: str | None,
    *,
    dialect: Dialect | None = None,
    cards: list[dict[str, Any]] | None = None,
) -> ChatHost:
    """What is known of `model` at a host; None: the only one that it has. Raises a `ModelError`.

    A host that lists no models, or not this one, is believed to have it.
    """
    if cards is None:
        cards = _cards(await server.get("/v1/models", "/models") or {})
    if model is None:
        if len(cards) != 1:
            raise several(server.url, cards)
        model = str(cards[0]["id"])
    card = next((card for card in cards if card.get("id") == model), {})
    dialect = dialect or _dialect(card)
    length = await _context(server, model, card, dialect)
    notes: tuple[str, ...] = ()
    if length is None:
        length, note = _from_catalog(model)
        notes = (note,)
    facts = HostFacts("chat", features=dialect.features, notes=notes)
    return ChatHost(model, dialect, length, facts, _price(card) if dialect is OPENROUTER else None)


def several(url: str, cards: list[dict[str, Any]]) -> ModelRefused:
    """The error for a host whose model must be named."""
    if not cards:
        return ModelRefused(f"{url} doesn't say which models it has. Name one: chat:{url}#MODEL.")
    names = [str(card["id"]) for card in cards]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ModelRefused(f"{url} has several models: {', '.join(names[:_SHOWN])}{more}. Name one: chat:{url}#MODEL.")


def _dialect(card: Mapping[str, Any]) -> Dialect:
    owner = str(card.get("owned_by"))
    return _OWNERS.get(owner) or DIALECTS.get(owner) or PLAIN


async def _context(server: Server, model: str, card: Mapping[str, Any], dialect: Dialect) -> int | None:
    """Tokens that a request may have, from the host."""
    for key in ("context_length", "max_model_len", "context_window", "max_context_length"):
        if length := count(card.get(key)):
            return length
    if length := count(fields(card.get("meta")).get("n_ctx")):
        return length
    return await _ollama_context(server, model) if dialect is OLLAMA else None


async def _ollama_context(server: Server, model: str) -> int | None:
    """Of a loaded model what it was loaded with; else what its settings say, which are often less than it can."""
    loaded = (await server.get("/api/ps") or {}).get("models")
    for entry in map(fields, loaded if isinstance(loaded, list) else ()):
        if entry.get("model") == model and (length := count(entry.get("context_length"))):
            return length
    _, shown = await server.post("/api/show", {"model": model})
    for line in str(shown.get("parameters", "")).splitlines():
        name, _, value = line.partition(" ")
        if name == "num_ctx" and re.fullmatch(r"[0-9]{1,15}", value.strip()):
            return int(value) or None
    return None


def _from_catalog(model: str) -> tuple[int, str]:
    """A context length, and where it is from."""
    from runtime.catalog import find
    from runtime.models.detect import QWEN36_CONTEXT

    card = find(model)
    if card is not None:
        return card.context, f"The host doesn't say how long a context it takes; {card.name} takes {card.context:,}."
    return QWEN36_CONTEXT, f"The host doesn't say how long a context it takes; {QWEN36_CONTEXT:,} tokens are assumed."


def _price(card: Mapping[str, Any]) -> ListedPrice | None:
    prices = fields(card.get("pricing"))
    try:
        fresh, written = float(prices["prompt"]), float(prices["completion"])
        price = ListedPrice(fresh, written, float(prices.get("input_cache_read") or fresh))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    amounts = (price.input, price.output, price.cached_input)
    return price if all(isfinite(amount) and amount >= 0 for amount in amounts) else None


def _cards(models: Mapping[str, Any]) -> list[dict[str, Any]]:
    from runtime.models.detect import first_name

    listed = models.get("data")
    cards = map(fields, listed if isinstance(listed, list) else ())
    return [dict(card) for card in cards if first_name(card.get("id"))]
