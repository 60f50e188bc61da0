"""The scripted server's own behaviour, over real HTTP without a client of ours."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from runtime.ids import Ids
from runtime.models.script_file import FaultKind
from runtime.models.scripted import Dialect, ScriptedServer
from runtime.models.scripted_delivery import Outcome
from runtime.models.scripted_sglang import IMAGE_TOKENS
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import Answer, answered, encoded, http, prompt

END = 248046
CALLING = {"reasoning": "Look.", "content": "I look.", "calls": [{"name": "bash", "arguments": {"command": "ls"}}]}
CALLING_TEXT = (
    "Look.\n</think>\n\nI look.\n\n<tool_call>\n<function=bash>\n<parameter=command>\nls\n</parameter>\n"
    "</function>\n</tool_call>"
)
UNICODE = {"text": 'Hm.\n</think>\n\nGrüße 🎉 "quoted" \\ 漢字'}


async def generate(server: ScriptedServer, ids: Any, **more: Any) -> Answer:
    parameters = {"max_new_tokens": 1000} | more.pop("sampling_params", {})
    return await http(server.url, "/generate", {"input_ids": list(ids), "sampling_params": parameters} | more)


def turn_ids(text: str) -> list[int]:
    return [*encoded(text), END]


async def test_generate_has_the_shape_of_sglangs() -> None:
    async with ScriptedServer([CALLING]) as server:
        answer = await generate(server, prompt(), rid="r1")
    meta = answer.json()["meta_info"]
    assert answer.json()["output_ids"] == turn_ids(CALLING_TEXT)
    assert answer.json()["text"] == CALLING_TEXT
    assert meta["id"] == "r1"
    assert meta["finish_reason"] == {"type": "stop", "matched": END}
    assert (meta["prompt_tokens"], meta["cached_tokens"]) == (len(prompt()), 0)
    assert meta["completion_tokens"] == len(turn_ids(CALLING_TEXT))


@pytest.mark.parametrize("interval", [1, 3, 1000])
async def test_a_cumulative_stream(interval: int) -> None:
    async with ScriptedServer([UNICODE], stream_interval=interval) as server:
        answer = await generate(server, prompt(), stream=True)
    *events, done = answer.events()
    parsed = [Answer(200, {}, event.encode(), True).json() for event in events]
    ids = turn_ids(UNICODE["text"])
    counts = [event["meta_info"]["completion_tokens"] for event in parsed]
    assert (answer.headers["content-type"], done, answer.complete) == (
        "text/event-stream; charset=utf-8",
        "[DONE]",
        True,
    )
    assert counts == [min(n, len(ids)) for n in range(interval, len(ids) + interval, interval)]
    assert all(event["output_ids"] == ids[:count] for event, count in zip(parsed, counts, strict=True))
    assert all(UNICODE["text"].startswith(event["text"]) for event in parsed)
    assert parsed[-1]["text"] == UNICODE["text"]
    assert [event["meta_info"]["finish_reason"] for event in parsed[:-1]] == [None] * (len(parsed) - 1)
    assert parsed[-1]["meta_info"]["finish_reason"] == {"type": "stop", "matched": END}


async def test_an_incremental_stream() -> None:
    async with ScriptedServer([UNICODE], incremental=True, stream_interval=2) as server:
        answer = await generate(server, prompt(), stream=True)
    parsed = [Answer(200, {}, event.encode(), True).json() for event in answer.events()[:-1]]
    assert [token for event in parsed for token in event["output_ids"]] == turn_ids(UNICODE["text"])
    assert "".join(event["text"] for event in parsed) == UNICODE["text"]
    assert {len(event["output_ids"]) for event in parsed[:-1]} == {2}


@pytest.mark.parametrize(
    ("parameters", "end"),
    [
        ({}, ""),
        ({"no_stop_trim": True}, ""),
        ({"skip_special_tokens": False}, ""),
        ({"no_stop_trim": True, "skip_special_tokens": False}, "<|im_end|>"),
    ],
)
async def test_only_an_untrimmed_text_ends_with_the_stop_token(parameters: dict[str, bool], end: str) -> None:
    async with ScriptedServer([UNICODE]) as server:
        answer = await generate(server, prompt(), sampling_params=parameters)
    assert answer.json()["text"] == UNICODE["text"] + end
    assert answer.json()["output_ids"][-1] == END


async def test_a_text_prompt_is_the_same_as_its_ids() -> None:
    async with ScriptedServer([CALLING]) as server:
        text = qwen_tokenizer().decode(list(prompt()))
        answer = await http(server.url, "/generate", {"text": text, "sampling_params": {"max_new_tokens": 99}})
    assert answer.json()["output_ids"] == turn_ids(CALLING_TEXT)
    assert list(server.requests[0].prompt_ids) == list(prompt())


async def test_max_new_tokens_ends_a_turn_by_length() -> None:
    ids = turn_ids(CALLING_TEXT)
    async with ScriptedServer([CALLING]) as server:
        cut = await generate(server, prompt(), sampling_params={"max_new_tokens": 5})
        exact = await generate(server, prompt(), sampling_params={"max_new_tokens": len(ids)})
        default = await http(server.url, "/generate", {"input_ids": list(prompt())})
    assert cut.json()["output_ids"] == ids[:5]
    assert cut.json()["meta_info"]["finish_reason"] == {"type": "length", "length": 5}
    assert exact.json()["meta_info"]["finish_reason"]["type"] == "stop"
    assert default.json()["output_ids"] == ids


async def test_a_turn_that_the_script_ends_by_length_has_no_end_token() -> None:
    async with ScriptedServer([{"text": "half a", "finish": "length"}]) as server:
        answer = await generate(server, prompt())
    assert answer.json()["output_ids"] == list(encoded("half a"))
    assert answer.json()["meta_info"]["finish_reason"] == {"type": "length", "length": len(encoded("half a"))}


async def test_the_turn_is_told_by_the_prompt_alone() -> None:
    turns = [{"text": name} for name in ("one", "two", "three")]
    async with ScriptedServer(turns) as server:
        first = prompt()
        second = answered(first, turn_ids("one"))
        third = answered(second, turn_ids("two"))
        other = answered(second, turn_ids("something else"))
        for ids, expected in [(third, "three"), (first, "one"), (second, "two"), (second, "two"), (other, "three")]:
            assert (await generate(server, ids)).json()["text"] == expected


async def test_openings_that_a_tool_wrote_are_no_turns() -> None:
    async with ScriptedServer([{"text": "one"}, {"text": "two"}]) as server:
        plain = qwen_tokenizer().encode("<|im_start|>assistant\nI am not one<|im_end|>")
        ids = encoded("<|im_start|>user\n").extended(plain)
        ids = ids.extended(encoded("<|im_end|>\n<|im_start|>assistant\n<think>\n"))
        assert (await generate(server, ids)).json()["text"] == "one"


async def test_without_thinking_the_reasoning_is_left_out() -> None:
    opening = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    async with ScriptedServer([CALLING]) as server:
        answer = await generate(server, prompt(opening=opening))
    assert answer.json()["text"] == CALLING_TEXT.removeprefix("Look.\n</think>\n\n")


async def test_a_prompt_inside_a_turn_is_continued() -> None:
    ids = turn_ids(CALLING_TEXT)
    async with ScriptedServer([CALLING]) as server:
        for cut in (1, 7, len(ids) - 1):
            answer = await generate(server, prompt().extended(ids[:cut]))
            assert answer.json()["output_ids"] == ids[cut:]
            assert answer.json()["meta_info"]["completion_tokens"] == len(ids) - cut
        refused = await generate(server, prompt().extended([ids[0], 5]))
    assert refused.status == 409
    assert "isn't how turn 0 of the script begins" in refused.json()["error"]["message"]


async def test_cached_tokens_of_an_append_only_conversation() -> None:
    async with ScriptedServer([{"text": f"turn {n}"} for n in range(6)]) as server:
        ids, known = prompt("A longer issue text."), 0
        for _ in range(6):
            answer = (await generate(server, ids, stream=False)).json()
            assert answer["meta_info"]["cached_tokens"] == known
            known = len(ids) + len(answer["output_ids"]) - 1  # the last token written was never computed
            ids = answered(ids, answer["output_ids"])


@pytest.mark.parametrize("lasting", [False, True])
async def test_a_lasting_cache_knows_turns_that_an_earlier_server_served(lasting: bool) -> None:
    script = {"turns": [{"text": "One."}, {"text": "Two."}, {"text": "Three."}], "lasting_cache": lasting}
    said = []
    for asked in ([3], [2, 1]):  # turns that each server is asked for
        ids, counted = prompt(), []
        for turns in asked:
            async with ScriptedServer(script) as server:
                for _ in range(turns):
                    answer = (await generate(server, ids)).json()
                    counted.append(answer["meta_info"]["cached_tokens"])
                    ids = answered(ids, answer["output_ids"])
        said.append(counted)
    assert (said[0] == said[1]) is lasting
    assert said[0][2] > said[0][1] > said[0][0] == 0


async def test_cached_tokens_of_repetitions_forks_and_edits() -> None:
    async with ScriptedServer([{"text": "one", "repeat": 2}]) as server:
        ids = prompt()
        await generate(server, ids)
        repeated = await generate(server, ids)
        edited = await generate(server, prompt("Mend it."))
        longer = answered(ids, turn_ids("one"), "a")
        await generate(server, longer)
        fork = answered(ids, turn_ids("one"), "b")
        forked = await generate(server, fork)
    assert repeated.json()["meta_info"]["cached_tokens"] == len(ids) - 1
    assert edited.json()["meta_info"]["cached_tokens"] == len(encoded("<|im_start|>user\n"))
    same = next(n for n, (a, b) in enumerate(zip(longer, fork, strict=True)) if a != b)
    assert forked.json()["meta_info"]["cached_tokens"] == same


async def test_only_what_was_written_is_cached_after_a_cut() -> None:
    async with ScriptedServer([{"text": "one two three four", "faults": [{"kind": "cut", "tokens": 2}]}]) as server:
        await generate(server, prompt(), stream=True)
        whole = turn_ids("one two three four")
        answer = await generate(server, answered(prompt(), whole), stream=True)
    assert answer.status == 410
    assert server.engine.cache.hit(list(prompt()) + whole).tokens == len(prompt()) + 1


@pytest.mark.parametrize(
    ("cache", "again", "next_turn", "fork"),
    [
        ({"strategy": "tokens"}, 299, 319, 310),
        ({"strategy": "no_buffer"}, 0, 319, 300),
        ({"strategy": "extra_buffer", "decode_interval": 64}, 256, 256, 256),
        ({"strategy": "extra_buffer", "prefill_grid": 16, "decode_interval": 16}, 288, 304, 304),
    ],
)
async def test_the_cache_keeps_states_as_the_script_says(
    cache: dict[str, Any], again: int, next_turn: int, fork: int
) -> None:
    """The rules themselves are tested in `test_prefix_rules.py`; here, that requests go through them."""
    script = {"cache": cache, "after": "repeat_last", "turns": [{"text": " a" * 19}]}
    first = Ids([*[7] * (300 - len(prompt())), *prompt()])
    async with ScriptedServer(script) as server:
        turn = (await generate(server, first)).json()["output_ids"]
        assert (len(first), len(turn)) == (300, 20)
        counts = [
            (await generate(server, ids)).json()["meta_info"]["cached_tokens"]
            for ids in (first, answered(first, turn), answered(first, turn[:10]))
        ]
    assert counts == [again, next_turn, fork]


async def test_flush_cache() -> None:
    async with ScriptedServer([{"text": "one"}]) as server:
        await generate(server, prompt())
        assert (await http(server.url, "/flush_cache", {})).status == 200
        assert (await generate(server, prompt())).json()["meta_info"]["cached_tokens"] == 0


async def test_usage_can_be_set() -> None:
    usage = {"prompt_tokens": 70_000, "cached_tokens": 69_000}
    async with ScriptedServer([{"text": "one", "usage": usage}]) as server:
        meta = (await generate(server, prompt())).json()["meta_info"]
    assert {key: meta[key] for key in usage} == usage


@pytest.mark.parametrize(
    ("after", "status", "text"),
    [("error", 410, None), ("stop", 200, ""), ("repeat_last", 200, "two")],
)
async def test_after_the_last_turn(after: str, status: int, text: str | None) -> None:
    async with ScriptedServer({"after": after, "turns": [{"text": "one"}, {"text": "two"}]}) as server:
        ids = answered(answered(answered(prompt(), turn_ids("one")), turn_ids("two")), turn_ids("two"))
        answer = await generate(server, ids)
    assert (answer.status, answer.json().get("text")) == (status, text)
    if text is None:
        assert "has 2 turns and the prompt holds 3" in answer.json()["error"]["message"]


async def test_expectations_about_what_the_model_is_shown() -> None:
    turns = [{"text": "one"}, {"text": "two", "expect": ["Fix it.", "exit 0"], "expect_new": "exit 0"}]
    async with ScriptedServer(turns) as server:
        good = answered(prompt(), turn_ids("one"), "exit 0")
        bad = answered(prompt(), turn_ids("one"), "exit 1")
        old = answered(prompt("Fix it. It says exit 0."), turn_ids("one"), "exit 1")
        answers = [await generate(server, ids) for ids in (good, bad, old)]
    assert [answer.status for answer in answers] == [200, 409, 409]
    assert "expects 'exit 0' in the prompt" in answers[1].json()["error"]["message"]
    assert "expects 'exit 0' behind the model's previous turn" in answers[2].json()["error"]["message"]
    assert server.requests[1].outcome is Outcome.REFUSED


async def test_conversations_are_told_by_the_first_user_message() -> None:
    script = {
        "conversations": [
            {"match": "flask", "turns": [{"text": "F"}]},
            {"match": "django", "turns": [{"text": "D"}]},
        ],
        "turns": [{"text": "other"}],
    }
    async with ScriptedServer(script) as server:
        texts = [(await generate(server, prompt(text))).json()["text"] for text in ("a flask", "my django", "x")]
    async with ScriptedServer({"conversations": script["conversations"]}) as server:
        nothing = await generate(server, prompt("x"))
    assert texts == ["F", "D", "other"]
    assert nothing.status == 409
    assert "one of 'flask', 'django'" in nothing.json()["error"]["message"]


async def test_a_prompt_that_is_too_long_is_refused_as_sglang_does() -> None:
    async with ScriptedServer({"context_length": 20, "turns": [{"text": "one"}]}) as server:
        long = await generate(server, [5] * 20)
        wide = await generate(server, [5] * 10, sampling_params={"max_new_tokens": 11})
        streamed = await generate(server, [5] * 20, stream=True)
        empty = await generate(server, [])
    assert (long.status, wide.status, streamed.status, empty.status) == (400, 400, 200, 400)
    assert "(20 tokens) is longer than the model's context length (20 tokens)" in long.json()["error"]["message"]
    assert "maximum context length of 20 tokens" in wide.json()["error"]["message"]
    assert '"code": 400' in streamed.events()[0]
    assert streamed.events()[1] == "[DONE]"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/generate", b"{", 400),
        ("POST", "/generate", b"[]", 400),
        ("POST", "/generate", {}, 400),
        ("POST", "/generate", {"input_ids": "text"}, 400),
        ("POST", "/generate", {"input_ids": [[1], [2]]}, 400),
        ("POST", "/generate", {"input_ids": [2**40]}, 400),
        ("POST", "/v1/chat/completions", {"messages": "hi"}, 400),
        ("POST", "/v1/chat/completions", {"messages": []}, 400),
        ("POST", "/tokenize", {"prompt": 1}, 400),
        ("GET", "/nothing", None, 404),
        ("GET", "/generate", None, 404),
    ],
)
async def test_bad_requests(method: str, path: str, body: Any, status: int) -> None:
    async with ScriptedServer([{"text": "one"}]) as server:
        answer = await http(server.url, path, body, method=method)
        assert answer.status == status
        assert answer.json()["error"]["message"]
        assert (await generate(server, prompt())).status == 200


async def test_a_head_or_body_that_is_no_http() -> None:
    async with ScriptedServer([{"text": "one"}]) as server:
        huge = await http(server.url, "/generate", {}, headers="x: " + "y" * 70_000 + "\r\n")
        chunked = await http(server.url, "/generate", {}, headers="transfer-encoding: chunked\r\n")
        continued = await http(server.url, "/tokenize", {"prompt": "a"}, headers="expect: 100-continue\r\n")
    assert (huge.status, chunked.status, continued.status) == (431, 411, 100)
    assert b'"count": 1' in continued.body


async def test_what_a_server_tells_about_itself() -> None:
    async with ScriptedServer({"name": "m", "context_length": 4096, "turns": [{"text": "one"}]}) as server:
        for path in ("/health", "/health_generate", "/ready"):
            assert (await http(server.url, path)).status == 200
        info = (await http(server.url, "/model_info")).json()
        assert info == (await http(server.url, "/get_model_info")).json()
        assert (info["model_path"], info["tokenizer_path"]) == ("m", "qwen3.6")
        assert (await http(server.url, "/server_info")).json()["context_length"] == 4096
        (card,) = (await http(server.url, "/v1/models")).json()["data"]
        assert (card["id"], card["max_model_len"]) == ("m", 4096)
        tokens = (await http(server.url, "/tokenize", {"prompt": "<|im_end|>"})).json()
        assert tokens == {"tokens": [END], "count": 1, "max_model_len": 4096}


async def test_abort_ends_a_stream_with_what_it_has() -> None:
    async with ScriptedServer({"token_delay": 0.02, "turns": [{"text": "word " * 200}]}) as server:
        running = asyncio.create_task(generate(server, prompt(), stream=True, rid="run-1"))
        other = asyncio.create_task(generate(server, prompt(), stream=True, rid="run-2"))
        while not all(request.written for request in server.requests) or len(server.requests) < 2:
            await asyncio.sleep(0.01)
        await http(server.url, "/abort_request", {"rid": "run-"})
        assert server.open_requests == 2  # no request has this id, so nothing happens
        await http(server.url, "/abort_request", {"rid": "run-1"})
        answer = await running
        assert server.open_requests == 1
        await http(server.url, "/abort_request", {"abort_all": True})
        await other
    event = Answer(200, {}, answer.events()[-2].encode(), True).json()
    assert event["meta_info"]["finish_reason"]["type"] == "abort"
    assert 0 < len(event["output_ids"]) < 200
    assert [request.outcome for request in server.requests] == [Outcome.ABORT] * 2


async def test_a_client_that_goes_away_ends_its_request() -> None:
    async with ScriptedServer([{"text": "one two", "faults": [{"kind": "stall", "seconds": 60}]}]) as server:
        running = asyncio.create_task(generate(server, prompt(), stream=True))
        while not server.open_requests:
            await asyncio.sleep(0.01)
        running.cancel()
        before = time.monotonic()
        while server.open_requests:
            await asyncio.sleep(0.01)
        assert time.monotonic() - before < 10
    assert server.requests[0].outcome is Outcome.GONE


FAULTS: list[tuple[dict[str, Any], int, bool, int]] = [
    # fault, status, ended as HTTP says, events that are JSON
    ({"kind": "cut", "tokens": 3}, 200, False, 3),
    ({"kind": "cut", "tokens": 99}, 200, False, 5),
    ({"kind": "http", "status": 503, "retry_after": 2}, 503, True, 0),
    ({"kind": "garbage", "tokens": 2}, 200, True, 2),
    ({"kind": "empty"}, 200, True, 0),
    ({"kind": "length", "tokens": 2}, 200, True, 2),
    ({"kind": "slow", "seconds": 0.01}, 200, True, 5),
    ({"kind": "stall", "tokens": 2, "seconds": 0.05}, 200, True, 5),
]


@pytest.mark.parametrize(("fault", "status", "complete", "events"), FAULTS)
async def test_a_fault_strikes_as_often_as_it_says(
    fault: dict[str, Any], status: int, complete: bool, events: int
) -> None:
    text = "one two three four"
    async with ScriptedServer([{"text": text, "faults": [fault | {"times": 2}]}]) as server:
        for _ in range(2):
            answer = await generate(server, prompt(), stream=True)
            assert (answer.status, answer.complete) == (status, complete)
            good = [event for event in answer.events() if event.startswith('{"text"') and event.endswith("}")]
            assert len(good) == (events if status == 200 else 0)
        assert answer.headers.get("retry-after") == (f"{fault['retry_after']}" if "retry_after" in fault else None)
        normal = await generate(server, prompt(), stream=True)
        assert len(normal.events()) == len(turn_ids(text)) + 1
    kind = FaultKind(fault["kind"])
    assert [request.fault for request in server.requests] == [kind, kind, None]


@pytest.mark.parametrize(("fault", "status", "complete", "events"), FAULTS)
async def test_faults_of_answers_that_are_not_streamed(
    fault: dict[str, Any], status: int, complete: bool, events: int
) -> None:
    async with ScriptedServer([{"text": "one two three four", "faults": [fault]}]) as server:
        answer = await generate(server, prompt())
    cut = fault["kind"] == "cut"
    assert answer.status == (0 if cut else status)
    if fault["kind"] in ("slow", "stall", "length"):
        assert len(answer.json()["output_ids"]) == events
    elif not cut and status == 200:
        with pytest.raises(ValueError):
            answer.json()


async def test_slow_and_stall_take_their_time() -> None:
    faults = [{"kind": "slow", "seconds": 0.05}, {"kind": "stall", "tokens": 1, "seconds": 0.2}]
    async with ScriptedServer([{"text": "one two three", "faults": faults}]) as server:
        times = []
        for _ in range(3):
            before = time.monotonic()
            await generate(server, prompt(), stream=True)
            times.append(time.monotonic() - before)
    assert times[0] >= 0.2
    assert times[1] >= 0.2
    assert times[2] < 0.2


async def test_a_chat_host_serves_no_token_ids() -> None:
    async with ScriptedServer([{"text": "one"}], dialect=Dialect.CHAT) as server:
        answer = await generate(server, prompt())
        assert answer.status == 404
        assert "/v1/chat/completions /v1/models are" in answer.json()["error"]["message"]
        chat = await http(server.url, "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
        assert chat.status == 200


async def test_pictures_are_counted_and_must_fit_their_pads() -> None:
    picture = "data:image/png;base64,AAAA"
    shown = prompt("See <|vision_start|><|image_pad|><|vision_end|>.")
    async with ScriptedServer([{"text": "one"}]) as server:
        answer = await generate(server, shown, image_data=[picture])
        refused = await generate(server, shown, image_data=[picture] * 2)
    assert answer.json()["meta_info"]["prompt_tokens"] == len(shown) + IMAGE_TOKENS - 1
    assert refused.status == 400


async def test_thinking_is_counted_where_it_is_asked_for() -> None:
    async with ScriptedServer([{"reasoning": "Well.", "content": "Done."}]) as server:
        asked = (await generate(server, prompt(), require_reasoning=True)).json()
        plain = (await generate(server, prompt())).json()
    thinking = asked["output_ids"].index(248069) + 1
    assert asked["meta_info"]["reasoning_tokens"] == thinking
    assert plain["meta_info"]["reasoning_tokens"] == 0


ABORTED = {"type": "abort", "status_code": 503, "message": "The request queue is full."}


@pytest.mark.parametrize("incremental", [True, False])
async def test_the_scheduler_gives_a_request_up_as_sglang_does(incremental: bool) -> None:
    fault = {"kind": "abort", "tokens": 2, "message": "The request queue is full.", "times": 2}
    async with ScriptedServer([{"text": "one two three", "faults": [fault]}], incremental=incremental) as server:
        answer = await generate(server, prompt(), stream=True)
        whole = await generate(server, prompt())
        chat = await http(server.url, "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
    event = Answer(200, {}, answer.events()[-2].encode(), True).json()
    assert event["meta_info"]["finish_reason"] == ABORTED
    assert event["output_ids"] == turn_ids("one two three")[1 if incremental else 0 : 2]
    assert "prompt_tokens" not in event["meta_info"]
    assert (whole.status, chat.status) == (503, 200)


async def test_a_server_without_grammars_refuses_a_tag() -> None:
    async with ScriptedServer([{"text": "one"}], info={"grammar_backend": "none"}) as server:
        assert (await http(server.url, "/server_info")).json()["grammar_backend"] == "none"
        answer = await generate(server, prompt(), stream=True, sampling_params={"structural_tag": "{}"})
    event = Answer(200, {}, answer.events()[0].encode(), True).json()
    assert event["meta_info"]["finish_reason"]["status_code"] == 400
    assert event["output_ids"] == [0]
