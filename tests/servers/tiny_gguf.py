"""A tiny hybrid model of Qwen3.5's architecture as a GGUF, with Qwen3.6's tokenizer: `python -m ... OUT GGUF_PY`.

The weights are `chain_model`'s. `GGUF_PY` is the folder `gguf-py` of llama.cpp's sources, which writes the format and
needs numpy only. Left out: experts, multi-token prediction, quantisation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from examples.checkpoints.chat_template import chat_template
from examples.checkpoints.tokenizer_file import qwen36_vocabulary
from runtime.qwen_bpe import SPECIAL_TOKENS
from tests.servers.chain_model import QUIET, VOCABULARY, WIDTH, chains, embeddings

LAYERS, INTERVAL = 4, 4
HEADS, KV_HEADS, HEAD = 2, 1, 32
KEY_HEADS, VALUE_HEADS, STATE = 2, 4, 32
CONV, FFN = 4, 128
CONTEXT = 262_144
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # llama.cpp's kinds of tokens


def write(out: Path, gguf_py: Path) -> None:
    sys.path.insert(0, str(gguf_py))
    import gguf

    writer = gguf.GGUFWriter(out, "qwen35")
    _describe(writer)
    _tokenizer(writer)
    for name, values in _tensors().items():
        half = name in ("token_embd.weight", "output.weight")
        writer.add_tensor(name, values.astype("float16") if half else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any) -> None:
    writer.add_name("tiny-qwen3.5-chain")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000_000.0)
    writer.add_rope_dimension_count(HEAD // 4)
    writer.add_rope_dimension_sections([2, 1, 1, 0])
    writer.add_ssm_conv_kernel(CONV)
    writer.add_ssm_inner_size(VALUE_HEADS * STATE)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(VALUE_HEADS)
    writer.add_ssm_group_count(KEY_HEADS)
    writer.add_full_attention_interval(INTERVAL)


def _tokenizer(writer: Any) -> None:
    tokens, merges = qwen36_vocabulary()
    kinds = [_NORMAL] * len(tokens)
    for text in SPECIAL_TOKENS:
        tokens.append(text)
        kinds.append(_CONTROL if text[1] == "|" else _USER_DEFINED)
    while len(tokens) < VOCABULARY:
        tokens.append(f"[PAD{len(tokens)}]")
        kinds.append(_UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen35")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(map(" ".join, merges)))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat_template())


class _Weights:
    """Small random matrices, the same in every run."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(2)

    def matrix(self, *shape: int, scale: float = 0.2) -> Any:
        return (self._random.standard_normal(shape) * scale).astype(np.float32)

    def quiet(self, *shape: int) -> Any:
        return self.matrix(*shape, scale=QUIET)

    @staticmethod
    def ones(*shape: int) -> Any:
        return np.ones(shape, dtype=np.float32)


def _tensors() -> dict[str, Any]:
    make = _Weights()
    inside, outside = embeddings(chains().successors())
    found = {
        "token_embd.weight": inside,
        "output.weight": outside,
        "output_norm.weight": make.ones(WIDTH),
    }
    keys, values = KEY_HEADS * STATE, VALUE_HEADS * STATE
    for layer in range(LAYERS):
        block = {
            "attn_norm.weight": make.ones(WIDTH),
            "post_attention_norm.weight": make.ones(WIDTH),
            "ffn_gate.weight": make.matrix(FFN, WIDTH),
            "ffn_up.weight": make.matrix(FFN, WIDTH),
            "ffn_down.weight": make.quiet(WIDTH, FFN),
        }
        if (layer + 1) % INTERVAL == 0:
            block |= {
                "attn_q.weight": make.matrix(2 * HEADS * HEAD, WIDTH),  # queries and their gates
                "attn_k.weight": make.matrix(KV_HEADS * HEAD, WIDTH),
                "attn_v.weight": make.matrix(KV_HEADS * HEAD, WIDTH),
                "attn_output.weight": make.quiet(WIDTH, HEADS * HEAD),
                "attn_q_norm.weight": make.ones(HEAD),
                "attn_k_norm.weight": make.ones(HEAD),
            }
        else:
            block |= {
                "attn_qkv.weight": make.matrix(2 * keys + values, WIDTH),
                "attn_gate.weight": make.matrix(values, WIDTH),
                "ssm_conv1d.weight": make.matrix(2 * keys + values, CONV),
                "ssm_dt.bias": make.ones(VALUE_HEADS),
                "ssm_a": -make.ones(VALUE_HEADS),
                "ssm_beta.weight": make.matrix(VALUE_HEADS, WIDTH),
                "ssm_alpha.weight": make.matrix(VALUE_HEADS, WIDTH),
                "ssm_norm.weight": make.ones(STATE),
                "ssm_out.weight": make.quiet(WIDTH, values),
            }
        found |= {f"blk.{layer}.{name}": tensor for name, tensor in block.items()}
    return found


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
