"""One loaded checkpoint: prefill, the sampling loop, and hybrid caches kept from one request to the next.

Three of four layers of the Qwen3.5/3.6 architecture keep a recurrent state that can't be rewound, so a kept
cache serves a prompt only if the prompt begins with exactly the ids that went into it. That is what an
append-only transcript gives: its next prompt is the last prompt, the turn and something new. In addition a copy
is kept where the first prompt of a conversation ended, for other attempts that start from the same prompt.

Imports torch at the top: `runtime.models.embedded` imports this module only when a checkpoint is loaded.
Left out: threads and streaming (`embedded`), batches, speculative decoding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from runtime.models.base import Sampling


@dataclass(frozen=True, slots=True)
class _Kept:
    """A cache and exactly the ids that went through it."""

    ids: list[int]
    cache: Any
    is_branch_point: bool  # used by copying; others are used up by the conversation that they belong to


class KeptCaches:
    """The most recently used caches, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: list[_Kept] = []  # least recently used first

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, prompt: list[int]) -> tuple[Any | None, int]:
        """A cache for the longest kept beginning of `prompt` and that beginning's length; (None, 0) if none.

        At least one id of the prompt is left over, because the next token needs its logits.
        """
        fitting = [kept for kept in self._kept if len(kept.ids) < len(prompt) and prompt[: len(kept.ids)] == kept.ids]
        if not fitting:
            return None, 0
        best = max(fitting, key=lambda kept: len(kept.ids))
        self._kept.remove(best)
        if best.is_branch_point:
            self._kept.append(best)
            return copy.deepcopy(best.cache), len(best.ids)
        return best.cache, len(best.ids)

    def keep(self, ids: list[int], cache: Any, *, is_branch_point: bool) -> None:
        if ids and self._limit:
            self._kept = [kept for kept in self._kept if kept.ids != ids]
            self._kept.append(_Kept(ids, cache, is_branch_point))
            del self._kept[: -self._limit]


@dataclass(slots=True)
class Progress:
    """What a request has used; `cached_tokens` is known once the first token comes."""

    cached_tokens: int = 0
    completion_tokens: int = 0


class Decoder:
    """A causal language model with its kept caches. One call of `tokens` at a time, from any thread."""

    def __init__(self, model: Any, *, kept_caches: int, prefill_chunk: int) -> None:
        self._model = model
        self._device = model.device
        self._prefill_chunk = prefill_chunk
        self._caches = KeptCaches(kept_caches)

    def tokens(
        self,
        prompt: list[int],
        sampling: Sampling,
        progress: Progress,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Generator[int, None, None]:
        """Endless new token ids after `prompt` (not empty); the caller decides when to stop.

        Closing it keeps the cache for the next request. Returns early only when cancelled during prefill.
        """
        cache, start = self._caches.take(prompt)
        cache = DynamicCache(config=self._model.config) if cache is None else cache
        progress.cached_tokens = start
        done = prompt[:start]
        picker = Picker(sampling, prompt)
        is_whole = True  # false while a forward pass may have changed some layers of the cache and not others
        try:
            for end in self._stops(start, len(prompt)):
                if is_cancelled():
                    return
                piece, is_whole = prompt[len(done) : end], False
                logits = self._forward(piece, cache)
                done, is_whole = done + piece, True
                if start == 0 and end == len(prompt) - 1:
                    self._caches.keep(list(done), copy.deepcopy(cache), is_branch_point=True)
            while True:
                token = picker.pick(logits)
                progress.completion_tokens += 1
                yield token
                is_whole = False
                logits = self._forward([token], cache)
                done.append(token)
                is_whole = True
        finally:
            if is_whole:
                self._caches.keep(done, cache, is_branch_point=False)

    def _stops(self, start: int, length: int) -> list[int]:
        """Ends of the prefill's pieces. The last piece of a fresh prompt is one id: its cache is copied before."""
        ends = list(range(start + self._prefill_chunk, length, self._prefill_chunk))
        if start == 0 and length > 1 and length - 1 not in ends:
            ends.append(length - 1)
        return [*ends, length]

    def _forward(self, ids: Sequence[int], cache: Any) -> torch.Tensor:
        """Logits after the last id, shape (vocabulary,), float32."""
        with torch.inference_mode():
            batch = torch.tensor([list(ids)], device=self._device)
            output = self._model(input_ids=batch, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits: torch.Tensor = output.logits[0, -1].float()
            return logits


class Picker:
    """Chooses the next token; order and meaning of the parameters are SGLang's.

    The repetition penalty counts the prompt, the presence penalty what was generated. `top_k`, `top_p` and
    `min_p` all look at the probabilities of the whole vocabulary after the temperature. Temperature 0 is greedy.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._generated: set[int] = set()
        self._seen: set[int] = set(prompt) if sampling.repetition_penalty != 1.0 else set()
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def pick(self, logits: torch.Tensor) -> int:
        with torch.inference_mode():
            logits = self._penalised(logits)
            token = int(logits.argmax()) if self._sampling.temperature == 0 else self._sampled(logits)
        self._generated.add(token)
        if self._sampling.repetition_penalty != 1.0:
            self._seen.add(token)
        return token

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        sampling = self._sampling
        if self._seen:
            index = torch.tensor(sorted(self._seen), device=logits.device)
            some = logits[index]
            factor = sampling.repetition_penalty
            logits = logits.index_copy(0, index, torch.where(some > 0, some / factor, some * factor))
        if sampling.presence_penalty and self._generated:
            index = torch.tensor(sorted(self._generated), device=logits.device)
            logits = logits.index_add(0, index, torch.full_like(logits[index], -sampling.presence_penalty))
        return logits

    def _sampled(self, logits: torch.Tensor) -> int:
        sampling = self._sampling
        every = torch.softmax(logits / sampling.temperature, -1)
        count = min(sampling.top_k, len(every)) if sampling.top_k > 0 else len(every)
        likely, index = every.topk(count)
        before = likely.cumsum(-1) - likely  # probability of all that are likelier
        keep = (before <= sampling.top_p) & (likely >= likely[0] * sampling.min_p)
        choice = torch.multinomial((likely * keep).cpu(), 1, generator=self._random)
        return int(index[choice])
