"""Train the demo model from nothing: `python examples/demo/train.py --out FOLDER`, minutes on one CPU core.

The result fixes one repository in one way (see README.md): it shows that everything around a model works, with
real weights, and it has no skill. What it is trained on is told run by run in `vary`, from real runs that `record`
kept. The same seed gives the same weights on the same machine.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import transformers

from examples.demo import evaluate, network, record
from examples.demo.conversation import conversation
from examples.demo.delta_rule import fast_delta_rule
from examples.demo.script import TURNS, prompt, specs
from examples.demo.vary import TRAINING, Recording, foreign_line, vary
from runtime.chat import GENERATION_PROMPT, render
from runtime.models.embedded_tokenizer import CheckpointTokenizer

LEARNING_RATE = 3e-3
WARM_UP = 20  # steps
FIRST_TOKEN_WEIGHT = 4.0  # errors are nearly all about which turn it is, and that is settled by the first token
CALM_STEPS = 0.15  # share of the steps over which roughness grows from nothing


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    recordings, trained_on = record.load(), record.fingerprint()
    tokenizer = _tokenizer(recordings, options.out, options.seed)
    special_id = {text: tokenizer.special(text) for text in network.SPECIALS}
    model = network.new_network(special_id)
    print(f"{sum(weights.numel() for weights in model.parameters()):,} parameters, {options.steps} steps", flush=True)
    with fast_delta_rule():
        train(model, tokenizer, recordings, steps=options.steps, seed=options.seed)
    network.save(model, options.out)
    (options.out / record.FINGERPRINT).write_text(json.dumps(trained_on, indent=2) + "\n")
    sys.exit(0 if _report(options.out, tokenizer, recordings, options.held_out) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=300, help="training steps, about 1.6 s each on one core")
    parser.add_argument("--seed", type=int, default=0, help="of weights and texts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--held-out", type=int, default=20, help="runs in each final test")
    return parser.parse_args()


def _tokenizer(recordings: Sequence[Recording], folder: Path, seed: int) -> CheckpointTokenizer:
    """A tokenizer made for these texts, and for foreign lines too."""
    random = Random(seed)
    tools = specs()
    texts = [render(prompt(told.workdir), tools) for told in recordings]
    texts += [turn.text + GENERATION_PROMPT for turn in TURNS]
    for index in range(30):
        texts += vary(recordings[index % len(recordings)], random, TRAINING).observations
    texts += [foreign_line(random) for _ in range(2000)]
    network.train_tokenizer(texts, folder / "tokenizer.json")
    return CheckpointTokenizer.from_file(folder / "tokenizer.json")


def train(
    model: Any, tokenizer: CheckpointTokenizer, recordings: Sequence[Recording], *, steps: int, seed: int
) -> None:
    """One newly told run a step; the loss counts only what the model itself writes."""
    matrices = [weights for weights in model.parameters() if weights.ndim > 1]
    vectors = [weights for weights in model.parameters() if weights.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95))
    tools = specs()
    model.train()
    begun = time.monotonic()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, steps)
        random = Random(1_000_000 * seed + step)
        roughness = TRAINING.scaled(min(1.0, step / (CALM_STEPS * steps)) * random.random())
        run = conversation(tokenizer, vary(recordings[step % len(recordings)], random, roughness), tools)
        loss = _loss(model, run.ids, run.turn_of)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 10 == 0 or step == steps - 1:
            left = (time.monotonic() - begun) / (step + 1) * (steps - step - 1)
            print(
                f"step {step + 1}/{steps}  loss {loss.item():.4f}  {len(run.ids)} tokens  {left / 60:.1f} min left",
                flush=True,
            )


def _rate(step: int, steps: int) -> float:
    fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * fall


def _loss(model: Any, ids: Sequence[int], turn_of: Sequence[int]) -> Any:
    logits, targets, turns = evaluate.target_logits(model, ids, turn_of)
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    is_first = torch.cat([torch.tensor([True]), turns[1:] != turns[:-1]])
    weights = torch.where(is_first, FIRST_TOKEN_WEIGHT, 1.0)
    return (each * weights).sum() / weights.sum()


def _report(folder: Path, tokenizer: CheckpointTokenizer, recordings: Sequence[Recording], runs: int) -> bool:
    """Score what was saved, as it will be loaded. True when it is good enough to ship."""
    from transformers import Qwen3_5MoeForCausalLM

    model = Qwen3_5MoeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    scores = {}
    for name, change in evaluate.TESTS.items():
        scores[name] = evaluate.score(model, tokenizer, evaluate.held_out(recordings, runs, change))
        print(f"{name}: {scores[name]}", *scores[name].first_errors, sep="\n    ", flush=True)
    good = scores["elsewhere"].run_probability >= 0.999
    print("good enough to ship" if good else "NOT good enough to ship: a run elsewhere should have at least 0.999")
    return good


if __name__ == "__main__":
    main()
