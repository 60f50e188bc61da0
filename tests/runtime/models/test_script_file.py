from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.models.script_file import After, Fault, FaultKind, ScriptError, load_script, parse_script

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_list_of_turns_is_a_script() -> None:
    (conversation,) = parse_script([{"text": "a"}, {"content": "b", "repeat": 2}]).conversations
    assert [turn.text for turn in conversation.turns] == ["a", None, None]
    assert conversation.after is After.ERROR


def test_every_field() -> None:
    script = parse_script(
        {
            "name": "m",
            "context_length": 9,
            "token_delay": 0.5,
            "after": "stop",
            "turns": [
                {
                    "reasoning": "r",
                    "content": "c",
                    "calls": [{"name": "f", "arguments": {"x": 1}}],
                    "finish": "length",
                    "usage": {"prompt_tokens": 7},
                    "expect": "one",
                    "expect_new": ["two", "three"],
                    "faults": [
                        {"kind": "http", "status": 503, "retry_after": 2, "message": "busy", "times": 3},
                        {"kind": "slow", "seconds": 0.1, "times": "always"},
                    ],
                }
            ],
            "conversations": [{"match": "flask", "turns": [{"text": "t"}], "after": "repeat_last"}],
        }
    )
    flask, rest = script.conversations
    (turn,) = rest.turns
    assert (script.name, script.context_length, script.token_delay) == ("m", 9, 0.5)
    assert (flask.match, flask.after, rest.match, rest.after) == ("flask", After.REPEAT_LAST, "", After.STOP)
    assert (turn.reasoning, turn.content, turn.calls) == ("r", "c", ({"name": "f", "arguments": {"x": 1}},))
    assert (turn.ends_by_length, turn.usage) == (True, {"prompt_tokens": 7})
    assert (turn.expect, turn.expect_new) == (("one",), ("two", "three"))
    assert turn.faults == (
        Fault(FaultKind.HTTP, times=3, status=503, retry_after=2, message="busy"),
        Fault(FaultKind.SLOW, times=-1, seconds=0.1),
    )


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (7, "the script must be a JSON object, not 7"),
        ({}, "`turns` needs at least one turn"),
        ({"turns": [], "conversations": [{"turns": [{"text": "a"}]}]}, "`turns` needs at least one turn"),
        ({"turns": "x"}, "`turns` must be a list, not a text"),
        ([{"text": "a"}, {}], r"turns\[1\] is empty: give `text`"),
        ([{"text": "a", "content": "b"}], r"turns\[0\]: give either `text`"),
        ([{"text": "a<|im_end|>"}], r"turns\[0\]: leave <\|im_end\|> out"),
        ([{"txt": "a"}], r"turns\[0\]: unknown field 'txt'; the fields are .*text"),
        ([{"text": "a", "repeat": 0}], r"turns\[0\]: `repeat` must be a whole number of at least 1, not 0"),
        ([{"text": "a", "repeat": True}], r"`repeat` must be a whole number of at least 1, not true or false"),
        ([{"text": "a", "repeat": 10**9}], "more than 100000 turns"),
        ([{"text": "a", "finish": "end"}], "`finish` is 'end'; write one of stop, length"),
        ([{"text": "a", "expect": [1]}], "`expect` must be a text or a list of texts"),
        ([{"text": "a", "usage": {"tokens": 1}}], r"turns\[0\].usage: unknown field 'tokens'"),
        ([{"calls": [{"arguments": {}}]}], r"turns\[0\].calls\[0\]: `name` is missing"),
        ([{"calls": [{"name": "f", "arguments": "{}"}]}], "`arguments` must be a JSON object, not a text"),
        ([{"text": "a", "faults": [{}]}], r"turns\[0\].faults\[0\]: `kind` is missing; it is one of cut"),
        ([{"text": "a", "faults": [{"kind": "fire"}]}], "`kind` is 'fire'; write one of cut, http"),
        ([{"text": "a", "faults": [{"kind": "http", "status": 600}]}], "from 400 to 599, not 600"),
        ({"turns": [{"text": "a"}], "after": "loop"}, "`after` is 'loop'; write one of error, stop, repeat_last"),
        ({"conversations": [{"match": "a", "turns": [{"text": 1}]}]}, r"conversations\[0\].turns\[0\]: `text`"),
    ],
)
def test_a_bad_script_is_refused_with_the_place_and_the_remedy(script: Any, message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        parse_script(script)


def test_files(tmp_path: Path) -> None:
    turns = [{"text": "a"}, {"text": "b"}]
    whole, lines = tmp_path / "s.json", tmp_path / "s.jsonl"
    whole.write_text(json.dumps({"turns": turns}))
    lines.write_text("\n".join(map(json.dumps, turns)) + "\n\n")
    for path in (whole, lines):
        assert [turn.text for turn in load_script(path).conversations[0].turns] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.json", b'{"text": "a"}\n{"text": "b"}', "must end in .jsonl"),
        ("s.jsonl", b'{"text": "a"}\n{"text": ', "line 2 is not JSON"),
        ("s.json", b"\xff", "can't be read"),
    ],
)
def test_a_file_that_is_none_names_itself(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ScriptError, match=message) as caught:
        load_script(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"can't be read.*give a JSON or JSONL file"):
        load_script(tmp_path / "none.json")


def test_the_examples_load() -> None:
    examples = sorted((REPOSITORY / "examples" / "scripts").glob("*.json*"))
    assert examples
    for path in examples:
        load_script(path)
