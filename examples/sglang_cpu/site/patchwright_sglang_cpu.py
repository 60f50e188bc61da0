"""SGLang plugin: the places of Qwen3.5/3.6's text models where SGLang 0.5.23 launches Triton even on a CPU.

Loaded in each of the server's processes through the entry point `sglang.srt.plugins`. It also allows the strategy
`extra_buffer` of the recurrent states, which SGLang offers only where it has kernels for it: the stand-ins do.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def register() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    tracking = "sglang.kernels.ops.mamba.mamba_state_scatter_triton"
    for target, hook in (
        ("sglang.kernels.ops.attention.fla.layernorm_gated.rms_norm_gated", rms_norm_gated),
        ("sglang.kernels.ops.elementwise.elementwise._launch_fused_gate_sigmoid_mul", gate_sigmoid_mul),
        (f"{tracking}.track_mamba_states_if_needed", track_states_of_a_layer),
        (f"{tracking}.track_mamba_states_all_layers", track_states_of_all_layers),
        ("sglang.srt.arg_groups.mamba_hook._platform_supports_mamba_cache_extra_buffer", yes),
    ):
        HookRegistry.register(target, hook, HookType.REPLACE)
    # Nothing has to be pinned for a copy that never leaves the host, and torch refuses to without an accelerator.
    torch.Tensor.pin_memory = lambda self, *_, **__: self  # type: ignore[method-assign]


def yes() -> bool:
    return True


def rms_norm_gated(
    *,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    z: torch.Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    is_rms_norm: bool = False,
    activation: str = "swish",
) -> torch.Tensor:
    """Root-mean-square norm over the last axis, then times silu(z) or sigmoid(z)."""
    if not (is_rms_norm and norm_before_gate and group_size in (None, x.shape[-1])):
        raise NotImplementedError("The stand-in for CPUs has the gated norm of Gated DeltaNet only.")
    exact = x.float()
    normed = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + eps) * weight.float()
    if bias is not None:
        normed = normed + bias.float()
    if z is not None:
        gate = z.float().reshape(normed.shape)
        normed = normed * (torch.sigmoid(gate) if activation == "sigmoid" else functional.silu(gate))
    return normed.to(x.dtype)


def gate_sigmoid_mul(
    hidden: torch.Tensor, weight: torch.Tensor, shared: torch.Tensor, output: torch.Tensor, *, do_add: bool
) -> None:
    """The shared expert's output times its gate, put into `output` or added to it."""
    gated = torch.sigmoid(hidden.float() @ weight.float())[:, None] * shared.float()
    output.copy_(output.float() + gated if do_add else gated)


def track_states_of_a_layer(
    conv: torch.Tensor,
    ssm: torch.Tensor,
    sources: torch.Tensor,
    mask: torch.Tensor,
    targets: torch.Tensor,
    count: int,
    check_freed_slots: bool = False,
) -> None:
    """Copy the states of the sequences in `mask` to their slots for checkpoints; pools (slots, ...)."""
    _track(conv[None], ssm[None], sources, mask, targets, count)


def track_states_of_all_layers(
    conv: torch.Tensor,
    ssm: torch.Tensor,
    sources: torch.Tensor,
    mask: torch.Tensor,
    targets: torch.Tensor,
    count: int,
    check_freed_slots: bool = False,
) -> None:
    """The same for pools of (layers, slots, ...)."""
    _track(conv, ssm, sources, mask, targets, count)


def _track(
    conv: torch.Tensor,
    ssm: torch.Tensor,
    sources: torch.Tensor,
    mask: torch.Tensor,
    targets: torch.Tensor,
    count: int,
) -> None:
    source, target = sources[:count].long(), targets[:count].long()
    chosen = mask[:count].bool() & (source >= 0) & (target >= 0)
    for pool in (conv, ssm):
        pool[:, target[chosen]] = pool[:, source[chosen]]
