"""A chat template for servers that render conversations by themselves, made of `runtime.chat`'s own pieces.

A checkpoint that is to answer `/v1/chat/completions` needs a Jinja template. This one is ours, and gives for ordinary
conversations what `runtime.chat.render` gives: system, user, assistant and tool messages, content as text or as parts
of text and pictures, thinking, tool calls with mappings as arguments. As the family's template does, it keeps only
the thinking behind the last user message unless `preserve_thinking` is true.

Left out: odd conversations that `render` refuses or repairs, such as messages without a role.
"""

from __future__ import annotations

import json
from typing import Final

from runtime import chat

_HEAD: Final = """\
{%- macro text(content) -%}
{%- if content is string -%}{{ content }}
{%- elif content -%}
{%- for part in content -%}
{%- if part.type in ("image", "image_url") -%}{{ IMAGE }}{%- elif part.text -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- macro arguments(call) -%}
{%- for name, value in call.arguments.items() -%}
{{ "<parameter=" + name + ">\\n" }}{{ value if value is string else value | tojson }}{{ "\\n</parameter>\\n" }}
{%- endfor -%}
{%- endmacro -%}
"""
_SYSTEM: Final = """\
{%- set ns = namespace(query=-1) -%}
{%- for message in messages -%}
{%- if message.role == "user" -%}
{%- set said = text(message.content) | trim -%}
{%- if not (said.startswith(RESPONSE) and said.endswith(RESPONSE_END)) -%}
{%- set ns.query = loop.index0 -%}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- set said = text(messages[0].content) | trim if messages[0].role == "system" else "" -%}
{%- if tools -%}
{{ START + "system\\n" + TOOLS }}
{%- for tool in tools -%}{{ "\\n" }}{{ tool | tojson }}{%- endfor -%}
{{ HOW_TO_CALL + ("\\n\\n" + said if said else "") + END + "\\n" }}
{%- elif messages[0].role == "system" -%}
{{ START + "system\\n" + said + END + "\\n" }}
{%- endif -%}
"""
_TURNS: Final = """\
{%- for message in messages -%}
{%- set said = text(message.content) | trim -%}
{%- if message.role == "user" -%}
{{ START + "user\\n" + said + END + "\\n" }}
{%- elif message.role == "tool" -%}
{%- if loop.previtem is undefined or loop.previtem.role != "tool" -%}{{ START + "user" }}{%- endif -%}
{{ "\\n" + RESPONSE + "\\n" + said + "\\n" + RESPONSE_END }}
{%- if loop.nextitem is undefined or loop.nextitem.role != "tool" -%}{{ END + "\\n" }}{%- endif -%}
{%- elif message.role == "assistant" -%}
{%- if message.reasoning_content is string -%}
{%- set thought = message.reasoning_content -%}
{%- elif THINK_END in said -%}
{%- set thought = said.split(THINK_END)[0].split(THINK)[-1] -%}
{%- set said = said.split(THINK_END)[-1].lstrip("\\n") -%}
{%- else -%}
{%- set thought = "" -%}
{%- endif -%}
{{ START + "assistant\\n" }}
{%- if preserve_thinking or loop.index0 > ns.query -%}
{{ THINK + "\\n" + thought | trim + "\\n" + THINK_END + "\\n\\n" }}
{%- endif -%}
{{ said }}
{%- for each in message.tool_calls or [] -%}
{%- set call = each.function or each -%}
{{ ("\\n\\n" if said | trim else "") if loop.first else "\\n" }}{{ CALL + "\\n<function=" + call.name + ">\\n" }}
{{- arguments(call) }}{{ "</function>\\n" + CALL_END }}
{%- endfor -%}
{{ END + "\\n" }}
{%- endif -%}
{%- endfor -%}
"""
_PROMPT: Final = """\
{%- if add_generation_prompt -%}
{{ WITHOUT_THINKING if enable_thinking is false else WITH_THINKING }}
{%- endif -%}
"""


def chat_template() -> str:
    """The text of `chat_template.jinja`."""
    tools, how_to_call = _around_the_tools()
    constants = {
        "START": chat.IM_START,
        "END": chat.IM_END,
        "THINK": chat.THINK_OPEN,
        "THINK_END": chat.THINK_CLOSE,
        "CALL": chat.TOOL_CALL_OPEN,
        "CALL_END": chat.TOOL_CALL_CLOSE,
        "RESPONSE": chat.TOOL_RESPONSE_OPEN,
        "RESPONSE_END": chat.TOOL_RESPONSE_CLOSE,
        "IMAGE": chat.IMAGE,
        "TOOLS": tools,
        "HOW_TO_CALL": how_to_call,
        "WITH_THINKING": chat.GENERATION_PROMPT,
        "WITHOUT_THINKING": chat.GENERATION_PROMPT_WITHOUT_THINKING,
    }
    named = "".join("{%- set " + name + " = " + json.dumps(text) + " -%}\n" for name, text in constants.items())
    return named + _HEAD + _SYSTEM + _TURNS + _PROMPT


def _around_the_tools() -> tuple[str, str]:
    """What `runtime.chat` writes in a system turn before the tool specs, and behind them."""
    opening = f"{chat.IM_START}system\n"
    whole = chat.render_system("", [None])
    before, _, behind = whole.removeprefix(opening).removesuffix(f"{chat.IM_END}\n").partition("\nnull")
    return before, behind
