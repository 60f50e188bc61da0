"""Parameter text to JSON values by schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.schema_values import MAX_DIGITS, convert, properties, required


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, " 12\n", " 12\n"),
        ({"type": "string"}, "null", "null"),
        ({}, "12", "12"),
        (None, "12", "12"),
        ({"type": "integer"}, "007", 7),
        ({"type": "integer"}, " -5 ", -5),
        ({"type": "integer"}, "5.0", 5),
        ({"type": "integer"}, "9007199254740993", 9007199254740993),
        ({"type": "integer"}, "1" * MAX_DIGITS, int("1" * MAX_DIGITS)),
        ({"type": "number"}, "9007199254740993", 9007199254740993),
        ({"type": "number"}, "1.5e3", 1500.0),
        ({"type": "number"}, ".5", 0.5),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "FALSE", False),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": "integer", "nullable": True}, "None", None),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "12", "12"),
        ({"type": ["string", "integer"]}, "12", 12),
        ({"type": ["integer", "number"]}, "42.5", 42.5),
        ({"anyOf": [{"type": "array"}, {"type": "null"}]}, "[1, null]", [1, None]),
        ({"oneOf": [{"type": "object"}, {"type": "string"}]}, "{not json", "{not json"),
        ({"allOf": [{"type": "integer"}]}, "3", 3),
        ({"type": "object"}, '{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ({"type": "object"}, "{'a': True, 'b': (1, None)}", {"a": True, "b": [1, None]}),
        ({"type": "object"}, "{1: 2, None: 3}", {"1": 2, "null": 3}),
        ({"type": "array"}, "[9007199254740993, 1.5]", [9007199254740993, 1.5]),
        ({"enum": [1, 2]}, "2", 2),
        ({"enum": ["a", "1"]}, "1", "1"),
        ({"const": True}, "true", True),
        ({"properties": {}}, "{}", {}),
        ({"items": {}}, "[]", []),
    ],
)
def test_values_that_fit(schema: Any, text: str, value: Any) -> None:
    converted = convert(text, schema)
    assert (converted.value, converted.complaint) == (value, None)
    assert type(converted.value) is type(value)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "boolean"}, "yes"),
        ({"type": "integer"}, "5.5"),
        ({"type": "integer"}, "1" * (MAX_DIGITS + 1)),
        ({"type": "integer"}, "1_000"),
        ({"type": "integer"}, "٣"),
        ({"type": "number"}, "1e999"),
        ({"type": "number"}, "NaN"),
        ({"type": "array"}, "[NaN]"),
        ({"type": "array"}, "[1e999]"),
        ({"type": "array"}, '{"a": 1}'),
        ({"type": "object"}, "{'a': b'x'}"),
        ({"type": "object"}, "{(1, 2): 3}"),
        ({"type": "object"}, "{1, 2}"),
        ({"type": "array"}, "[" * 5000 + "]" * 5000),
        ({"type": "array"}, "[" * 150 + "]" * 150),
        ({"type": "array"}, "[" + "1" * 5000 + "]"),
        ({"type": "array"}, "[0x" + "f" * 5000 + "]"),
        ({"type": "array"}, "[" + "-" * 50_000 + "1]"),
        ({"type": "array"}, "__import__('os').system('x')"),
        ({"enum": ["a", "b"]}, "c"),
    ],
)
def test_values_that_do_not_fit_stay_text_with_a_complaint(schema: Any, text: str) -> None:
    converted = convert(text, schema)
    assert converted.value == text
    assert converted.complaint


def test_null_where_the_schema_does_not_allow_it() -> None:
    for schema in ({"type": "number"}, {"type": "array"}):
        converted = convert("NULL", schema)
        assert converted.value is None
        assert converted.complaint is not None
        assert "null is not allowed" in converted.complaint


def test_enum_of_the_wrong_type_of_number() -> None:
    assert convert("true", {"type": "boolean", "enum": [1]}).complaint
    assert convert("1.0", {"type": "number", "enum": [1]}).complaint is None


def test_references() -> None:
    root = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/Loop"}, "c": {"$ref": "#/$defs/x~1y/0"}},
        "$defs": {
            "A": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]},
            "N": {"type": "integer"},
            "Loop": {"$ref": "#/$defs/Loop"},
            "Tree": {"type": "object", "properties": {"kids": {"items": {"$ref": "#/$defs/Tree"}}}},
            "x/y": [{"type": "boolean"}],
        },
    }
    assert convert("7", root["properties"]["a"], root).value == 7  # type: ignore[index]
    assert convert("null", {"$ref": "#/$defs/A"}, root).value is None
    assert convert("7", {"$ref": "#/$defs/Loop"}, root).value == "7"
    assert convert('{"kids": [{}]}', {"$ref": "#/$defs/Tree"}, root).value == {"kids": [{}]}
    assert convert("true", {"$ref": "#/$defs/x~1y/0"}, root).value is True
    assert convert("7", {"$ref": "http://elsewhere/x"}, root).value == "7"
    assert convert("7", {"$ref": "#/nowhere"}, root).value == "7"


def test_declared_and_required_names_through_references() -> None:
    schema = {
        "$ref": "#/$defs/Args",
        "$defs": {"Args": {"allOf": [{"properties": {"a": {}}, "required": ["a", "zz"]}]}},
    }
    assert list(properties(schema)) == ["a"]
    assert required(schema) == ("a",)


SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["null", "integer", "number", "boolean", "object", "array", "string", "x", 3]),
            "$ref": st.sampled_from(["#", "#/anyOf/0", "#/x", "", "~"]),
            "enum": st.one_of(
                st.none(), st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=2)), max_size=3)
            ),
        },
    ),
    lambda inner: st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=3)}) | st.lists(inner, max_size=2),
    max_leaves=8,
)
TEXTS = st.one_of(
    st.text(max_size=10),
    st.lists(
        st.sampled_from(["[", "]", "{", "}", "'a'", ":", ",", "1", "-", "e9", ".", "NaN", "null", "(", ")", " "])
    ).map("".join),
)


@settings(deadline=None)
@given(TEXTS, SCHEMAS)
def test_never_raises_and_is_always_json(text: str, schema: Any) -> None:
    converted = convert(text, schema)
    assert json.loads(json.dumps(converted.value, allow_nan=False)) == converted.value
