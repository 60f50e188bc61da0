"""Checkpoints of Qwen's architectures with random weights, small enough to be made for each test run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from examples.checkpoints import tokenizer_file

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
TEXT_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "pad_token_id": None,
}
MOE_SIZES: dict[str, Any] = {
    **TEXT_SIZES,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
VISION_SIZES: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
}


def save_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer as Qwen's checkpoints have it: NFC, `<|..|>` special, `<think>` and kin not."""
    tokenizer_file.train(
        [Path(__file__).read_text()], folder / "tokenizer.json", vocabulary_size=400, specials=SPECIALS
    )


def save_checkpoint(folder: Path, kind: str) -> Path:
    """`kind` is `moe`, `dense`, or `moe-vision` (the layout of the published checkpoints, with a vision tower)."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    size = {"vocab_size": 448}
    torch.manual_seed(1)
    network: Any
    if kind == "moe":
        config = transformers.Qwen3_5MoeTextConfig(**MOE_SIZES, **size)
        network = transformers.Qwen3_5MoeForCausalLM(config)
    elif kind == "dense":
        config = transformers.Qwen3_5TextConfig(**TEXT_SIZES, intermediate_size=48, **size)
        network = transformers.Qwen3_5ForCausalLM(config)
    else:
        config = transformers.Qwen3_5MoeConfig(
            text_config={**MOE_SIZES, **size, "model_type": "qwen3_5_moe_text"},
            vision_config=VISION_SIZES,
            tie_word_embeddings=False,
        )
        network = transformers.Qwen3_5MoeForConditionalGeneration(config)
    network.save_pretrained(folder)
    return folder


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
