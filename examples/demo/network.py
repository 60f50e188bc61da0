"""The demo model's shape: Qwen3.6's text architecture at a thousandth of the size, and a tokenizer of its kind.

Four layers as the large one repeats them (three Gated DeltaNet, one gated attention), each with a mixture of
experts. Left out: training (`train`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from examples.checkpoints import serving_files, tokenizer_file
from runtime import chat

SPECIALS: Final = (
    "<|endoftext|>",
    chat.IM_START,
    chat.IM_END,
    chat.THINK_OPEN,
    chat.THINK_CLOSE,
    chat.TOOL_CALL_OPEN,
    chat.TOOL_CALL_CLOSE,
    chat.TOOL_RESPONSE_OPEN,
    chat.TOOL_RESPONSE_CLOSE,
)
VOCABULARY: Final = 2048
CONTEXT: Final = 32_768


def train_tokenizer(texts: Iterable[str], file: Path) -> None:
    """Byte-level BPE over the texts, with Qwen's special tokens, as a `tokenizer.json`."""
    tokenizer_file.train(
        map(_without_specials, texts),
        file,
        vocabulary_size=VOCABULARY - len(SPECIALS),
        specials=SPECIALS,
        min_frequency=2,
    )


def _without_specials(text: str) -> str:
    for special in SPECIALS:
        text = text.replace(special, "\n")
    return text


def new_network(special_id: dict[str, int]) -> Any:
    """A network with random weights (torch's generator decides which)."""
    from transformers import Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig

    config = Qwen3_5MoeTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        linear_num_key_heads=4,
        linear_num_value_heads=4,
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        linear_conv_kernel_dim=4,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        shared_expert_intermediate_size=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        eos_token_id=special_id[chat.IM_END],
        pad_token_id=special_id["<|endoftext|>"],
        bos_token_id=None,
    )
    network = Qwen3_5MoeForCausalLM(config)
    network.set_experts_implementation("grouped_mm")
    return network


def save(network: Any, folder: Path) -> None:
    """Weights in bfloat16, the config, and what else SGLang and transformers read; the tokenizer is there already."""
    import torch

    # Set on the config itself: what the constructor takes is turned into layer_types and not written again,
    # and SGLang reads only this.
    network.config.full_attention_interval = 4
    network.to(torch.bfloat16).save_pretrained(folder)
    serving_files.save(folder)
