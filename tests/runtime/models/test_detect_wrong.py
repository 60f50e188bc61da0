"""Servers that say what can't be: connecting ends in a model or in a named error, and never shows a key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.models import connect
from runtime.models.base import ModelError
from tests.runtime.models.test_detect import Answers, answering

DEEP = "[" * 100_000
FORMS = ["", "sglang:", "vllm:", "llamacpp:", "chat:"]
KEY = "sk-verysecretkey123456"


async def ends_well(answers: Answers, form: str) -> str:
    """The named error, or how the model was understood."""
    async with answering(answers) as url:
        try:
            model = await connect(form + url)
        except ModelError as error:
            assert len(str(error)) < 2000
            return str(error)
        await model.close()
        assert type(model.context_length) is int
        assert model.context_length > 0
        assert 0 < len(model.name) < 1000
        return " ".join([model.facts.engine, str(model.context_length), *model.facts.notes])


class Everywhere(dict[str, tuple[int, Any]]):
    """The same answer at every path."""

    def get(self, key: str, default: Any = None) -> Any:
        return self["*"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "null",
        '"x"',
        DEEP,
        '{"a":' * 100_000,
        '{"data":["x"]}',
        '{"data":[{"id":5,"owned_by":["vllm"],"max_model_len":"x"}]}',
        '{"data":[{"id":"m","owned_by":{"a":1},"max_model_len":true,"meta":[1],"pricing":[1]}]}',
        '{"data":[{"id":"' + "x" * 100_000 + '","owned_by":"vllm"}]}',
        '{"model_path":["x"],"served_model_name":{"a":1},"context_length":1e999}',
        '{"model_path":"x","router_manager":true,"workers":"x"}',
        '{"model_path":"x","router_manager":true,"workers":[1,{"url":7},{"url":"http://[::1"},{"url":"grpc://h:1"}]}',
        '{"default_generation_settings":"x","total_slots":-1}',
    ],
    ids=lambda body: body[:24],
)
async def test_the_same_wrong_answer_everywhere(form: str, body: str) -> None:
    assert await ends_well(Everywhere({"*": (200, body)}), form)


@pytest.mark.parametrize("length", [-5, 0, "9", True, 10**400, None, [4096]])
@pytest.mark.parametrize("engine", ["sglang", "vllm", "llamacpp", "chat"])
async def test_a_context_that_is_none_is_not_believed(engine: str, length: Any) -> None:
    card = {"id": "m", "owned_by": engine, "max_model_len": length, "context_length": length, "meta": {"n_ctx": length}}
    answers: Answers = {
        "/v1/models": (200, {"data": [card]}),
        **({"/model_info": (200, {"model_path": "m"})} if engine == "sglang" else {}),
        "/server_info": (200, {"context_length": length, "max_total_num_tokens": length}),
        "/version": (200, {"version": "9" * 5000}),
        "/metrics": (200, 'vllm:cache_config_info{block_size="²",kv_cache_size_tokens="' + "9" * 5000 + '"} 1'),
        "/props": (200, {"default_generation_settings": {"n_ctx": length}, "total_slots": length}),
        "POST /v1/completions": (200, {"choices": [{"token_ids": [1]}]}),
    }
    assert "262,144 tokens are assumed" in await ends_well(answers, "")


@pytest.mark.parametrize(
    "answer",
    [{"choices": ["a"]}, {"choices": {"a": 1}}, {"choices": [None]}, {"choices": [{"token_ids": [1]}], "usage": "x"}],
    ids=json.dumps,
)
async def test_vllm_that_writes_its_token_otherwise(answer: dict[str, Any]) -> None:
    answers: Answers = {
        "/v1/models": (200, {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 100}]}),
        "/version": (200, {"version": "0.40"}),
        "POST /v1/completions": (200, answer),
    }
    assert "100" in await ends_well(answers, "")


@pytest.mark.parametrize("form", [*FORMS[:-1], "chat:#m"])
async def test_a_server_that_quotes_the_key(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_API_KEY", KEY)
    quoted = (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    async with answering(Everywhere({"*": quoted})) as url:
        kind, _, model = form.partition("#")
        with pytest.raises(ModelError, match=r"answered 401: Incorrect API key provided: \*\*\*") as caught:
            await connect(f"{kind}{url}" + (f"#{model}" if model else ""))
    assert KEY not in str(caught.value)


async def test_a_key_in_a_note_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_API_KEY", KEY)
    answers: Answers = {
        "/v1/models": (200, {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 100}]}),
        "/version": (200, {"version": "0.40"}),
        "POST /v1/completions": (500, {"error": f"no luck with {KEY}"}),
    }
    said = await ends_well(answers, "")
    assert "no luck with ***" in said


@pytest.mark.parametrize("key", ["schlüssel€", "sk-a\r\nX-Evil: 1", "a\x01b", "two words"])
async def test_a_key_that_no_header_can_have(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_API_KEY", key)
    monkeypatch.setenv("DASHSCOPE_API_KEY", key)
    async with answering({}) as url:
        for target, variable in ((url, "PATCHWRIGHT_API_KEY"), ("dashscope:qwen3.6-plus", "DASHSCOPE_API_KEY")):
            with pytest.raises(ModelError, match=f"{variable} has a character that no key can have") as caught:
                await connect(target)
            assert key not in str(caught.value)


async def test_a_line_end_behind_the_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_API_KEY", f"{KEY}\n")
    async with answering({"/v1/models": (200, {"data": [{"id": "m"}]})}) as url:
        model = await connect(url)
        await model.close()
