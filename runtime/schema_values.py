"""Text of one tool-call parameter to a JSON value, by the parameter's JSON schema and by nothing else.

The look of a value never decides its type: `03106` stays text where the schema says string. A value that
does not fit its schema is returned as the text it was, together with a sentence about what was wrong, so
that the caller can tell the model. Nothing here raises, for any text and any schema, however malformed, and
whatever comes back is safe for `json.dumps`: no NaN, no infinity, no tuples, bounded depth and digits.

Left out: validation of the insides of objects and arrays. The tool that receives the value does that.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

MAX_DIGITS = 4000  # CPython refuses to print or read integers of more than 4300 digits
MAX_DEPTH = 100  # of a decoded value; far below where json.dumps would hit the recursion limit
MAX_LITERAL = 200_000  # characters of a Python literal that we are willing to hand to the compiler
MAX_SCHEMA_NODES = 500  # visited while the types of one parameter are worked out

_TYPES = ("null", "integer", "number", "boolean", "object", "array", "string")
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_INTEGRAL = re.compile(r"([+-]?[0-9]+)\.0*\Z")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?\Z")


class _Unfit(Exception):
    """The text is not a value of the type that was tried."""


@dataclass(frozen=True)
class Converted:
    """A JSON value and, where it does not fit its schema, what the schema wanted (else None)."""

    value: JSON
    complaint: str | None = None


def convert(text: str, schema: object, root: object = None) -> Converted:
    """`text` as a value of `schema`; `$ref`s are looked up in `root` (the tool's whole parameter schema).

    Types are tried from the narrowest to string: null, integer, number, boolean, object, array, string.
    A schema without any type counts as string. Case and surrounding blanks of null, numbers and booleans
    don't matter; a string is kept byte for byte.
    """
    nodes = list(_walk(schema, schema if root is None else root))
    types = _types(nodes)
    if not types or types == {"string"}:
        return Converted(text, _enum_complaint(text, nodes))
    for kind in _TYPES:
        if kind in types:
            try:
                value = _READERS[kind](text)
            except _Unfit:
                continue
            return Converted(value, _enum_complaint(value, nodes))
    wanted = " or ".join(kind for kind in _TYPES if kind in types)
    if text.strip().lower() == "null":
        return Converted(None, f"null is not allowed, a value of type {wanted} is")
    return Converted(text, f"the text is not a value of type {wanted}")


def properties(schema: object) -> dict[str, object]:
    """Name to schema of every parameter that a tool's parameter schema declares, also through $ref and allOf."""
    found: dict[str, object] = {}
    for node in _walk(schema, schema):
        declared = node.get("properties")
        if isinstance(declared, Mapping):
            for name, child in declared.items():
                if isinstance(name, str):
                    found.setdefault(name, child)
    return found


def required(schema: object) -> tuple[str, ...]:
    """Names that a tool's parameter schema requires (those that it also declares)."""
    declared = properties(schema)
    names: dict[str, None] = {}
    for node in _walk(schema, schema, branches=("allOf",)):
        listed = node.get("required")
        if isinstance(listed, list | tuple):
            names.update({name: None for name in listed if isinstance(name, str) and name in declared})
    return tuple(names)


def is_text(schema: object, root: object) -> bool:
    """Whether every text is a value of this schema."""
    types = _types(list(_walk(schema, root)))
    return not types or "string" in types


def _walk(
    schema: object, root: object, branches: tuple[str, ...] = ("allOf", "anyOf", "oneOf")
) -> Iterator[Mapping[str, Any]]:
    """The schema and every subschema that speaks about the same value, each once; loops of $ref end."""
    seen: set[int] = set()
    queue = [schema]
    while queue and len(seen) < MAX_SCHEMA_NODES:
        node = queue.pop(0)
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node.get("$ref"), str):
            queue.append(_resolve(node["$ref"], root))
        for key in branches:
            if isinstance(node.get(key), list | tuple):
                queue.extend(node[key])


def _resolve(ref: str, root: object) -> object:
    """What a local JSON pointer such as `#/$defs/Config` points to, or None."""
    if not ref.startswith("#"):
        return None
    node = root
    for part in ref[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list | tuple) and key.isascii() and key.isdigit() and len(key) < 6:
            node = node[int(key)] if int(key) < len(node) else None
        else:
            return None
    return node


def _types(nodes: list[Mapping[str, Any]]) -> set[str]:
    """Every type that some node allows; types that only enum, const, properties or items imply count too."""
    found: set[str] = set()
    for node in nodes:
        declared = node.get("type")
        names = declared if isinstance(declared, list | tuple) else [declared]
        found.update(name for name in names if isinstance(name, str) and name in _TYPES)
        if node.get("nullable") is True:
            found.add("null")
    if found - {"null"}:
        return found
    for node in nodes:
        found.update(_type_of(member) for member in _members(node))
        if isinstance(node.get("properties"), Mapping):
            found.add("object")
        if "items" in node or "prefixItems" in node:
            found.add("array")
    return found


def _members(node: Mapping[str, Any]) -> list[object]:
    listed = node.get("enum")
    members = list(listed) if isinstance(listed, list | tuple) else []
    return [*members, node["const"]] if "const" in node else members


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    by_class: tuple[tuple[type, str], ...] = (
        (bool, "boolean"), (int, "integer"), (float, "number"), (Mapping, "object"), (list, "array"),
    )  # fmt: skip
    return next((name for cls, name in by_class if isinstance(value, cls)), "string")


def _enum_complaint(value: JSON, nodes: list[Mapping[str, Any]]) -> str | None:
    members = [member for node in nodes for member in _members(node)]
    if not members or any(_same(member, value) for member in members):
        return None
    if len(nodes) > 1 and not all(_members(node) or not _types([node]) for node in nodes):
        return None  # some other branch of a union may allow the value freely
    shown = ", ".join(_show(member) for member in members[:20])
    return f"the value is not one of {shown}"


def _same(member: object, value: JSON) -> bool:
    """Equality as JSON has it: 1 is 1.0 and not true."""
    return isinstance(member, bool) == isinstance(value, bool) and member == value


def _show(member: object) -> str:
    try:
        return json.dumps(member, ensure_ascii=False)[:80]
    except (TypeError, ValueError, RecursionError):
        return str(type(member).__name__)


def _read_null(text: str) -> JSON:
    if text.strip().lower() in ("null", "none"):
        return None
    raise _Unfit


def _read_integer(text: str) -> JSON:
    text = text.strip()
    integral = _INTEGRAL.match(text)
    digits = integral.group(1) if integral else text
    if len(digits) > MAX_DIGITS or not _INTEGER.match(digits):
        raise _Unfit
    return int(digits)


def _read_number(text: str) -> JSON:
    text = text.strip()
    if len(text) <= MAX_DIGITS and _INTEGER.match(text):
        return int(text)
    if len(text) > MAX_DIGITS or not _NUMBER.match(text):
        raise _Unfit
    value = float(text)
    if not math.isfinite(value):
        raise _Unfit
    return value


def _read_boolean(text: str) -> JSON:
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise _Unfit
    return word == "true"


def _read_string(text: str) -> JSON:
    return text


def _read_object(text: str) -> JSON:
    value = _decode(text)
    if not isinstance(value, dict):
        raise _Unfit
    return value


def _read_array(text: str) -> JSON:
    value = _decode(text)
    if not isinstance(value, list):
        raise _Unfit
    return value


_READERS: dict[str, Callable[[str], JSON]] = {
    "null": _read_null, "integer": _read_integer, "number": _read_number, "boolean": _read_boolean,
    "object": _read_object, "array": _read_array, "string": _read_string,
}  # fmt: skip


def _decode(text: str) -> JSON:
    """JSON, else a Python literal (models write `{'a': True}`), else _Unfit."""
    try:
        raw = json.loads(text, strict=False, parse_int=_read_integer, parse_float=_read_number, parse_constant=_refuse)
    except (ValueError, RecursionError, _Unfit):
        raw = _literal(text)
    return _json_safe(raw, 0)


def _refuse(constant: str) -> None:
    raise _Unfit(constant)


def _literal(text: str) -> object:
    text = text.strip()
    if len(text) > MAX_LITERAL:
        raise _Unfit
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise _Unfit from error


def _json_safe(value: object, depth: int) -> JSON:
    """The value with tuples and sets as lists and keys as text; _Unfit where JSON has no such thing."""
    if depth > MAX_DEPTH:
        raise _Unfit
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if value.bit_length() > MAX_DIGITS * 3:
            raise _Unfit
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [_json_safe(item, depth + 1) for item in value]
    if isinstance(value, set):
        return [_json_safe(item, depth + 1) for item in sorted(value, key=repr)]
    if isinstance(value, dict):
        return {_key(key): _json_safe(item, depth + 1) for key, item in value.items()}
    raise _Unfit


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool | int):
        return json.dumps(_json_safe(key, 0))
    raise _Unfit
