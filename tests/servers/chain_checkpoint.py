"""A checkpoint with the weights of `chain_model`, out of any tiny one of Qwen3.5's architecture.

What is read is its config, tokenizer and matrices; the matrices that lead back into the residual stream are made
quiet. Needs safetensors, no torch.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from hashlib import sha256
from pathlib import Path

from runtime.bpe_vocabulary import cache_folder
from tests.servers.chain_model import QUIET, Chains, chains, embeddings

_BACK = ("o_proj.weight", "out_proj.weight", "down_proj.weight", "down_proj")


def save(folder: Path, base: Path, answers: Chains) -> Path:
    """Write the checkpoint: what `base` has, with other weights."""
    from safetensors.numpy import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((base / "config.json").read_text())
    inside, outside = embeddings(answers, config["vocab_size"], config["hidden_size"])
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


def cached(base: Path) -> Path:
    """The checkpoint of `chains()` beside `base`, which lies in Patchwright's cache; made when it isn't there."""
    cache = cache_folder()
    assert cache is not None
    sources = b"".join((Path(__file__).parent / name).read_bytes() for name in ("chain_model.py", Path(__file__).name))
    target = cache / f"chain-{sha256(sources + base.name.encode()).hexdigest()[:12]}"
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = target.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            save(unfinished, base, chains()).rename(target)
    return target
