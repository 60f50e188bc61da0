"""A model around another: what wrappers have in common. A subclass adds `stream`, and closing it closes the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.models.base import HostFacts, Model
    from runtime.tokenizer import Tokenizer


class Around:
    """Passes on what the inner model says of itself."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def tokenizer(self) -> Tokenizer:
        return self._model.tokenizer

    @property
    def context_length(self) -> int:
        return self._model.context_length

    @property
    def facts(self) -> HostFacts:
        return self._model.facts

    async def close(self) -> None:
        await self._model.close()
