"""How what goes wrong between us and a model server gets its name, the same for every kind of server.

By the status, by the codes that hosts use, and by their words where that is all. A key never gets into a message:
servers like to quote it. Left out: what a server says in its own events (each kind of server's module reads that) and
trying again (`retry`).
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
    StreamCut,
)
from runtime.models.checked import parse_json
from runtime.models.http_client import Response
from runtime.models.http_wire import ConnectError, IdleError, TransportError

_MOST_SHOWN: Final = 500  # characters of a server's words
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
    "context length",  # SGLang, vLLM
    "context_length",
    "context window",
    "context size",  # llama.cpp
    "range of input length",
    "prompt is too long",
    "input is too long",
    "maximum allowed length",
    "longer than the model",
    "longer than the maximum model length",
    "too long after expanding",
)
_MONEY_WORDS: Final = ("insufficient_quota", "exceeded your current quota", "arrearage", "insufficient credits")


def shown(text: str, key: str | None = None, most: int = _MOST_SHOWN) -> str:
    """At most so many characters of a server's words, without the key."""
    key = key.strip() if key else ""
    if len(key) >= _SHORTEST_KEY:
        text = text.replace(key, "***")
    return text[:most].strip()


@dataclass(frozen=True, slots=True)
class Host:
    """Whom an error comes from, and what its text must not show."""

    url: str
    key: str | None = None
    keys: tuple[str, ...] = ("PATCHWRIGHT_API_KEY",)  # environment variables that may hold the key

    def shown(self, text: str, most: int = _MOST_SHOWN) -> str:
        return shown(text, self.key, most)

    def beginning(self, data: bytes) -> str:
        """What an answer that can't be read begins with, to be shown."""
        return self.shown(data[:20_000].decode(errors="replace"), 200)

    def unreachable(self, error: Exception) -> ModelUnreachable:
        return ModelUnreachable(
            f"No answer from {self.url} ({error}). Check that the server runs there and that this machine may "
            "reach it, or name another model."
        )

    def refusal(self, status: int, message: str, retry_after: float | None = None) -> ModelError:
        """The named error for a status of 300 or more and the server's own words."""
        said = f"{self.url} answered {status}: {self.shown(message).rstrip('.')}"
        words = message[:20_000].lower()
        if status == 402 or any(word in words for word in _MONEY_WORDS):
            return ModelRefused(f"{said}. The account has no credit left there; add some, or name another host.")
        if status in (401, 403):
            return ModelRefused(f"{said}. {self._about_keys()}")
        if status in _BUSY:
            return ModelBusy(f"{said}. It is busy or limits the rate; try again later.", retry_after)
        if status >= 500 or status == 408:
            return ModelFailed(f"{said}. The server failed; its log says why, and another try may help.")
        if status == 413 or any(word in words for word in _CONTEXT_WORDS):
            return ContextExceeded(f"{said}. Shorten the conversation or serve the model with a longer context.")
        if status == 404:
            return ModelRefused(f"{said}. Check the model's name there and the address.")
        if status < 400:
            return ModelRefused(f"{said}. It redirects; give the URL that it points to.")
        return ModelRefused(f"{said}. The same request would be refused again.")

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
        """The named error for an answer with another status than 200."""
        try:
            message = message_of(parse_json(body))
        except ValueError:
            message = body.decode(errors="replace").strip() or headers.get("location", "no message")
        return self.refusal(status, message, retry_after(headers))

    def failed(self, error: Any, status: int = 500) -> ModelError:
        """The named error for the `error` of a body or an event; its own code counts more than `status`."""
        if isinstance(error, Mapping):
            for name in ("code", "type", "status"):
                code = error.get(name)
                known = code if isinstance(code, int) else _CODES.get(str(code).lower())
                if known is not None and 300 <= known < 600:
                    status = known
                    break
        return self.refusal(status, message_of(error))

    def lost(self, error: TransportError, *, begun: bool, count: int, idle_timeout: float) -> ModelError:
        """The named error for a connection that failed; `begun`: the head had come, and `count` ids after it."""
        if isinstance(error, IdleError):
            return StreamCut(f"{self.url} sent nothing for {idle_timeout:g} s, after {count} tokens.")
        if not begun or isinstance(error, ConnectError):
            return self.unreachable(error)
        return StreamCut(f"The connection to {self.url} broke after {count} tokens ({error}).")

    def _about_keys(self) -> str:
        if self.key:
            return "The key isn't accepted for this; check what is in " + " or ".join(self.keys) + "."
        return "It wants a key: put it into the environment as " + " or ".join(self.keys) + "."


def refusal(
    url: str, status: int, message: str, retry_after: float | None = None, *, key: str | None = None
) -> ModelError:
    """`Host.refusal` where there is no host yet."""
    return Host(url, key).refusal(status, message, retry_after)


def unreachable(url: str, error: Exception) -> ModelUnreachable:
    return Host(url).unreachable(error)


async def read_refusal(host: Host, response: Response) -> ModelError:
    """The named error for an answer other than 200. Raises a `TransportError`."""
    return host.refused(response.status, response.headers, await response.read())


def words_of(body: Any) -> str:
    """The server's own words, in any of the shapes that servers and proxies give them, as far as they are shown."""
    return message_of(body)[:_MOST_SHOWN].rstrip(".")


def message_of(body: Any) -> str:
    """All of the server's words, with its code."""
    code = ""
    while isinstance(body, Mapping):
        code = str(body.get("code") or body.get("type") or "") or code
        body = next((body[name] for name in ("error", "message", "detail") if name in body), json.dumps(body))
    return f"{body} ({code})" if code else str(body)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number or a date; None where the server doesn't say."""
    value = headers.get("retry-after-ms", "").strip()
    if value.isascii() and value.isdigit():
        return int(value[:12]) / 1000
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
        return max(0.0, seconds) if seconds < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def too_long(name: str, prompt: int, context_length: int) -> ContextExceeded:
    return ContextExceeded(
        f"The prompt has {prompt} tokens and {name} takes {context_length} with its answer. "
        "Shorten the conversation or serve the model with a longer context."
    )
