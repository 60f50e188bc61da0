"""Around attention: norms of queries and keys, gates, splits of projections."""

from __future__ import annotations

import torch
from torch.nn import functional


def fused_sigmoid_mul_cpu(values: torch.Tensor, gate: torch.Tensor) -> None:
    """values *= sigmoid(gate), in place; the gate may have its heads in an axis of their own."""
    values.mul_(torch.sigmoid(gate.reshape(values.shape)))


def fused_qk_gemma_rmsnorm_cpu(
    queries: torch.Tensor,
    keys: torch.Tensor,
    query_weight: torch.Tensor,
    key_weight: torch.Tensor,
    epsilon: float,
    width: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both normalised per head, as (tokens * heads, width)."""
    return (
        _gemma_norm(queries.reshape(-1, width), query_weight, epsilon),
        _gemma_norm(keys.reshape(-1, width), key_weight, epsilon),
    )


def fused_qk_gemma_rmsnorm_with_gate_cpu(
    queries_and_gates: torch.Tensor,
    keys: torch.Tensor,
    query_weight: torch.Tensor,
    key_weight: torch.Tensor,
    epsilon: float,
    width: int,
    heads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries and keys normalised per head, and the gate, which lies behind each head's query."""
    tokens = queries_and_gates.shape[0]
    queries, gate = queries_and_gates.reshape(tokens, heads, 2 * width).chunk(2, dim=-1)
    return (
        _gemma_norm(queries, query_weight, epsilon),
        _gemma_norm(keys.reshape(tokens, -1, width), key_weight, epsilon),
        gate.contiguous(),
    )


def _gemma_norm(values: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Root-mean-square norm whose weight is stored as its distance from one."""
    exact = values.float()
    scale = torch.rsqrt(exact.square().mean(-1, keepdim=True) + epsilon)
    return (exact * scale * (1.0 + weight.float())).to(values.dtype)


def fused_qkvzba_split_reshape_cat_contiguous_cpu(
    qkvz: torch.Tensor, ba: torch.Tensor, key_heads: int, value_heads: int, key_width: int, value_width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The two input projections of a Gated DeltaNet layer as (q,k,v), z, b and a."""
    split = 2 * key_heads * key_width + value_heads * value_width
    z = qkvz[:, split:].reshape(-1, value_heads, value_width)
    return (
        qkvz[:, :split].contiguous(),
        z.contiguous(),
        ba[:, :value_heads].contiguous(),
        ba[:, value_heads:].contiguous(),
    )


def fused_gdn_gating_cpu(
    log_decay: torch.Tensor, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logarithm of each token's decay (float32) and its write strength, both as (1, tokens, heads)."""
    g = -log_decay.float().exp() * functional.softplus(a.float() + bias.float())
    return g.unsqueeze(0), torch.sigmoid(b.float()).to(b.dtype).unsqueeze(0)


KERNELS = (
    fused_sigmoid_mul_cpu,
    fused_qk_gemma_rmsnorm_cpu,
    fused_qk_gemma_rmsnorm_with_gate_cpu,
    fused_qkvzba_split_reshape_cat_contiguous_cpu,
    fused_gdn_gating_cpu,
)
