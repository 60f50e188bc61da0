"""Checkpoints of Qwen's architectures with random weights, small enough to be made for each test run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
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
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator([Path(__file__).read_text()], trainer)
    tokenizer.add_tokens([AddedToken(text, special=text[1] == "|", normalized=False) for text in SPECIALS])
    tokenizer.save(str(folder / "tokenizer.json"))


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
