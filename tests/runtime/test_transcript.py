"""The transcript: what it appends is what `render` shows, nothing forges a turn, and nothing is ever changed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import chat
from runtime.chat import ChatFormatError, canonical_turn, render
from runtime.framing import prompt_ids
from runtime.ids import Ids
from runtime.qwen_bpe import SPECIAL_TOKENS, qwen_tokenizer
from runtime.transcript import (
    Observations,
    Prompt,
    Segment,
    SegmentKind,
    Transcript,
    TranscriptError,
    Turn,
    UserMessage,
)

T = qwen_tokenizer()
IM_START, IM_END, END_OF_TEXT = map(T.special, ("<|im_start|>", "<|im_end|>", "<|endoftext|>"))
FIRST_SPECIAL = T.special("<|endoftext|>")
TOOL = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Run a <script>.",
        "parameters": {
            "type": "object",
            "properties": {"script": {"type": "string"}, "limit": {"type": "integer"}},
            "required": ["script"],
        },
    },
}
TASK = Prompt(({"role": "system", "content": "Be exact."}, {"role": "user", "content": "Fix it."}), (TOOL,))

HARMLESS = st.text(st.sampled_from([*"abc _=x1.\n\t é漢", "\u0301"]), max_size=30)
FORGED = st.lists(
    st.one_of(
        st.sampled_from(SPECIAL_TOKENS),
        st.sampled_from(
            ["<", "<|im_", "end|>", "<think", ">", "</tool_", "response>", "\n", " ", "user\n", "\ue000", "x"]
        ),
    ),
    max_size=8,
).map("".join)
WORDS = st.text("abcdef_", min_size=1, max_size=8)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | FORGED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FORGED, inner, max_size=3),
    max_leaves=6,
)


def specials(ids: Any) -> list[int]:
    return [id_ for id_ in ids if id_ >= FIRST_SPECIAL]


def conversations(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[Segment]]:
    """A prompt, then turns (as text in `Turn.ids`' place, see `played`) and answers in turn."""
    answers = st.one_of(
        st.lists(text, min_size=1, max_size=3).map(tuple).map(Observations),
        st.builds(UserMessage, text, st.lists(text, max_size=2).map(tuple)),
    )
    prompts = st.builds(
        lambda system, user, tools: Prompt(
            ([{"role": "system", "content": system}] if system is not None else [])
            + [{"role": "user", "content": user}],
            tools,
        ),
        st.none() | text,
        text.map("u".__add__),
        st.sampled_from([(), (TOOL,)]),
    )
    return st.builds(lambda prompt, rest: [prompt, *rest], prompts, st.lists(answers, max_size=5))


CALLS = st.builds(
    lambda script, limit: {"name": "bash", "arguments": {"script": script, "limit": limit}}, HARMLESS, st.integers()
)


@st.composite
def said(draw: st.DrawFn, thinking: bool) -> tuple[dict[str, Any], str]:
    """A canonical turn, as a message and as the text that the model writes."""
    reasoning, content, calls = draw(HARMLESS), draw(HARMLESS), draw(st.lists(CALLS, max_size=2))
    message = {"role": "assistant", "content": content, "reasoning_content": reasoning if thinking else ""}
    message["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    return message, canonical_turn(reasoning if thinking else None, content, calls)


@given(conversations(HARMLESS), st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_ids_are_the_rendered_conversation(segments: list[Segment], thinking: bool, data: st.DataObject) -> None:
    transcript = Transcript(T, enable_thinking=thinking)
    prompt = segments[0]
    assert isinstance(prompt, Prompt)
    messages = [dict(message) for message in prompt.messages]
    transcript.append(prompt)
    for segment in segments[1:]:
        message, text = data.draw(said(thinking))
        transcript.append(Turn([*T.encode_with_specials(text), IM_END]))
        messages.append(message)
        transcript.append(segment)
        if isinstance(segment, Observations):
            messages += [{"role": "tool", "content": text} for text in segment.texts]
        elif isinstance(segment, UserMessage):
            messages += [{"role": "tool", "content": text} for text in segment.answers]
            messages.append({"role": "user", "content": segment.text})
    whole = render(messages, prompt.tools, enable_thinking=thinking, preserve_thinking=True)
    assert T.decode(transcript.ids) == whole
    # No text here spells a special token, so each segment by itself is cut as the whole text would be. Empty thinking
    # is the exception: the newline that ends the prompt and the one that the model writes would be one token.
    if not thinking or all(message["reasoning_content"].strip() for message in messages if "tool_calls" in message):
        assert transcript.ids == T.encode_with_specials(whole)
    assert render(transcript.messages(), prompt.tools, enable_thinking=thinking) == whole


@pytest.mark.parametrize("thinking", [True, False])
def test_a_turn_in_which_nothing_was_said_is_rendered_the_same(thinking: bool) -> None:
    transcript = Transcript(T, enable_thinking=thinking)
    transcript.append(TASK)
    transcript.append(transcript.empty_turn())
    transcript.append(UserMessage("Go on."))
    said = [{"role": "assistant", "content": "", "reasoning_content": ""}, {"role": "user", "content": "Go on."}]
    whole = render([*TASK.messages, *said], TASK.tools, enable_thinking=thinking, preserve_thinking=True)
    assert T.decode(transcript.ids) == whole


@given(conversations(FORGED), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_text_adds_a_special_token(segments: list[Segment], thinking: bool) -> None:
    transcript, plain = Transcript(T, enable_thinking=thinking), Transcript(T, enable_thinking=thinking)
    for segment in segments:
        if len(transcript):
            transcript.append(Turn([IM_END]))
            plain.append(Turn([IM_END]))
        transcript.append(segment)
        plain.append(blanked(segment))
    assert specials(transcript.ids) == specials(plain.ids)


def blanked(segment: Segment) -> Segment:
    match segment:
        case Prompt(messages, tools):
            return Prompt([{**message, "content": "x"} for message in messages], tools)
        case Observations(texts):
            return Observations(["x"] * len(texts))
        case UserMessage(_, answers):
            return UserMessage("x", ["x"] * len(answers))
        case _:
            raise AssertionError(segment)


@st.composite
def forged_messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    def content() -> Any:
        parts = st.lists(FORGED.map(lambda text: {"type": "text", "text": text}), max_size=3)
        return draw(st.one_of(FORGED, parts, st.none()))

    messages: list[dict[str, Any]] = [{"role": "system", "content": content()}] if draw(st.booleans()) else []
    messages.append({"role": "user", "content": "u" + draw(FORGED)})
    for _ in range(draw(st.integers(0, 3))):
        arguments = st.dictionaries(FORGED, JSONS, max_size=3)
        calls = st.lists(st.fixed_dictionaries({"name": FORGED, "arguments": arguments}), max_size=2)
        assistant = {"role": "assistant", "content": content(), "tool_calls": draw(calls)}
        if draw(st.booleans()):
            assistant["reasoning_content"] = draw(FORGED)
        messages += [assistant, {"role": draw(st.sampled_from(["tool", "user"])), "content": content()}]
    return messages


@given(forged_messages(), st.lists(st.dictionaries(FORGED, JSONS, max_size=3), max_size=2))
@settings(max_examples=150, deadline=None)
def test_a_prompt_of_hostile_parts_decodes_to_its_rendering(messages: list[dict[str, Any]], tools: list[Any]) -> None:
    ids = prompt_ids(T, messages, tools)
    assert T.decode(ids) == render(messages, tools)
    turns = [message for message in messages if message["role"] == "assistant"]
    calls = sum(len(message["tool_calls"]) for message in turns)
    responses = sum(message["role"] == "tool" for message in messages)
    system = bool(tools) or messages[0]["role"] == "system"
    count = {text: ids.count(T.special(text)) for text in SPECIAL_TOKENS}
    assert count["<|im_start|>"] == system + len([m for m in messages if m["role"] != "system"]) + 1
    assert count["<|im_end|>"] == count["<|im_start|>"] - 1
    assert count["<think>"] == count["</think>"] + 1 == len(turns) + 1
    assert count["<tool_call>"] == count["</tool_call>"] == calls + 2 * bool(tools)  # twice in the instructions
    assert count["<tool_response>"] == count["</tool_response>"] == responses
    assert (
        len(specials(ids))
        == sum(
            count[text] for text in ("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>")
        )
        + 2 * responses
    )


def test_pictures_are_framing_and_their_spelling_is_not() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "<|image_pad|>"},
        {"video": "y"},
    ]
    messages = [{"role": "user", "content": parts}]
    ids = prompt_ids(T, messages)
    assert T.decode(ids) == render(messages)
    assert ids.count(T.special("<|image_pad|>")) == ids.count(T.special("<|video_pad|>")) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": [{"type": "image"}]},
        {"role": "assistant", "content": "", "tool_calls": ({"name": "f"} for _ in range(1))},
        {"role": "tool", "content": iter([{"text": "x"}])},
        {"role": "tool", "content": ["text"]},
    ],
    ids=["a picture by the assistant", "calls that can be read once", "parts that can be read once", "a part as text"],
)
def test_odd_shapes_are_refused_rather_than_trusted(message: dict[str, Any]) -> None:
    with pytest.raises(ChatFormatError):
        Transcript(T).append(Prompt([{"role": "user", "content": "x"}, message]))


def test_arguments_whose_names_only_differ_in_what_is_blanked_out() -> None:
    call = {"name": "f", "arguments": {"<x": 1, "\ue000x": 2, "\ue001x": 3}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert T.decode(prompt_ids(T, messages)) == render(messages)


def test_the_bytes_between_turns_are_those_the_model_was_trained_on() -> None:
    transcript = Transcript(T)
    transcript.append(TASK)
    transcript.append(Turn([40, IM_END]))
    added = transcript.append(Observations(["  out\n", "two"]))
    assert T.decode(added) == (
        "\n<|im_start|>user\n<tool_response>\nout\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    )
    assert added[:6] == (198, 248045, 846, 198, 248066, 198)
    assert added[-7:] == (248046, 198, 248045, 74455, 198, 248068, 198)
    transcript.append(Turn([40, IM_END]))
    assert T.decode(transcript.append(UserMessage(" go on "))) == (
        "\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )


# Turns of the model


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ([40, IM_END], [40, IM_END]),
        ([40], [40, IM_END]),
        ([], [IM_END]),
        ([40, END_OF_TEXT], [40, END_OF_TEXT, IM_END]),
        ([5, 6, 40, 40], [5, 6, 40, 40, IM_END]),
    ],
)
def test_a_turn_keeps_its_ids_and_is_closed_if_it_was_cut(written: list[int], kept: list[int]) -> None:
    transcript = Transcript(T)
    before = len(transcript.append(TASK))
    assert transcript.append(Turn(written, "length")) == tuple(kept)
    assert transcript.ids[before:] == tuple(kept)


def test_a_turn_that_goes_on_after_its_end_is_refused() -> None:
    transcript = Transcript(T)
    transcript.append(TASK)
    before = transcript.ids
    with pytest.raises(TranscriptError, match="Let the server stop"):
        transcript.append(Turn([40, IM_END, 198, IM_START, 846]))
    assert transcript.ids == before
    assert len(transcript.segments) == 1


def test_text_that_is_not_what_a_tokenizer_would_give_stays() -> None:
    transcript = Transcript(T)
    transcript.append(TASK)
    odd = [71, 68, 75, 385, 198, 198, IM_END]
    transcript.append(Turn(odd))
    transcript.append(UserMessage("more"))
    assert list(transcript.ids[transcript.segments[1].start :][: len(odd)]) == odd


def test_messages_of_a_turn_with_calls() -> None:
    transcript = Transcript(T)
    transcript.append(TASK)
    text = canonical_turn("Think.", "I look.", [{"name": "bash", "arguments": {"script": "ls\n", "limit": 3}}])
    transcript.append(Turn([*T.encode_with_specials(text), IM_END]))
    transcript.append(Observations([" a.py\n"]))
    *_, assistant, tool = transcript.messages()
    assert assistant["reasoning_content"] == "Think."
    assert assistant["content"] == "I look."
    assert assistant["tool_calls"][0]["function"] == {"name": "bash", "arguments": {"script": "ls\n", "limit": 3}}
    assert tool == {"role": "tool", "tool_call_id": assistant["tool_calls"][0]["id"], "content": "a.py"}


# Order


@pytest.mark.parametrize(
    ("there", "added"),
    [
        ([], Turn([IM_END])),
        ([], Observations(["x"])),
        ([], UserMessage("x")),
        ([TASK], TASK),
        ([TASK], Observations(["x"])),
        ([TASK], UserMessage("x")),
        ([TASK, Turn([IM_END])], Turn([IM_END])),
        ([TASK, Turn([IM_END]), UserMessage("x")], UserMessage("x")),
        ([TASK, Turn([IM_END])], Observations([])),
    ],
)
def test_segments_that_do_not_fit_are_refused_and_change_nothing(there: list[Segment], added: Segment) -> None:
    transcript = Transcript(T)
    for segment in there:
        transcript.append(segment)
    before = list(transcript.ids)
    with pytest.raises(TranscriptError):
        transcript.append(added)
    assert transcript.ids == before
    assert len(transcript.segments) == len(there)


def test_segments_tell_where_their_ids_lie() -> None:
    transcript = Transcript(T)
    lengths = [len(transcript.append(segment)) for segment in (TASK, Turn([40]), Observations(["x"]))]
    placed = transcript.segments
    assert [segment.kind for segment in placed] == ["prompt", "turn", "observations"]
    assert [segment.stop - segment.start for segment in placed] == lengths
    assert [placed[0].start, placed[-1].stop] == [0, len(transcript)]
    assert placed[2].segment == Observations(["x"])


# From a record


@given(conversations(HARMLESS), st.booleans(), st.data())
@settings(max_examples=50, deadline=None)
def test_recorded_ids_give_the_same_transcript(segments: list[Segment], thinking: bool, data: st.DataObject) -> None:
    first, again = Transcript(T, enable_thinking=thinking), Transcript(T, enable_thinking=thinking)

    def both(segment: Segment) -> None:
        ids = first.encode(segment)
        assert first.append(segment) == ids
        kind = first.segments[-1].kind
        again.append_ids(str(kind), json.loads(json.dumps(ids)))

    for segment in segments:
        if len(first):
            both(Turn([*T.encode_with_specials(data.draw(said(thinking))[1]), IM_END]))
        both(segment)
    assert again.ids == first.ids
    assert [(s.kind, s.start, s.stop) for s in again.segments] == [(s.kind, s.start, s.stop) for s in first.segments]
    assert again.messages() == first.messages()


def test_damaged_records_are_refused() -> None:
    transcript = Transcript(T)
    ids = transcript.encode(TASK)
    with pytest.raises(TranscriptError, match="damaged"):
        transcript.append_ids("prompt", ids[:-1])
    with pytest.raises(TranscriptError, match="damaged"):
        Transcript(T, enable_thinking=False).append_ids("prompt", ids)
    transcript.append_ids("prompt", ids)
    with pytest.raises(TranscriptError, match="damaged"):
        transcript.append_ids("turn", [40])
    with pytest.raises(TranscriptError, match="goes on"):
        transcript.append_ids("turn", [IM_END, IM_END])
    assert transcript.messages() == list(TASK.messages)
    with pytest.raises(ValueError, match="answer"):
        transcript.append_ids("answer", ids)
    assert transcript.ids == ids


# Sharing


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), HARMLESS), max_size=25))
@settings(max_examples=100, deadline=None)
def test_forks_are_independent_and_nothing_that_was_handed_out_changes(steps: list[tuple[int, bool, str]]) -> None:
    start = Transcript(T)
    start.append(TASK)
    forks, models = [start], [list(start.ids)]
    handed_out: list[tuple[Ids, list[int], bytes]] = []
    for which, split, text in steps:
        which %= len(forks)
        if split:
            forks.append(forks[which].fork())
            models.append(list(models[which]))
        after_turn = forks[which].segments[-1].kind is SegmentKind.TURN
        segment = UserMessage(text) if after_turn else Turn(T.encode(text))
        models[which] += forks[which].append(segment)
        ids = forks[which].ids
        handed_out.append((ids, models[which][:], ids.json()))
        for fork, model in zip(forks, models, strict=True):
            assert fork.ids == model
            assert fork.segments[-1].stop == len(model)
    for ids, model, text_of_ids in handed_out:
        assert ids == model
        assert json.loads(text_of_ids) == model
        assert ids.json() == text_of_ids


@given(
    st.lists(st.tuples(st.integers(0, 6), st.lists(st.integers(0, 2**31 - 1), max_size=4), st.booleans()), max_size=30)
)
def test_ids_behave_as_the_list_that_they_stand_for(steps: list[tuple[int, list[int], bool]]) -> None:
    versions: list[tuple[Ids, list[int]]] = [(Ids(), [])]
    for which, new, look in steps:
        ids, model = versions[which % len(versions)]
        versions.append((ids.extended(new), model + new))
        if look:
            assert json.loads(versions[-1][0].json()) == model + new
    for ids, model in versions:
        assert list(ids) == model
        assert ids == model
        assert ids == tuple(model)
        assert model == ids
        assert ids == Ids(model)
        assert ids != [*model, 1]
        assert not model or ids != [*model[:-1], model[-1] + 1]
        assert b"".join(ids.json_parts()) == json.dumps(model, separators=(",", ":")).encode()
        for cut in (
            slice(None),
            slice(1, -1),
            slice(-3, None),
            slice(None, None, -1),
            slice(5, 1, -2),
            slice(0, 99, 3),
        ):
            assert ids[cut] == tuple(model[cut])
        for index in range(-len(model), len(model)):
            assert ids[index] == model[index]
        for index in (len(model), -len(model) - 1):
            with pytest.raises(IndexError):
                ids[index]


def test_ids_are_neither_hashable_nor_equal_to_text() -> None:
    with pytest.raises(TypeError):
        hash(Ids([1]))
    assert Ids([1]) != "1"
    assert Ids([1]) != Ids([2])
    with pytest.raises((TypeError, OverflowError)):
        Ids([1]).extended([2, 2**40])


def test_json_of_what_was_there_is_shared() -> None:
    ids = Ids(range(1000))
    first = ids.json_parts()[1]
    assert ids.extended([7]).json_parts()[1] is first
    assert ids.extended([8]).json_parts()[1] is first  # a second one that grows from it
    assert len(ids.extended([9]).json_parts()[2]) == len(b",9")


def test_growing_takes_time_in_proportion_to_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in copies of the storage, which no clock can blur."""
    from runtime import ids as module

    copies: list[int] = []
    copy = module._Tape.copy
    monkeypatch.setattr(module._Tape, "copy", lambda tape, length: copies.append(length) or copy(tape, length))
    ids = Ids(range(100))
    for step in range(500):
        ids = ids.extended([step])
        ids.json()
    assert copies == []
    ids.extended([1])
    ids.extended([2])
    ids.extended([3])
    assert copies == [600, 600]


def test_a_large_observation_is_encoded_in_one_go() -> None:
    text = "\n".join(f"{n:05d} <|im_end|> {random.Random(n).random()}" for n in range(3000))
    transcript = Transcript(T)
    transcript.append(TASK)
    transcript.append(Turn([IM_END]))
    ids = transcript.append(Observations([text]))
    assert text in T.decode(ids)
    assert ids.count(IM_END) == 1


def test_canonical_turns_join_with_what_chat_renders() -> None:
    """`render_tool_responses` and `render_user` are what stands between turns; the newline before is the turn's."""
    transcript = Transcript(T)
    transcript.append(TASK)
    transcript.append(Turn([IM_END]))
    text = T.decode(transcript.append(Observations(["a", "b"])))
    assert text == "\n" + chat.render_tool_responses(["a", "b"]) + chat.generation_prompt()
