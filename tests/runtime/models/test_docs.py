"""The tables of docs/models.md against the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.models import target
from runtime.models.base import Feature
from runtime.models.chat_dialects import DIALECTS
from runtime.models.detect import Server, detect
from runtime.models.embedded import EmbeddedModel
from runtime.models.http_client import open_transport
from runtime.models.llamacpp import LLAMACPP_FEATURES
from runtime.models.scripted import Dialect, ScriptedServer
from runtime.models.sglang_facts import facts_of

TEXT = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
SCRIPT = {"name": "m", "turns": [{"text": "one"}]}
Possible = tuple[frozenset[Feature], frozenset[Feature]]
"""What every host of a kind has, and what one may have."""


def table(heading: str) -> list[list[str]]:
    lines = TEXT.partition(heading)[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if not set(row[0]) <= {"-"} or row[0] == ""]


def sglang() -> Possible:
    everything = {
        "grammar_backend": "xgrammar",
        "enable_priority_scheduling": True,
        "enable_session_radix_cache": True,
    }
    return facts_of({}, {}).features, facts_of({"has_image_understanding": True}, everything).features


async def vllm() -> Possible:
    old = {"version": "0.9.0", "token_ids": False, "cached_tokens": False}
    found = []
    for info in (old, {"priority": True}):
        async with ScriptedServer(SCRIPT, dialect=Dialect.VLLM, info=info) as server:
            transport = open_transport(server.url, idle_timeout=5)
            found.append((await detect(Server(transport, server.url))).facts.features)
            await transport.close()
    return found[0], found[1]


def chat() -> Possible:
    all_of = [dialect.features for dialect in DIALECTS.values()]
    return frozenset.intersection(*all_of), frozenset.union(*all_of)


def embedded() -> Possible:
    features = EmbeddedModel.facts.fget(object.__new__(EmbeddedModel)).features  # type: ignore[attr-defined]
    return features, features


async def test_what_each_can_do() -> None:
    possible = {
        "sglang": sglang(),
        "vllm": await vllm(),
        "llamacpp": (LLAMACPP_FEATURES, LLAMACPP_FEATURES),
        "embedded": embedded(),
        "chat": chat(),
    }
    header, *rows = table("## What each can do")
    assert header[1:] == list(possible)
    assert [row[0] for row in rows] == [feature.value for feature in Feature]
    for name, *cells in rows:
        for kind, cell in zip(header[1:], cells, strict=True):
            always, sometimes = possible[kind]
            feature = Feature(name)
            expected = "yes" if feature in always else "may" if feature in sometimes else "no"
            assert cell == expected, f"{kind}: {name}"


@pytest.mark.parametrize("form", sorted({target.EMBEDDED, target.SCRIPT, *target.SERVERS, *target.HOSTED}))
def test_every_form_is_named(form: str) -> None:
    first = TEXT.partition("## How a server is recognised")[0]
    assert f"`{form}:" in first
