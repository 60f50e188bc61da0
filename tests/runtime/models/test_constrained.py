"""Constrained turns: the grammar that is asked for, when it is given up, and that no token is lost or doubled then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.models.base import Chunk, Feature, FinishReason, HostFacts, Model, ModelRefused, RequestOptions, Sampling
from runtime.models.constrained import MOST_WHITE_SPACE, ConstraintDropped, with_constraints
from runtime.models.retry import Retry, RetryPolicy, with_retries
from runtime.models.scripted import ScriptedServer
from runtime.models.sglang import SGLangModel
from runtime.models.structural_tag import structural_tag
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import encoded, prompt


def spec(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


BASH = spec("bash", command={"type": "string"}, timeout={"type": "integer"})
SUBMIT = spec("submit")
SPECS = (BASH, SUBMIT)
OPTIONS = RequestOptions(constrain_to=SPECS)
END = 248046


def call(name: str, **values: str) -> str:
    written = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{written}</function>\n</tool_call>"


START = "Look.\n</think>\n\nI look.\n\n" + call("bash", command="ls") + "\n"
WANTED = START + call("bash", command="echo '</parameter>'")
ENDLESS = START + "<tool_call>\n<function=bash>\n<parameter=command>\necho" + "\n \n" * 400
LONG = START + "<tool_call>\n<function=bash>\n<parameter=command>\n" + "echo a; " * 400
KEPT = encoded(START)
IDS = [*encoded(WANTED), END]


@asynccontextmanager
async def constrained(
    turn: dict[str, Any], *, features: frozenset[Feature] = frozenset(Feature), **options: Any
) -> AsyncIterator[tuple[ScriptedServer, Model, list[Retry]]]:
    retries: list[Retry] = []
    async with ScriptedServer([turn], **options) as server:
        host = SGLangModel(
            server.url, qwen_tokenizer(), name="m", context_length=99_999, facts=HostFacts("sglang", features=features)
        )
        policy = RetryPolicy(retries=6, first_delay=0.0005, longest_delay=0.001)
        model = with_constraints(with_retries(host, policy), on_retry=retries.append)
        try:
            yield server, model, retries
        finally:
            await model.close()


async def ask(model: Model, limit: int = 2000, options: RequestOptions = OPTIONS) -> tuple[list[int], list[Chunk]]:
    chunks = [
        chunk async for chunk in model.stream(prompt(), Sampling(max_new_tokens=limit), request_id="t", options=options)
    ]
    assert [chunk.finish for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    return [token for chunk in chunks for token in chunk.ids], chunks


def tags(server: ScriptedServer) -> list[bool]:
    return ["structural_tag" in request.body["sampling_params"] for request in server.requests]


async def test_a_turn_that_the_constraint_lets_through_is_one_request() -> None:
    async with constrained({"text": WANTED}) as (server, model, retries):
        ids, chunks = await ask(model)
    assert (ids, chunks[-1].finish, retries, tags(server)) == (IDS, FinishReason.STOP, [], [True])


@pytest.mark.parametrize(
    ("written", "limit", "reason"),
    [(ENDLESS, 2000, "ran on in white space"), (LONG, 300, "tokens ended inside a call")],
    ids=["white space", "length"],
)
@pytest.mark.parametrize("interval", [1, 7, 1000])
async def test_a_call_that_goes_nowhere_is_dropped_and_asked_for_without(
    written: str, limit: int, reason: str, interval: int
) -> None:
    turn = {"text": WANTED, "when_constrained": written}
    async with constrained(turn, stream_interval=interval) as (server, model, retries):
        ids, chunks = await ask(model, limit)
    assert ids == IDS
    assert tags(server) == [True, False]
    assert list(server.requests[1].prompt_ids) == [*prompt(), *KEPT]
    assert server.requests[1].body["sampling_params"]["max_new_tokens"] == limit - len(KEPT)
    (retry,) = retries
    assert (retry.kept, retry.delay) == (len(KEPT), 0.0)
    assert retry.dropped >= MOST_WHITE_SPACE
    assert isinstance(retry.error, ConstraintDropped)
    assert reason in str(retry.error)
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(prompt()), len(IDS))


async def test_a_call_is_held_back_until_it_is_whole() -> None:
    turn = {"text": WANTED, "faults": [{"kind": "slow", "seconds": 0.001}]}
    async with constrained(turn) as (_, model, _):
        _, chunks = await ask(model)
    opens, closes = 248058, 248059
    for chunk in chunks:
        assert chunk.ids.count(opens) == chunk.ids.count(closes)
    assert len(chunks) >= 3


async def test_length_outside_of_a_call_is_the_turn_s_end() -> None:
    async with constrained({"text": WANTED}) as (server, model, retries):
        ids, chunks = await ask(model, 4)
    assert (ids, chunks[-1].finish, retries, tags(server)) == (IDS[:4], FinishReason.LENGTH, [], [True])


async def test_the_second_try_may_end_by_length() -> None:
    async with constrained({"text": LONG, "when_constrained": ENDLESS}) as (_, model, retries):
        ids, chunks = await ask(model, 300)
    assert (ids, chunks[-1].finish, len(retries)) == (list(encoded(LONG)[:300]), FinishReason.LENGTH, 1)


async def test_a_server_that_refuses_the_grammar_is_asked_once() -> None:
    async with constrained({"text": WANTED, "repeat": 2}, info={"grammar_backend": "none"}) as (server, model, retries):
        for _ in range(2):
            assert (await ask(model))[0] == IDS
        assert tags(server) == [True, False, False]
        assert (await ask(model, options=RequestOptions(constrain_to=(BASH,))))[0] == IDS
    assert tags(server)[3:] == [True, False]
    assert [(retry.kept, retry.dropped) for retry in retries] == [(0, 0)] * 2
    assert "Grammar-based generation" in str(retries[0].error)


async def test_a_failure_over_the_grammar_in_mid_turn() -> None:
    fault = {"kind": "abort", "tokens": len(KEPT) + 4, "status": 500, "message": "Grammar accept_token failed: x"}
    turn = {"text": WANTED, "faults": [fault | {"times": 7}]}
    async with constrained(turn, stream_interval=len(KEPT) + 4) as (server, model, retries):
        ids, _ = await ask(model)
    assert ids == IDS
    assert tags(server) == [True] * 7 + [False]
    assert len(retries) == 1


async def test_other_refusals_stay_errors() -> None:
    turn = {"text": WANTED, "faults": [{"kind": "http", "status": 400, "message": "no such adapter"}]}
    async with constrained(turn) as (server, model, retries):
        with pytest.raises(ModelRefused):
            await ask(model)
    assert (len(server.requests), retries) == (1, [])


@pytest.mark.parametrize("features", [frozenset({Feature.EXACT_IDS}), frozenset(Feature)])
async def test_without_the_wish_or_the_feature_nothing_is_constrained(features: frozenset[Feature]) -> None:
    wish = RequestOptions() if Feature.CONSTRAINED in features else OPTIONS
    async with constrained({"text": WANTED, "when_constrained": ENDLESS}, features=features) as (server, model, _):
        assert (await ask(model, options=wish))[0] == IDS
    assert tags(server) == [False]


CUTS = st.lists(
    st.one_of(
        st.builds(lambda n: {"kind": "cut", "tokens": n}, st.integers(0, 60)),
        st.builds(lambda n: {"kind": "abort", "tokens": n}, st.integers(0, 60)),
    ),
    max_size=3,
)


@settings(max_examples=100, deadline=None)
@given(cuts=CUTS, incremental=st.booleans(), interval=st.integers(1, 9), written=st.sampled_from([None, ENDLESS, LONG]))
def test_no_way_of_streaming_and_no_cut_changes_the_turn(
    cuts: list[dict[str, Any]], incremental: bool, interval: int, written: str | None
) -> None:
    turn = {"text": WANTED, "faults": cuts} | ({"when_constrained": written} if written else {})

    async def run() -> None:
        options: dict[str, Any] = {"incremental": incremental, "stream_interval": interval}
        async with constrained(turn, **options) as (_, model, retries):
            ids, chunks = await ask(model, 400)
        assert ids == IDS
        assert chunks[-1].finish is FinishReason.STOP
        assert chunks[-1].usage.completion_tokens == len(IDS)
        assert len(retries) == (1 if written else 0)

    asyncio.run(run())


# -- the grammar ----------------------------------------------------------------------------------------------


def test_the_tag_in_the_form_that_sglang_takes() -> None:
    tag = json.loads(structural_tag(SPECS))
    assert tag["type"] == "structural_tag"
    assert tag["format"]["triggers"] == ["<tool_call>\n<function="]
    bash, submit = tag["format"]["tags"]
    assert bash["begin"] == "<tool_call>\n<function=bash>\n"
    assert bash["end"] == "\n</function>\n</tool_call>"
    assert bash["content"]["style"] == "qwen_xml"
    assert bash["content"]["json_schema"] == BASH["function"]["parameters"]
    assert submit["content"] == {"type": "any_text"}
    assert submit["end"] == "</function>\n</tool_call>"


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "properties": {}}])
def test_a_tool_without_parameters_has_no_schema(parameters: Any) -> None:
    (tag,) = json.loads(structural_tag([{"function": {"name": "go", "parameters": parameters}}]))["format"]["tags"]
    assert tag["content"] == {"type": "any_text"}


TEXTS = [
    ("Hm.\n</think>\n\nI look.\n\n" + call("bash", command="ls\n\n\tx"), True),
    (call("bash", command="ls", timeout="5") + "\n" + call("submit"), True),
    (call("submit") + "\nDone.", True),
    (call("bash", command="a <tool_call>\n<function=x>\n</function>"), True),
    (call("bash", timeout="5", command="ls"), False),
    (call("bash", command="ls", timeout="soon"), False),
    (call("bash", command="ls", other="x"), False),
    (call("bash"), False),
    (call("other"), False),
    (call("bash", command="echo\n</parameter>\n"), False),
]


@pytest.mark.parametrize(("text", "allowed"), TEXTS)
def test_what_the_grammar_allows(text: str, allowed: bool) -> None:
    """With the library that SGLang compiles grammars with, where it is installed."""
    xgrammar = pytest.importorskip("xgrammar", reason="xgrammar isn't installed")
    from xgrammar.testing import _is_grammar_accept_string

    grammar = xgrammar.Grammar.from_structural_tag(structural_tag(SPECS))
    assert _is_grammar_accept_string(grammar, text) is allowed
