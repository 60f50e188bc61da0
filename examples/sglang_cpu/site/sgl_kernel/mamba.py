"""Gated DeltaNet on a CPU: the short convolution and the delta rule, over SGLang's pools of recurrent states.

Sequences lie one after the other; `starts` are their borders and `slots` the rows of the pools that hold their
states, below 0 for padding. The states are read, and written back in place.

The rule, for each head, with key k, value v, query q, write strength b and decay exp(g) at each token:
state <- exp(g) state;  state <- state + b (v - state k) k';  output <- state q / sqrt(width).
In a prefill the writes of CHUNK tokens depend on each other through a triangular system that is solved at once; the
state before each chunk is handed out too, since SGLang keeps one of them as a checkpoint for its prefix cache.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional

CHUNK = 64  # tokens; SGLang computes the places of checkpoints from it
_EPSILON = 1e-6


def causal_conv1d_fn_cpu(
    values: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    conv_states: torch.Tensor,
    has_initial_state: torch.Tensor | None,
    cache_indices: torch.Tensor,
    query_start_loc: torch.Tensor,
    seq_lens_cpu: Any = None,
) -> torch.Tensor:
    """Depthwise convolution over whole sequences; `values` (channels, tokens), states (slots, channels, width - 1)."""
    starts = query_start_loc.tolist()
    slots = cache_indices.tolist()
    continued = [False] * len(slots) if has_initial_state is None else has_initial_state.tolist()
    output = torch.zeros_like(values)
    for index, (start, end) in enumerate(pairwise(starts)):
        slot = slots[index]
        if slot < 0 or end <= start:
            continue
        before = conv_states[slot].to(values.dtype) if continued[index] else values.new_zeros(conv_states.shape[1:])
        whole = torch.cat((before, values[:, start:end]), dim=1)
        conv_states[slot] = whole[:, -conv_states.shape[-1] :].to(conv_states.dtype)
        convolved = functional.conv1d(
            whole.float()[None], weight.float()[:, None], None if bias is None else bias.float(), groups=len(weight)
        )
        output[:, start:end] = _activated(convolved[0], activation).to(values.dtype)
    return output


def causal_conv1d_update_cpu(
    values: torch.Tensor,
    conv_states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    conv_state_indices: torch.Tensor,
) -> torch.Tensor:
    """The same for one new token of each sequence; `values` (sequences, channels)."""
    slots = conv_state_indices.long()
    used = slots >= 0
    whole = torch.cat((conv_states[slots.clamp_min(0)].to(values.dtype), values[..., None]), dim=-1)
    convolved = (whole.float() * weight.float()).sum(-1)
    if bias is not None:
        convolved = convolved + bias.float()
    conv_states[slots[used]] = whole[used][..., 1:].to(conv_states.dtype)
    return _activated(convolved, activation).to(values.dtype)


def fused_sigmoid_gating_delta_rule_update_cpu(
    *,
    A_log: torch.Tensor,
    dt_bias: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    initial_state_source: torch.Tensor,
    initial_state_indices: torch.Tensor,
    cu_seqlens: torch.Tensor,
    use_qk_l2norm_in_kernel: bool = True,
    softplus_beta: float = 1.0,
    softplus_threshold: float = 20.0,
    **unsupported: Any,
) -> torch.Tensor:
    """One new token of each sequence; q and k (1, sequences, key heads, width), v likewise with the value heads."""
    if any(unsupported.values()):
        raise NotImplementedError(f"The stand-in for CPUs can't do speculative decoding ({', '.join(unsupported)}).")
    query, key, value = _heads(q[0], k[0], v[0], use_qk_l2norm_in_kernel)
    rate = functional.softplus(a.float() + dt_bias.float(), softplus_beta, softplus_threshold)
    decay = torch.exp(-A_log.float().exp() * rate)
    slots = initial_state_indices.long()
    used = slots >= 0
    state = initial_state_source[slots.clamp_min(0)].float() * decay[..., None, None]
    write = (value - (state @ key[..., None])[..., 0]) * torch.sigmoid(b.float())[..., None]
    state = state + write[..., :, None] * key[..., None, :]
    initial_state_source[slots[used]] = state[used].to(initial_state_source.dtype)
    return (state @ query[..., None])[..., 0].to(v.dtype)[None]


def chunk_gated_delta_rule_cpu(
    *,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    initial_state: torch.Tensor,
    cu_seqlens: torch.Tensor,
    initial_state_indices: torch.Tensor,
    head_first: bool = False,
    use_qk_l2norm_in_kernel: bool = True,
) -> tuple[torch.Tensor, None, torch.Tensor]:
    """Whole sequences: the outputs shaped as `v`, and the states before each chunk as (1, chunks, heads, V, K)."""
    if head_first:
        raise NotImplementedError("The stand-in for CPUs takes tokens before heads.")
    query, key, value = (each.transpose(0, 1) for each in _heads(q[0], k[0], v[0], use_qk_l2norm_in_kernel))
    log_decay, strength = g[0].float().t(), beta[0].float().t()
    starts, slots = cu_seqlens.tolist(), initial_state_indices.tolist()
    output = torch.zeros_like(v)
    checkpoints = []
    for slot, (start, end) in zip(slots, pairwise(starts), strict=False):
        if end <= start:
            continue
        part = slice(start, end)
        told, state, before = _delta_rule(
            query[:, part],
            key[:, part],
            value[:, part],
            log_decay[:, part],
            strength[:, part],
            initial_state[max(slot, 0)].float(),
        )
        output[0, part] = told.transpose(0, 1).to(v.dtype)
        checkpoints.append(before)
        if slot >= 0:
            initial_state[slot] = state.to(initial_state.dtype)
    empty = initial_state.new_zeros((0, *initial_state.shape[1:]), dtype=torch.float32)
    return output, None, torch.cat([empty, *checkpoints])[None]


def _delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    log_decay: torch.Tensor,
    strength: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One sequence, heads first; the state is (heads, V, K). Outputs, the state at the end, those before each chunk."""
    length = query.shape[1]
    query, key, value = _chunks(query), _chunks(key), _chunks(value)
    decay, strength = _chunks(log_decay[..., None])[..., 0].cumsum(-1), _chunks(strength[..., None])
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool).triu(1)
    between = (decay[..., :, None] - decay[..., None, :]).masked_fill(later, -torch.inf).exp()
    since_start, to_end = decay.exp()[..., None], (decay[..., -1:] - decay).exp()[..., None]
    system = ((strength * key) @ key.mT) * between  # its diagonal is taken as 1
    sides = torch.cat((strength * value, strength * key * since_start), -1)
    solved = torch.linalg.solve_triangular(system, sides, upper=False, unitriangular=True)
    written, read_before = solved.split((value.shape[-1], key.shape[-1]), -1)
    inside = (query @ key.mT) * between
    outputs, before = [], []
    for index in range(query.shape[1]):
        before.append(state)
        new = written[:, index] - read_before[:, index] @ state.mT
        outputs.append((query * since_start)[:, index] @ state.mT + inside[:, index] @ new)
        state = state * decay[:, index, -1].exp()[:, None, None] + new.mT @ (key * to_end)[:, index]
    return torch.cat(outputs, 1)[:, :length], state, torch.stack(before)


def _heads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, normalised: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """In float32, queries and keys of length one, scaled, and repeated for the value heads that share them."""
    query, key = query.float(), key.float()
    if normalised:
        query, key = _unit(query), _unit(key)
    shared = value.shape[1] // key.shape[1]
    query = query * query.shape[-1] ** -0.5
    return query.repeat_interleave(shared, 1), key.repeat_interleave(shared, 1), value.float()


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + _EPSILON)


def _chunks(each: torch.Tensor) -> torch.Tensor:
    """(heads, tokens, width) to (heads, chunks, CHUNK, width), filled up with zeros."""
    return functional.pad(each, (0, 0, 0, -each.shape[1] % CHUNK)).unflatten(1, (-1, CHUNK))


def _activated(values: torch.Tensor, activation: str | None) -> torch.Tensor:
    return functional.silu(values) if activation in ("silu", "swish") else values


KERNELS = (
    causal_conv1d_fn_cpu,
    causal_conv1d_update_cpu,
    chunk_gated_delta_rule_cpu,
    fused_sigmoid_gating_delta_rule_update_cpu,
)
