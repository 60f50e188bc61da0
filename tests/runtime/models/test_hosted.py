"""Hosted models by their names: addresses and keys from the environment, their dialects, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.catalog import find
from runtime.models.base import Feature, ModelRefused
from runtime.models.connect import connect
from runtime.models.scripted import ScriptedServer
from tests.runtime.models.helpers import ask, prompt

KEY = "sk-not-a-real-key-1234"
TURN: dict[str, Any] = {
    "reasoning": "Look.",
    "content": "Good.",
    "usage": {"prompt_tokens": 1000, "cached_tokens": 400},
}


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("DASHSCOPE", "OPENROUTER"):
        monkeypatch.delenv(f"{host}_API_KEY", raising=False)
        monkeypatch.delenv(f"{host}_BASE_URL", raising=False)
    monkeypatch.delenv("PATCHWRIGHT_API_KEY", raising=False)


@pytest.mark.parametrize(
    ("host", "model", "marks"),
    [
        ("dashscope", "qwen3.6-plus", {"enable_thinking": True, "preserve_thinking": True}),
        ("openrouter", "qwen/qwen3.6-plus", {"reasoning": {"enabled": True}, "usage": {"include": True}}),
    ],
)
async def test_a_hosted_model_by_its_name(
    host: str, model: str, marks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{host.upper()}_API_KEY", KEY)
    async with ScriptedServer([TURN], dialect="chat") as server:
        monkeypatch.setenv(f"{host.upper()}_BASE_URL", f"{server.url}/v1")
        reached = await connect(f"{host}:{model}")
        _, last = await ask(reached, prompt())
        await reached.close()
    (request,) = server.requests
    assert request.body["model"] == model
    assert marks.items() <= request.body.items()
    card = find(model)
    assert card is not None
    price = card.price_at(host)
    assert price is not None
    usage = last.usage
    cached = price.input if price.cached_input is None else price.cached_input
    by_hand = (600 * price.input + 400 * cached + usage.completion_tokens * price.output) / 1_000_000
    assert usage.cost == pytest.approx(by_hand)
    assert usage.cost
    assert Feature.EXACT_IDS not in reached.facts.features


async def test_what_the_host_says_it_cost_goes_before_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    async with ScriptedServer([TURN | {"cost": 0.5}], dialect="chat") as server:
        monkeypatch.setenv("OPENROUTER_BASE_URL", server.url)
        reached = await connect("openrouter:qwen/qwen3.6-plus")
        _, last = await ask(reached, prompt())
        await reached.close()
    assert last.usage.cost == 0.5


@pytest.mark.parametrize("host", ["dashscope", "openrouter"])
async def test_a_missing_key_is_asked_for_by_its_name(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_API_KEY", KEY)  # another host's key isn't shown around
    with pytest.raises(ModelRefused, match=f"{host.upper()}_API_KEY"):
        await connect(f"{host}:qwen3.6-plus")


async def test_an_ollama_of_this_machine_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedServer([TURN], dialect="chat") as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
        reached = await connect("ollama:qwen3.6:35b-a3b")
        _, last = await ask(reached, prompt())
        await reached.close()
    assert server.requests[0].body["model"] == "qwen3.6:35b-a3b"
    assert last.usage.cost is None
    assert not [note for note in reached.facts.notes if "price" in note]
