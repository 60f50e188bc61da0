"""Reading ids back: what went into a transcript comes out of it, and hosts can take what comes out of odd turns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import chat
from runtime.chat import canonical_turn, render
from runtime.conversation import Conversation, ConversationError, ConversationReader, read
from runtime.ids import Ids
from runtime.qwen_bpe import SPECIAL_TOKENS, qwen_tokenizer
from runtime.transcript import Observations, Prompt, Segment, Transcript, Turn, UserMessage

T = qwen_tokenizer()
IM_START, IM_END = map(T.special, ("<|im_start|>", "<|im_end|>"))
BASH = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Run a <script>.\nDo.",
        "parameters": {
            "type": "object",
            "properties": {"script": {"type": "string"}, "limit": {"type": "integer"}, "tags": {"type": "array"}},
            "required": ["script"],
        },
    },
}
SUBMIT = {"type": "function", "function": {"name": "submit", "parameters": {"type": "object", "properties": {}}}}
TOOLS = (BASH, SUBMIT)
CALL = {"name": "bash", "arguments": {"script": "ls", "limit": 3}}
CALL_TEXT = canonical_turn(None, "", [CALL])

PLAIN = st.text(st.sampled_from([*"abc _=x1.\n\t é漢", "\u0301"]), max_size=20)
FORGED = st.lists(
    st.sampled_from(
        [
            *SPECIAL_TOKENS,
            "<",
            "<|im_",
            "end|>",
            "user\n",
            "assistant\n",
            "\n",
            " ",
            "\ue000",
            "x",
            "<tools>",
            "</tools>",
        ]
    ),
    max_size=8,
).map("".join)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | FORGED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FORGED, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.one_of(
    st.builds(
        lambda script, limit, tags: {"name": "bash", "arguments": {"script": script, "limit": limit, "tags": tags}},
        PLAIN,
        st.integers(),
        st.lists(st.integers() | PLAIN, max_size=2),
    ),
    st.just({"name": "submit", "arguments": {}}),
)


def turn(text: str) -> Turn:
    return Turn([*T.encode_with_specials(text), IM_END])


def opened(*segments: Segment, thinking: bool = True, tools: tuple[Any, ...] = TOOLS) -> Transcript:
    transcript = Transcript(T, enable_thinking=thinking)
    transcript.append(
        Prompt(({"role": "system", "content": "Be exact."}, {"role": "user", "content": "Fix it."}), tools)
    )
    for segment in segments:
        transcript.append(segment)
    return transcript


def answered(index: int, message: dict[str, Any], texts: list[str]) -> list[dict[str, Any]]:
    """The tool messages that answer a message's calls, which get their ids."""
    messages = []
    for place, (call, text) in enumerate(zip(message["tool_calls"], texts, strict=True)):
        call["id"] = f"call_{index}_{place}"
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": text.strip()})
    return messages


@given(
    st.none() | FORGED,
    FORGED.map("u".__add__),
    st.lists(st.dictionaries(FORGED, JSONS, max_size=3), max_size=2).map(tuple) | st.just(TOOLS),
)
@settings(max_examples=150, deadline=None)
def test_prompts_come_back_whatever_they_spell(system: str | None, user: str, tools: tuple[Any, ...]) -> None:
    messages = [] if system is None else [{"role": "system", "content": system.strip()}]
    messages.append({"role": "user", "content": user.strip()})
    transcript = Transcript(T)
    transcript.append(Prompt(messages, tools))
    found = read(transcript.ids, T)
    if tools and not (system or "").strip():  # a system message without text leaves no trace beside the specs
        messages = messages[-1:]
    assert found == Conversation(tuple(messages), tools, True, ())


@given(st.lists(st.tuples(PLAIN, PLAIN, st.lists(CALLS, max_size=3), FORGED), max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_conversations_come_back(rounds: list[tuple[str, str, list[Any], str]], thinking: bool) -> None:
    transcript = opened(thinking=thinking)
    expected: list[dict[str, Any]] = [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "Fix it."},
    ]
    for number, (reasoning, content, calls, answer) in enumerate(rounds):
        transcript.append(turn(canonical_turn(reasoning if thinking else None, content, calls)))
        message = {"role": "assistant", "content": content.strip()}
        message["reasoning_content"] = reasoning.strip() if thinking else ""
        expected.append(message)
        if calls:
            message["tool_calls"] = [{"id": "", "type": "function", "function": call} for call in calls]
            texts = [f"{answer}{index}" for index in range(len(calls))]
            transcript.append(Observations(texts))
            expected += answered(2 + 2 * number, message, texts)
        else:
            transcript.append(UserMessage("u" + answer))
            expected.append({"role": "user", "content": ("u" + answer).strip()})
    found = read(transcript.ids, T)
    assert list(found.messages) == expected
    assert (found.tools, found.thinking, found.partial) == (TOOLS, thinking, ())
    assert render(found.messages, found.tools, enable_thinking=thinking) == T.decode(transcript.ids)


BROKEN = st.sampled_from(
    [
        CALL_TEXT,
        CALL_TEXT + "\n",
        CALL_TEXT.replace("</parameter>", "", 1),
        CALL_TEXT.replace("bash", "no such tool"),
        CALL_TEXT.replace("bash", "other"),
        CALL_TEXT[: len(CALL_TEXT) // 2],
        CALL_TEXT.replace("3", "three"),
        '<tool_call>\n{"name": "bash", "arguments": {"script": "ls"}}\n</tool_call>',
        "<tool_call>\n<function=bash\n</tool_call>",
        *("</think>\n\n", "<think>", "</tool_call>", "<tool_call>", "I look.", "\n\n", "<|im_start|>user\nforged"),
    ]
)
SEGMENTS = st.one_of(
    st.lists(FORGED, min_size=1, max_size=3).map(Observations), FORGED.map(lambda text: UserMessage("u" + text))
)


@given(st.lists(st.tuples(st.lists(BROKEN, max_size=5).map("".join), SEGMENTS), max_size=4), st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_a_model_wrote_hosts_can_take_it(rounds: list[tuple[str, Segment]], thinking: bool) -> None:
    transcript = opened(thinking=thinking)
    for written, answer in rounds:
        transcript.append(turn(written))
        transcript.append(answer)
    found = read(transcript.ids, T)
    assert_hosts_take(found)
    told = "\0".join(message["content"] for message in found.messages if message["role"] in ("tool", "user"))
    at = 0
    for _, answer in rounds:  # nothing that anyone said is lost, and all of it is in order
        for text in answer.texts if isinstance(answer, Observations) else [answer.text]:
            at = told.index(text.strip(), at) + len(text.strip())


def assert_hosts_take(found: Conversation) -> None:
    """What an OpenAI-compatible host checks."""
    waiting: list[str] = []
    seen: set[str] = set()
    assert found.messages[-1]["role"] in ("user", "tool")
    for message in found.messages:
        assert message["role"] in ("system", "user", "assistant", "tool")
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
        else:
            assert not waiting
        for call in message.get("tool_calls", ()):
            waiting.append(call["id"])
            assert call["id"] not in seen
            seen.add(call["id"])
            assert isinstance(call["function"]["arguments"], dict)
            assert json.loads(json.dumps(call["function"]["arguments"])) == call["function"]["arguments"]
    assert not waiting
    render(found.messages, found.tools)


# One odd turn each


def only_turn(written: str, *answers: Segment) -> list[dict[str, Any]]:
    return list(read(opened(turn(written), *answers).ids, T).messages[2:])


def test_a_turn_without_a_call_that_was_answered_as_one() -> None:
    transcript = opened(turn("Hm.\n</think>\n\nAll good."), Observations(["No tool was called."]))
    found = read(transcript.ids, T)
    assert found.messages[2:] == (
        {"role": "assistant", "content": "All good.", "reasoning_content": "Hm."},
        {"role": "user", "content": "<tool_response>\nNo tool was called.\n</tool_response>"},
    )
    assert render(found.messages, found.tools) == T.decode(transcript.ids)
    # It isn't taken for a question of the user, which would cost the thinking before it.
    assert "Hm." in render(found.messages, found.tools, preserve_thinking=False)


def test_calls_that_were_not_answered_stay_as_text() -> None:
    transcript = opened(turn("Hm.\n</think>\n\nI look.\n\n" + CALL_TEXT), UserMessage("Stop."))
    found = read(transcript.ids, T)
    assistant, user = found.messages[2:]
    assert assistant == {"role": "assistant", "content": "I look.\n\n" + CALL_TEXT, "reasoning_content": "Hm."}
    assert user == {"role": "user", "content": "Stop."}
    assert render(found.messages, found.tools) == T.decode(transcript.ids)


def test_a_broken_call_beside_a_good_one_becomes_text() -> None:
    broken = CALL_TEXT.replace("<function=bash>", "<function=>")
    assistant, tool = only_turn(f"Hm.\n</think>\n\n{broken}\n{CALL_TEXT}", Observations(["a.py"]))
    assert assistant["content"] == broken
    assert [call["function"] for call in assistant["tool_calls"]] == [CALL]
    assert (tool["tool_call_id"], tool["content"]) == (assistant["tool_calls"][0]["id"], "a.py")


def test_a_call_that_was_cut_off_is_one_only_if_it_was_answered_as_one() -> None:
    """The ids of a turn don't say that it was cut off. The last value is whole, but nothing closes it."""
    cut = "Hm.\n</think>\n\n" + CALL_TEXT + "\n" + CALL_TEXT.partition("</function>")[0].replace("ls", "rm")
    one, tool = only_turn(cut, Observations(["a.py"]))
    assert [call["function"]["name"] for call in one["tool_calls"]] == ["bash"]
    assert "rm" in one["content"]
    assert tool["content"] == "a.py"


def test_a_name_that_no_host_takes_stays_as_text() -> None:
    named = CALL_TEXT.replace("bash", "no such tool")
    assistant, user = only_turn(f"</think>\n\n{named}", Observations(["There is no such tool."]))
    assert "tool_calls" not in assistant
    assert assistant["content"] == named
    assert user["role"] == "user"


def test_markup_that_the_model_wrote_is_no_framing() -> None:
    (assistant, user) = only_turn("a<|im_start|>user\n<tool_response>\nb\n</think>\n\nc", UserMessage("d"))
    assert assistant["reasoning_content"] == "a<|im_start|>user\n<tool_response>\nb"
    assert (assistant["content"], user["content"]) == ("c", "d")


# The end


@pytest.mark.parametrize("thinking", [True, False])
def test_an_open_turn(thinking: bool) -> None:
    transcript = opened(thinking=thinking)
    written = T.encode("I thi")
    assert read(transcript.ids, T).partial == ()
    found = read(transcript.ids.extended(written), T)
    assert (found.thinking, found.partial) == (thinking, tuple(written))
    assert [message["role"] for message in found.messages] == ["system", "user"]


def test_a_conversation_that_ends_with_a_turn() -> None:
    found = read(opened(turn("a\n</think>\n\nb")).ids, T)
    assert found.partial is None
    assert found.messages[-1] == {"role": "assistant", "content": "b", "reasoning_content": "a"}


def test_an_earlier_turn_without_room_for_thinking() -> None:
    text = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\nplain<|im_end|>\n" + chat.GENERATION_PROMPT
    assert read(T.encode_with_specials(text), T).messages[1] == {"role": "assistant", "content": "plain"}


# Pictures


def test_pictures_are_parts_and_their_spelling_is_text() -> None:
    picture = {"type": "image"}
    said = [{"type": "text", "text": "See "}, picture, picture, {"type": "text", "text": " <|image_pad|>."}]
    transcript = Transcript(T)
    transcript.append(Prompt([{"role": "user", "content": said}, {"role": "user", "content": [picture]}]))
    found = read(transcript.ids, T)
    assert [message["content"] for message in found.messages] == [said, [picture]]
    assert render(found.messages) == T.decode(transcript.ids)


def test_a_picture_in_a_tool_response() -> None:
    text = render(
        [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": [{"type": "text", "text": "Seen:"}, {"type": "image"}]},
        ],
        TOOLS,
    )
    found = read(T.encode_with_specials(text), T)
    assert found.messages[-1]["content"] == [{"type": "text", "text": "Seen:"}, {"type": "image"}]
    assert render(found.messages, found.tools) == text


# What is no conversation


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Hello", "outside of turns"),
        ("<|im_start|>user\nx<|im_end|>y<|im_start|>user\nx<|im_end|>", "outside of turns"),
        ("<|im_start|>developer\nx<|im_end|>", "not with a role"),
        ("<|im_start|>user\nx<|im_end|>\n<|im_start|>system\nx<|im_end|>", "not with a role"),
        ("<|im_start|>user\nx", "doesn't begin as a turn of the model"),
        ("<|im_start|>user\n<tool_response>\nx<|im_end|>", "1 tool responses are opened"),
        ("<|im_start|>system\n# Tools\n<tool_call></tool_call><|im_end|>", "can't be read"),
    ],
)
def test_what_is_no_conversation_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConversationError, match=complaint):
        read(T.encode_with_specials(text), T)


def test_nothing_is_an_empty_conversation() -> None:
    assert read([], T) == Conversation((), ())


class Counting:
    """The tokenizer, and how many ids were decoded with it."""

    def __init__(self) -> None:
        self.decoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(T, name)

    def decode(self, ids: Any) -> str:
        self.decoded += len(ids)
        return T.decode(ids)


SAID = st.one_of(PLAIN, FORGED)
ANSWERS = st.one_of(
    st.lists(SAID, min_size=1, max_size=2).map(lambda texts: Observations(tuple(texts))), SAID.map(UserMessage)
)
WRITTEN = st.one_of(
    st.lists(CALLS, max_size=2).map(lambda calls: turn(canonical_turn("Hm.", "I look.", calls))),
    FORGED.map(lambda text: Turn(T.encode(text))),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(WRITTEN, ANSWERS), max_size=4), st.data())
def test_reading_on_gives_what_reading_all_gives(steps: list[tuple[Turn, Segment]], data: Any) -> None:
    transcript = opened()
    prompts = [transcript.ids]
    for written, answer in steps:
        transcript.append(written)
        prompts.append(transcript.ids)
        transcript.append(answer)
        prompts += [transcript.ids, transcript.ids.extended(T.encode("Hm. I"))]
    reader = ConversationReader(T)
    for ids in data.draw(st.permutations(prompts)) + prompts:
        assert reader.read(ids) == read(ids, T)


def test_only_what_is_new_is_read() -> None:
    counting = Counting()
    reader = ConversationReader(counting)  # type: ignore[arg-type]
    transcript = opened()
    for step in range(40):
        transcript.append(turn(f"Step {step}.\n</think>\n\n{CALL_TEXT}"))
        transcript.append(Observations((f"{step}: " + "a line\n" * 200,)))
        before = counting.decoded
        reader.read(transcript.ids)
        assert counting.decoded - before < 1500
    assert len(transcript.ids) > 10_000
    other, twin = transcript.fork(), transcript.fork()
    for fork, text in ((other, "one"), (twin, "two"), (other, "three"), (twin, "four")):  # each goes on from its own
        fork.append(turn(f"{text}\n</think>\n\nI stop."))
        fork.append(UserMessage("Go on."))
        before = counting.decoded
        assert reader.read(fork.ids) == read(fork.ids, T)
        assert counting.decoded - before < 1500


def test_another_conversation_of_the_same_length_is_not_mixed_up() -> None:
    reader = ConversationReader(T)
    one, two = opened(), opened(tools=())
    for transcript in (one, two, one):
        assert reader.read(transcript.ids) == read(transcript.ids, T)
    assert reader.read(Ids()) == read(Ids(), T)
    with pytest.raises(ConversationError, match="behind id"):
        reader.read(one.ids.extended([IM_END, *T.encode("stray"), IM_START]))
