"""Errors of chat hosts as our named ones: those of every server (`refusals`), and of what speaks no such protocol.

Left out: deciding what to try again (`retry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.models import refusals
from runtime.models.base import ModelError, ModelRefused


@dataclass(frozen=True, slots=True)
class Host(refusals.Host):
    """A chat host."""

    def no_protocol(self, data: bytes) -> ModelRefused:
        return ModelRefused(
            f"{self.url} doesn't answer as an OpenAI-compatible host does: {self.beginning(data)!r}. Check that the "
            "address ends with the API's version, as in http://HOST:PORT/v1, and that nothing in between changes the "
            "answers."
        )


def error_of(host: Host, error: Any, status: int = 500) -> ModelError:
    """The named error for the `error` of a body or an event; its own code counts more than `status`."""
    return host.failed(error, status)


def refusal_of(host: Host, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """The named error for an answer with another status than 200."""
    return host.refused(status, headers, body)
