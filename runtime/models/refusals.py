"""How what goes wrong between us and a model server gets its name, the same for every kind of server.

Left out: what a server says in its own events (each kind of server's module reads that) and trying again (`retry`).
"""

from __future__ import annotations

import json
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
from runtime.models.http_client import Response
from runtime.models.http_wire import ConnectError, IdleError, TransportError

_CONTEXT_WORDS: Final = (
    "context length",  # SGLang, vLLM
    "context size",  # llama.cpp
    "longer than the model",
    "longer than the maximum model length",
    "exceeds the maximum allowed length",
    "too long after expanding",
)


def unreachable(url: str, error: Exception) -> ModelUnreachable:
    return ModelUnreachable(
        f"No answer from {url} ({error}). Check that the server runs there and that this machine may "
        "reach it, or name another model."
    )


def refusal(url: str, status: int, message: str, retry_after: float | None = None) -> ModelError:
    """The named error for an HTTP status of 300 or more and the server's own words."""
    said = f"{url} answered {status}: {message}"
    if status in (429, 503):
        return ModelBusy(f"{said}. It is busy; try again later.", retry_after)
    if status >= 500:
        return ModelFailed(f"{said}. The server failed; its log says why.")
    if any(words in message for words in _CONTEXT_WORDS):
        return ContextExceeded(f"{said}. Shorten the conversation or serve the model with a longer context.")
    if status in (401, 403):
        return ModelRefused(f"{said}. It wants a key; put the right one into PATCHWRIGHT_API_KEY.")
    if status < 400:
        return ModelRefused(f"{said}. It redirects; give the URL that it points to.")
    return ModelRefused(f"{said}. The same request would be refused again.")


async def read_refusal(url: str, response: Response) -> ModelError:
    """The named error for an answer other than 200. Raises a `TransportError`."""
    body = await response.read()
    try:
        message = words_of(json.loads(body))
    except ValueError:
        message = body[:500].decode(errors="replace").strip() or response.headers.get("location", "no message")
    try:
        retry_after = float(response.headers.get("retry-after", ""))
    except ValueError:
        retry_after = None
    return refusal(url, response.status, message, retry_after)


def refusal_in_stream(url: str, event: dict[str, Any]) -> ModelError:
    """The named error for an event with `error` in it."""
    error = event["error"]
    status = error.get("code") if isinstance(error, dict) else None
    return refusal(url, status if isinstance(status, int) else 400, words_of(event))


def words_of(body: Any) -> str:
    """The server's own words in any of the shapes that SGLang, vLLM, llama.cpp, FastAPI and proxies give them."""
    while isinstance(body, dict):
        body = next((body[key] for key in ("error", "message", "detail") if key in body), json.dumps(body)[:500])
    return str(body).rstrip(".")


def lost(url: str, error: TransportError, *, begun: bool, count: int, idle_timeout: float) -> ModelError:
    """The named error for a connection that failed; `begun`: the answer's head had come, and `count` ids after it."""
    if isinstance(error, IdleError):
        return StreamCut(f"{url} sent nothing for {idle_timeout:g} s, after {count} tokens.")
    if not begun or isinstance(error, ConnectError):
        return unreachable(url, error)
    return StreamCut(f"The connection to {url} broke after {count} tokens ({error}).")


def too_long(name: str, prompt: int, context_length: int) -> ContextExceeded:
    return ContextExceeded(
        f"The prompt has {prompt} tokens and {name} takes {context_length} with its answer. "
        "Shorten the conversation or serve the model with a longer context."
    )
