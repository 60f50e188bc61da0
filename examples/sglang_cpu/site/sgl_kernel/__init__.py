"""Stand-in for SGLang's compiled CPU kernels: what a Qwen3.5/3.6 text model calls, in plain PyTorch.

SGLang 0.5.23 imports `sgl_kernel` wherever it runs on a CPU, and the registry has only CUDA builds of it. Its
model code reaches the kernels as `torch.ops.sgl_kernel.NAME` or by import; both are served here, by names and
signatures that SGLang calls (pinned to ==0.5.23). Everything is computed in float32 and rounded to the input's type.

Left out: attention and experts (SGLang has PyTorch versions of its own), quantised weights, speculative decoding,
pictures. What is imported but left out raises `NotImplementedError` when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch

from sgl_kernel import mamba, operators

__version__ = "0.0.0+patchwright"

_IMPORTED = (
    "assign_draft_cache_locs_contiguous_cpu",
    "assign_extend_cache_locs_cpu",
    "build_draft_decode_metadata_cpu",
    "build_tree_kernel_efficient_cpu",
    "copy_all_layer_kv_cache_cpu",
    "fill_accept_out_cache_loc_cpu",
    "fill_bonus_tokens_cpu",
    "reconstruct_indices_from_tree_mask",
    "rotate_input_ids_cpu",
    "verify_tree_greedy_cpu",
)
_OPERATORS = (
    "apply_rotary_pos_emb_cpu",
    "conv3d_embed_cpu",
    "flash_attn_varlen_func",
    "fused_dual_residual_rmsnorm_cpu",
    "fused_moe_router_cpu",
    "murmur_hash32_cpu",
    "rmsnorm_cpu",
)


def assign_req_to_token_pool_cpu(
    requests: torch.Tensor, pool: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, slots: torch.Tensor, _: int
) -> None:
    """Write each request's new slots, which come one request after the other, into its row of the pool."""
    taken = 0
    for request, start, end in zip(requests.tolist(), starts.tolist(), ends.tolist(), strict=True):
        pool[request, start:end] = slots[taken : taken + end - start].to(pool.dtype)
        taken += end - start


def _absent(name: str) -> Callable[..., NoReturn]:
    def absent(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            f"SGLang called its kernel {name}, and the stand-in for CPUs has none. It covers Qwen3.5/3.6 text models "
            "with the settings of examples/sglang_cpu/README.md."
        )

    absent.__name__ = name
    return absent


def _register() -> None:
    for name in _IMPORTED:
        globals()[name] = _absent(name)
    for name in _OPERATORS:
        setattr(torch.ops.sgl_kernel, name, _absent(name))
    for kernel in (*operators.KERNELS, *mamba.KERNELS):
        setattr(torch.ops.sgl_kernel, kernel.__name__, kernel)


_register()
