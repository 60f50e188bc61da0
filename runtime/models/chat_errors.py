"""Errors of chat hosts as our named ones: by status, by the codes they use, and by their words where that is all.

A key never gets into a message: hosts like to quote it. Left out: deciding what to try again (`retry`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from runtime.models.base import (
    ContextExceeded,
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelRefused,
    ModelUnreachable,
)

_MOST_SHOWN: Final = 500  # characters of a host's words
_SHORTEST_KEY: Final = 6  # what is shorter isn't hidden, since it would turn up everywhere
_BUSY: Final = (429, 503, 529)
_CODES: Final = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "insufficient_quota": 402,
    "invalid_api_key": 401,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "model_not_found": 404,
    "invalid_request_error": 400,
    "server_error": 500,
    "internal_error": 500,
}
_CONTEXT_WORDS: Final = (
    "context length",
    "context_length",
    "context window",
    "context size",
    "range of input length",
    "prompt is too long",
    "input is too long",
    "maximum allowed length",
    "longer than the model",
)
_MONEY_WORDS: Final = ("insufficient_quota", "exceeded your current quota", "arrearage", "insufficient credits")


@dataclass(frozen=True, slots=True)
class Host:
    """Whom an error comes from, and what its text must not show."""

    url: str
    key: str | None = None
    keys: tuple[str, ...] = ()  # environment variables that may hold the key

    def shown(self, text: str) -> str:
        text = text[: 20 * _MOST_SHOWN]
        if self.key and len(self.key) >= _SHORTEST_KEY:
            text = text.replace(self.key, "***")
        return text[:_MOST_SHOWN].strip()

    def unreachable(self, error: Exception) -> ModelUnreachable:
        return ModelUnreachable(
            f"No answer from {self.url} ({error}). Check the address and that this machine may reach it, or name "
            "another model."
        )

    def refusal(self, status: int, message: str, retry_after: float | None = None) -> ModelError:
        """The named error for a status and the host's own words."""
        said = f"{self.url} answered {status}: {self.shown(message).rstrip('.')}"
        words = message.lower()
        if status == 402 or any(word in words for word in _MONEY_WORDS):
            return ModelRefused(f"{said}. The account has no credit left there; add some, or name another host.")
        if status in (401, 403):
            return ModelRefused(f"{said}. {self._about_keys()}")
        if status in _BUSY:
            return ModelBusy(f"{said}. It is busy or limits the rate; try again later.", retry_after)
        if status >= 500 or status == 408:
            return ModelFailed(f"{said}. The host failed; another try may help.")
        if status == 413 or any(word in words for word in _CONTEXT_WORDS):
            return ContextExceeded(f"{said}. Shorten the conversation, or use a model with a longer context.")
        if status == 404:
            return ModelRefused(f"{said}. Check the model's name there and the address.")
        if status < 400:
            return ModelRefused(f"{said}. It redirects; give the URL that it points to.")
        return ModelRefused(f"{said}. The same request would be refused again.")

    def no_protocol(self, data: bytes) -> ModelRefused:
        shown = self.shown(data[:2000].decode(errors="replace"))[:200]
        return ModelRefused(
            f"{self.url} doesn't answer as an OpenAI-compatible host does: {shown!r}. Check that the address ends "
            "with the API's version, as in http://HOST:PORT/v1, and that nothing in between changes the answers."
        )

    def _about_keys(self) -> str:
        if self.key:
            return "The key isn't accepted for this; check what is in " + " or ".join(self.keys) + "."
        return "It wants a key: put it into the environment as " + " or ".join(self.keys) + "."


def error_of(host: Host, error: Any, status: int = 500) -> ModelError:
    """The named error for the `error` of a body or an event; its own code counts more than `status`."""
    if isinstance(error, Mapping):
        for key in ("code", "type", "status"):
            code = error.get(key)
            known = code if isinstance(code, int) else _CODES.get(str(code).lower())
            if known is not None and 300 <= known < 600:
                status = known
                break
    return host.refusal(status, message_of(error))


def message_of(body: Any) -> str:
    """The host's words in any of the shapes that hosts and proxies give them, with its code."""
    code = ""
    while isinstance(body, Mapping):
        code = str(body.get("code") or body.get("type") or "") or code
        body = next((body[key] for key in ("error", "message", "detail") if key in body), json.dumps(body))
    return f"{body} ({code})" if code else str(body)


def refusal_of(host: Host, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """The named error for an answer with another status than 200."""
    try:
        message = message_of(json.loads(body))
    except ValueError:
        message = body.decode(errors="replace").strip() or headers.get("location", "no message")
    return host.refusal(status, message, retry_after(headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number or a date; None where the host doesn't say."""
    value = headers.get("retry-after-ms", "").strip()
    if value.isascii() and value.isdigit():
        return int(value) / 1000
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
