"""Reading a call's arguments: a wrong one becomes a sentence for the model, never an exception for the run.

Left out: conversion by JSON schema, which `runtime.tool_calls` has done before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.base import Observation


class BadArgument(Exception):
    """An argument that the call can't be done with; the text tells the model which, and what is needed."""


def failure(message: str, **data: Any) -> Observation:
    """The observation of a call that could not be done as asked."""
    return Observation(f"Error: {message}".strip(), failed=True, data=data)


def text(arguments: Mapping[str, Any], name: str, *, clean: bool = True) -> str:
    """A text that has to be there. `clean` refuses NUL, which neither a path nor a command can hold."""
    value = optional_text(arguments, name, clean=clean)
    if value is None:
        given = ", ".join(f"`{key}`" for key in arguments) or "none"
        raise BadArgument(f"the argument `{name}` is missing (given: {given}).")
    return value


def optional_text(arguments: Mapping[str, Any], name: str, *, clean: bool = True) -> str | None:
    value = arguments.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadArgument(f"the argument `{name}` must be a string, not {_kind(value)}.")
    if clean and "\0" in value:
        raise BadArgument(f"the argument `{name}` holds a NUL character.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadArgument(f"the argument `{name}` holds half of a surrogate pair, which is no text.") from None
    return value


def optional_integer(arguments: Mapping[str, Any], name: str, *, least: int, most: int | None = None) -> int | None:
    """A whole number (2.0 counts, true doesn't) within bounds, or None when it isn't given."""
    value = arguments.get(name)
    if value is None:
        return None
    number = as_integer(value)
    if number is None:
        raise BadArgument(f"the argument `{name}` must be an integer, not {_kind(value)}.")
    if number < least or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"between {least} and {most}"
        raise BadArgument(f"the argument `{name}` must be {bounds}, not {number}.")
    return number


def as_integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)
