"""A checkpoint of Qwen3.6's architecture with random weights and its real tokenizer.

    python examples/checkpoints/hybrid.py FOLDER

For tests and benchmarks of servers: it says nonsense, quickly, and its caches behave as the large model's. The
weights are drawn wide, so that the same prompt gives one clear next token and different prompts different ones.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.checkpoints import serving_files, tokenizer_file
from examples.checkpoints.chat_template import chat_template
from runtime.bpe_vocabulary import cache_folder
from runtime.qwen_bpe import qwen_tokenizer

EMBEDDINGS: Final = 248_320  # rows; the tokens and some that pad them, as in the published checkpoints
CONTEXT: Final = 32_768
WIDTH: Final = 64


def new_network(seed: int = 0) -> Any:
    """The network, drawn from the seed."""
    import torch
    from transformers import Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig

    tokenizer = qwen_tokenizer()
    config = Qwen3_5MoeTextConfig(
        vocab_size=EMBEDDINGS,
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        linear_conv_kernel_dim=4,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.special("<|im_end|>"),
        pad_token_id=tokenizer.special("<|endoftext|>"),
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    network: Any = Qwen3_5MoeForCausalLM(config)
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if name.endswith("A_log"):
                weights.uniform_(0.0, 1.5)  # states that remember for tens to hundreds of tokens
            elif name.endswith("dt_bias"):
                weights.uniform_(-4.0, -1.0)
    return network


def save(folder: Path) -> Path:
    """Write the checkpoint: weights in float32 (128 MB), tokenizer (33 MB), and what servers want besides."""
    network = new_network()
    network.config.full_attention_interval = 4  # SGLang reads this; the constructor doesn't write it again
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    tokenizer_file.save_qwen36(folder / "tokenizer.json")
    serving_files.save(folder)
    return folder


def cached(name: str = "hybrid", make: Callable[[Path], object] = save, *sources: Path) -> Path:
    """A checkpoint in Patchwright's cache, made when it isn't there (half a minute, 160 MB).

    `make` writes it into a folder; `sources` are the files that it depends on besides those of this package.
    """
    cache = cache_folder()
    if cache is None:
        raise RuntimeError("There is no cache folder: set PATCHWRIGHT_CACHE or HOME.")
    here = Path(__file__).parent
    files = (Path(__file__), here / "tokenizer_file.py", here / "serving_files.py", *sources)
    digest = sha256(b"".join(file.read_bytes() for file in files) + chat_template().encode()).hexdigest()
    target = cache / f"checkpoint-{name}-{digest[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = target.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(target)
    return target


if __name__ == "__main__":
    save(Path(sys.argv[1]))
