"""A checkpoint with the weights of `chain_model`, out of any tiny one of Qwen3.5's architecture.

What is read is its config, tokenizer and matrices; the matrices that lead back into the residual stream are made
quiet. Needs safetensors, no torch.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.servers.chain_model import QUIET, Chains, embeddings

_BACK = ("o_proj.weight", "out_proj.weight", "down_proj.weight", "down_proj")


def save(folder: Path, base: Path, answers: Chains) -> Path:
    """Write the checkpoint: what `base` has, with other weights."""
    from safetensors.numpy import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((base / "config.json").read_text())
    inside, outside = embeddings(answers.successors(), vocabulary=config["vocab_size"], width=config["hidden_size"])
    weights = load_file(base / "model.safetensors")
    for name, values in weights.items():
        if name.endswith("embed_tokens.weight"):
            weights[name] = inside
        elif name == "lm_head.weight":
            weights[name] = outside
        elif name.endswith(_BACK):
            weights[name] = values * QUIET
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for file in base.iterdir():
        if file.suffix in (".json", ".jinja"):
            shutil.copy(file, folder)
    return folder
