"""The grammar of tool calls for constrained decoding, as the structural tag that SGLang hands to XGrammar.

Text is free up to the opening of a call; from there on only a call of a known tool can be written, its parameters
in the order of the schema. Thinking needs no rule of its own: where the server knows the model's thinking, the tag
begins to hold behind it, and elsewhere it is free text. Two things are left as they are without a constraint. A
tool without parameters may be called in any way: a grammar that wants an empty line there has made models write
empty lines without end. And what a value contains: `</parameter>` ends one here (`runtime.models.constrained` asks
again without the tag). Left out: answers in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_TRIGGER: Final = "<tool_call>\n<function="
_END: Final = "\n</function>\n</tool_call>"
_MOST_WHITE_SPACE: Final = 8  # in a row, between the tokens of JSON values


def structural_tag(specs: Sequence[Mapping[str, Any]]) -> str:
    """JSON text for `sampling_params.structural_tag`. `specs` are OpenAI-style function specs, at least one."""
    form = {"type": "triggered_tags", "triggers": [_TRIGGER], "tags": [_tag(spec["function"]) for spec in specs]}
    return json.dumps({"type": "structural_tag", "format": form}, ensure_ascii=False)


def _tag(function: Mapping[str, Any]) -> dict[str, Any]:
    name, parameters = function["name"], function.get("parameters") or {}
    begin = f"{_TRIGGER}{name}>\n"
    if not parameters.get("properties"):
        return {"type": "tag", "begin": begin, "content": {"type": "any_text"}, "end": _END.removeprefix("\n")}
    content = {
        "type": "json_schema",
        "json_schema": parameters,
        "style": "qwen_xml",
        "max_whitespace_cnt": _MOST_WHITE_SPACE,
    }
    return {"type": "tag", "begin": begin, "content": content, "end": _END}
