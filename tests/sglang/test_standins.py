"""The stand-ins for SGLang's kernels, against the rules that they compute, written token by token."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `embedded`")

import torch

SITE = Path(__file__).parents[2] / "examples" / "sglang_cpu" / "site"
HEADS, VALUE_HEADS, KEY, VALUE = 2, 4, 8, 6

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def kernels() -> Iterator[Any]:
    """The package `sgl_kernel`, for this module only."""
    sys.path.insert(0, str(SITE))
    try:
        import sgl_kernel

        yield sgl_kernel
    finally:
        sys.path.remove(str(SITE))
        for name in [name for name in sys.modules if name.partition(".")[0] == "sgl_kernel"]:
            del sys.modules[name]


def inputs(tokens: int, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "q": torch.randn(1, tokens, HEADS, KEY),
        "k": torch.randn(1, tokens, HEADS, KEY),
        "v": torch.randn(1, tokens, VALUE_HEADS, VALUE),
        "a": torch.randn(tokens, VALUE_HEADS),
        "b": torch.randn(tokens, VALUE_HEADS),
    }


LOG_DECAY, BIAS = torch.linspace(-2, 1, VALUE_HEADS), torch.linspace(-3, 0, VALUE_HEADS)


def token_by_token(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, a: torch.Tensor, b: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The rule as it is stated; the state before each token, and at the end."""
    states, outputs = [state], []
    for t in range(q.shape[1]):
        query, key = (each[0, t].repeat_interleave(VALUE_HEADS // HEADS, 0) for each in (q, k))
        query = query / (query.square().sum(-1, keepdim=True) + 1e-6).sqrt() * KEY**-0.5
        key = key / (key.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        decay = torch.exp(-LOG_DECAY.exp() * torch.log1p(torch.exp(a[t] + BIAS)))
        state = state * decay[:, None, None]
        error = v[0, t] - torch.einsum("hvk,hk->hv", state, key)
        state = state + torch.einsum("h,hv,hk->hvk", torch.sigmoid(b[t]), error, key)
        outputs.append(torch.einsum("hvk,hk->hv", state, query))
        states.append(state)
    return torch.stack(outputs), states


def prefill(
    kernels: Any, given: dict[str, torch.Tensor], pool: torch.Tensor, starts: list[int], slots: list[int]
) -> Any:
    g, beta = torch.ops.sgl_kernel.fused_gdn_gating_cpu(LOG_DECAY, given["a"], given["b"], BIAS)
    return kernels.mamba.chunk_gated_delta_rule_cpu(
        q=given["q"],
        k=given["k"],
        v=given["v"],
        g=g,
        beta=beta,
        initial_state=pool,
        cu_seqlens=torch.tensor(starts),
        initial_state_indices=torch.tensor(slots),
        head_first=False,
        use_qk_l2norm_in_kernel=True,
    )


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_a_prefill_follows_the_rule_and_hands_out_the_states_before_each_chunk(kernels: Any, length: int) -> None:
    given = inputs(length)
    pool = torch.randn(3, VALUE_HEADS, VALUE, KEY)
    expected, states = token_by_token(**given, state=pool[2].clone())
    untouched = pool[:2].clone()
    output, _, checkpoints = prefill(kernels, given, pool, [0, length], [2])
    assert torch.allclose(output[0], expected, atol=1e-4)
    assert torch.allclose(pool[2], states[-1], atol=1e-4)
    assert torch.equal(pool[:2], untouched)
    assert torch.allclose(checkpoints[0], torch.stack(states[:-1][::64]), atol=1e-4)


def test_several_sequences_are_those_alone(kernels: Any) -> None:
    given = inputs(70 + 5 + 130)
    pool = torch.randn(4, VALUE_HEADS, VALUE, KEY)
    alone, starts, slots = pool.clone(), [0, 70, 75, 205], [3, 0, 1]
    together = prefill(kernels, given, pool, starts, slots)
    parts = []
    for index, slot in enumerate(slots):
        part = slice(starts[index], starts[index + 1])
        one = {name: each[:, part] if each.ndim == 4 else each[part] for name, each in given.items()}
        parts.append(prefill(kernels, one, alone, [0, part.stop - part.start], [slot]))
    assert torch.allclose(together[0], torch.cat([part[0] for part in parts], 1), atol=1e-6)
    assert torch.allclose(together[2], torch.cat([part[2] for part in parts], 1), atol=1e-6)
    assert torch.allclose(pool, alone, atol=1e-6)


def test_a_decode_goes_on_where_a_prefill_ended_and_leaves_padding_alone(kernels: Any) -> None:
    given = inputs(2, seed=1)
    pool = torch.randn(3, VALUE_HEADS, VALUE, KEY)
    before = pool.clone()
    output = torch.ops.sgl_kernel.fused_sigmoid_gating_delta_rule_update_cpu(
        **given,
        A_log=LOG_DECAY,
        dt_bias=BIAS,
        initial_state_source=pool,
        initial_state_indices=torch.tensor([1, -1]),
        cu_seqlens=torch.tensor([0, 1, 2]),
    )
    one = {name: each[:, :1] if each.ndim == 4 else each[:1] for name, each in given.items()}
    expected, states = token_by_token(**one, state=before[1])
    assert torch.allclose(output[0, 0], expected[0], atol=1e-5)
    assert torch.allclose(pool[1], states[-1], atol=1e-5)
    assert torch.equal(pool[[0, 2]], before[[0, 2]])


def test_the_convolution_of_a_sequence_is_that_of_its_parts(kernels: Any) -> None:
    torch.manual_seed(0)
    values, weight, bias = torch.randn(5, 12), torch.randn(5, 4), torch.randn(5)
    padded = torch.nn.functional.pad(values, (3, 0))
    convolved = torch.stack([(padded[:, t : t + 4] * weight).sum(1) + bias for t in range(12)], 1)
    expected = convolved * torch.sigmoid(convolved)
    pool = torch.full((3, 5, 3), 7.0)  # what an earlier request left there must not show

    def convolve(part: torch.Tensor, continued: bool) -> torch.Tensor:
        result: torch.Tensor = kernels.mamba.causal_conv1d_fn_cpu(
            part,
            weight,
            bias,
            "silu",
            pool,
            torch.tensor([continued]),
            torch.tensor([1]),
            torch.tensor([0, part.shape[1]]),
        )
        return result

    told = [convolve(values[:, :2], False), convolve(values[:, 2:9], True)]
    told += [
        kernels.mamba.causal_conv1d_update_cpu(values[:, t][None], pool, weight, bias, "silu", torch.tensor([1])).T
        for t in range(9, 12)
    ]
    assert torch.allclose(torch.cat(told, 1), expected, atol=1e-5)
    assert torch.equal(pool[1], values[:, -3:])
    assert torch.equal(pool[0], torch.full((5, 3), 7.0))


def test_what_is_left_out_says_so(kernels: Any) -> None:
    with pytest.raises(NotImplementedError, match="verify_tree_greedy_cpu"):
        kernels.verify_tree_greedy_cpu(1)
    with pytest.raises(NotImplementedError, match="rmsnorm_cpu"):
        torch.ops.sgl_kernel.rmsnorm_cpu(1)
    assert not hasattr(torch.ops.sgl_kernel, "fused_qk_norm_rope_cpu")  # SGLang asks which kernels there are


def test_tritons_stand_in_takes_definitions_and_names_what_is_launched() -> None:
    program = """
import triton, triton.language as tl
from triton.language.extra import libdevice
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

SIZE = tl.constexpr(4)

@triton.autotune(configs=[triton.Config({"a": 1}, num_warps=2)], key=["n"])
@triton.jit
def add(a, n: tl.constexpr, kind=tl.float32): ...

class Descriptor(TensorDescriptor): ...

assert not isinstance(add, JITFunction)
assert (triton.cdiv(7, 2), triton.next_power_of_2(5), triton.next_power_of_2(1)) == (4, 8, 1)
try:
    triton.runtime.driver.active.get_current_target()
except RuntimeError as error:
    assert "0 active drivers" in str(error)
add[(1,)](2, 3)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(SITE)}, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].startswith(
        "NotImplementedError: SGLang launched its Triton kernel __main__.add"
    )
