"""What training is made of: the delta rule that it computes with, its texts as ids, and a step that learns."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `embedded`")
pytest.importorskip("transformers", reason="needs the extra `embedded`")

import torch

from examples.demo import network, train
from examples.demo.conversation import conversation
from examples.demo.delta_rule import fast_delta_rule
from examples.demo.record import load
from examples.demo.script import TURNS, prompt, specs
from examples.demo.vary import Recording, vary
from runtime.chat import render
from runtime.models.embedded_tokenizer import CheckpointTokenizer

pytestmark = pytest.mark.torch

SHORT = Recording("/w", ("seen",) * (len(TURNS) - 1))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CheckpointTokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    network.train_tokenizer([render(prompt("/w"), specs())], file)
    return CheckpointTokenizer.from_file(file)


def new_network(tokenizer: CheckpointTokenizer) -> Any:
    torch.manual_seed(3)
    torch.set_num_threads(1)
    return network.new_network({text: tokenizer.special(text) for text in network.SPECIALS})


def test_the_fast_delta_rule_is_that_of_transformers(tokenizer: CheckpointTokenizer) -> None:
    model = new_network(tokenizer)
    ids, turns = list(range(150)), [-1] * 50 + [0] * 100

    def loss_and_gradients() -> tuple[float, list[Any]]:
        model.zero_grad()
        loss = train._loss(model, ids, turns)
        loss.backward()
        return loss.item(), [weights.grad.clone() for weights in model.parameters()]

    expected, gradients = loss_and_gradients()
    with fast_delta_rule():
        loss, fast = loss_and_gradients()
    assert loss == pytest.approx(expected, abs=1e-5)
    for mine, theirs in zip(fast, gradients, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5 + 1e-4 * float(theirs.abs().max()))


def test_a_told_run_is_the_conversation_that_the_agent_would_have(tokenizer: CheckpointTokenizer) -> None:
    run = conversation(tokenizer, vary(load()[0], Random(1)))
    text = tokenizer.decode(run.ids)
    assert text.startswith("<|im_start|>system\n# Tools")
    for number, turn in enumerate(TURNS):
        ids = [token for token, of in zip(run.ids, run.turn_of, strict=True) if of == number]
        assert tokenizer.decode(ids) == turn.text + "<|im_end|>"


def test_the_same_seed_gives_the_same_weights_and_they_learn(tokenizer: CheckpointTokenizer, tmp_path: Path) -> None:
    def trained() -> tuple[Any, float]:
        model = new_network(tokenizer)
        train.train(model, tokenizer, [SHORT], steps=2, seed=1)
        run = conversation(tokenizer, SHORT)
        return model, train._loss(model, run.ids, run.turn_of).item()

    (first, loss), (second, _) = trained(), trained()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    run = conversation(tokenizer, SHORT)
    assert loss < train._loss(new_network(tokenizer), run.ids, run.turn_of).item()
