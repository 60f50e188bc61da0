"""How the scripted server reads text: its template and tokenizer, and the paths that tell them, as SGLang has them.

A script can name another template or tokenizer than Qwen's, so that clients can be tested on a server that reads
otherwise than they write. Left out: turns (`scripted_engine`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runtime.chat import ChatFormatError, render
from runtime.models.http_server import Exchange, HttpError
from runtime.models.script_file import Reading

if TYPE_CHECKING:
    from runtime.models.scripted import ScriptedServer
    from runtime.tokenizer import Tokenizer


def rendered(server: ScriptedServer, body: Mapping[str, Any]) -> str:
    """The text of a request's `messages`. Raises `HttpError`."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise HttpError(400, "`messages` must be a list of objects with `role` and `content`.")
    if server.script.template is Reading.OTHER:
        return _otherwise(messages)
    from runtime.models.scripted_chat import readable

    options = body.get("chat_template_kwargs") or {}
    try:
        return render(
            [readable(message) for message in messages],
            body.get("tools") or (),
            enable_thinking=options.get("enable_thinking", True),
            preserve_thinking=options.get("preserve_thinking", False),
        )
    except ChatFormatError as error:
        raise HttpError(400, str(error)) from error


def _otherwise(messages: Sequence[Mapping[str, Any]]) -> str:
    """Another template: who speaks and what is said, and neither tools nor thinking."""
    said = "".join(
        f"<|im_start|>{message.get('role')}\n{message.get('content') or ''}<|im_end|>\n" for message in messages
    )
    return said + "<|im_start|>assistant\n"


async def tokenize(server: ScriptedServer, exchange: Exchange) -> None:
    body = exchange.request.json()
    text = body.get("prompt")
    if "messages" in body:
        text = rendered(server, body)
    if not isinstance(text, str):
        raise HttpError(400, "`prompt` must be a text.")
    ids = server.engine.encode(text)
    await exchange.json({"tokens": ids, "count": len(ids), "max_model_len": server.script.context_length})


async def detokenize(server: ScriptedServer, exchange: Exchange) -> None:
    tokens = exchange.request.json().get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise HttpError(400, "`tokens` must be a list of ids.")
    await exchange.json({"text": server.engine.tokenizer.decode(tokens)})


async def loads(server: ScriptedServer, exchange: Exchange) -> None:
    """What runs now, as `/v1/loads` of SGLang has it."""
    await exchange.json({"loads": [{"dp_rank": 0, "num_running_reqs": server.open_requests}]})


class ShiftedTokenizer:
    """The same pieces of text under the next numbers: another vocabulary, to every client that doesn't ask."""

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        return f"{self._inner.name}-shifted"

    def encode(self, text: str) -> list[int]:
        return [token + 1 for token in self._inner.encode(text)]

    def encode_with_specials(self, text: str) -> list[int]:
        return [token + 1 for token in self._inner.encode_with_specials(text)]

    def special(self, text: str) -> int:
        return self._inner.special(text) + 1

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return self._inner.decode_bytes([token - 1 for token in ids if token])

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", "replace")
