"""The gated delta rule for training on a CPU: transformers' result, with a backward pass that is linear in length.

Transformers' reference indexes one tensor once per chunk; the gradient of each such index is a tensor of the whole
length, so a step costs the square of the number of chunks. Splitting once and joining once takes a third off a step.
Only what training needs: no state before, none after.

The rule, for each head, with key k, value v, query q, write strength b and decay exp(g) at each token:
state <- exp(g) state;  state <- state + k b (v - k state);  output <- q state / sqrt(width).
In a chunk the writes depend on each other through a triangular system, which is solved for all chunks at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as modeling

CHUNK = 64
_EPSILON = 1e-6


@contextmanager
def fast_delta_rule() -> Iterator[None]:
    """While this is open, the networks of this process use the function below."""
    reference = modeling.torch_chunk_gated_delta_rule
    modeling.torch_chunk_gated_delta_rule = chunked_delta_rule
    try:
        yield
    finally:
        modeling.torch_chunk_gated_delta_rule = reference


def chunked_delta_rule(
    query: Any, key: Any, value: Any, g: Any, beta: Any, initial_state: Any = None, **_: Any
) -> tuple[Any, None]:
    """Outputs as (batch, tokens, heads, width); query and key (batch, tokens, heads, width) are normalised here."""
    if initial_state is not None:
        raise NotImplementedError("This delta rule is for training: it starts without a state.")
    length = query.shape[1]
    query, key, value = (_chunks(each) for each in (_unit(query) * query.shape[-1] ** -0.5, _unit(key), value))
    decay, write = _chunks(g).cumsum(-1), _chunks(beta)[..., None]
    upper = torch.ones(CHUNK, CHUNK, dtype=torch.bool).triu(1)
    between = (decay[..., :, None] - decay[..., None, :]).masked_fill(upper, -torch.inf).exp()
    since_start, to_end = decay.exp()[..., None], (decay[..., -1:] - decay).exp()[..., None]
    system = ((write * key) @ key.mT) * between  # its diagonal is taken as 1
    sides = torch.cat((write * value, write * key * since_start), -1)
    solved = torch.linalg.solve_triangular(system, sides, upper=False, unitriangular=True)
    written, read_before = solved.split((value.shape[-1], key.shape[-1]), -1)
    inside = (query @ key.mT) * between
    parts = (written, read_before, query * since_start, inside, (key * to_end).mT, decay[..., -1].exp())
    outputs = _scan(zip(*(part.unbind(2) for part in parts), strict=True))
    whole = torch.stack(outputs, 2).flatten(2, 3)[:, :, :length]
    return whole.transpose(1, 2), None


def _scan(chunks: Iterator[tuple[Any, ...]]) -> list[Any]:
    """Carry the state from chunk to chunk."""
    outputs: list[Any] = []
    state: Any = 0.0
    for written, read_before, query, inside, key, decay in chunks:
        if not outputs:
            state = written.new_zeros(*key.shape[:-1], written.shape[-1])
        new = written - read_before @ state
        outputs.append(query @ state + inside @ new)
        state = state * decay[..., None, None] + key @ new
    return outputs


def _unit(vectors: Any) -> Any:
    return vectors * torch.rsqrt((vectors * vectors).sum(-1, keepdim=True) + _EPSILON)


def _chunks(each: Any) -> Any:
    """(batch, tokens, heads, ...) to (batch, heads, chunks, CHUNK, ...), filled up with zeros."""
    each = each.transpose(1, 2)
    missing = -each.shape[2] % CHUNK
    filled = functional.pad(each, (0, 0) * (each.ndim - 3) + (0, missing))
    return filled.unflatten(2, (-1, CHUNK))
