"""The shipped demo model: it still fits the texts that it was trained on, and tells its run however it is told.

It has no skill to test. What is tested is that the weights go through the whole model side: tokenizer, transcript,
in-process model with its caches, tool-call parser.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from examples.demo.record import load
from examples.demo.script import TURNS, prompt, specs
from examples.demo.vary import TRAINING, Recording, vary
from runtime.models.base import Chunk, Sampling
from runtime.tool_calls import parse
from runtime.transcript import Observations, Prompt, Transcript, Turn

pytest.importorskip("torch", reason="needs the extra `embedded`")
pytest.importorskip("transformers", reason="needs the extra `embedded`")

import torch

from examples.demo import evaluate
from runtime.models.embedded import EmbeddedModel
from runtime.models.embedded import load as load_model

pytestmark = pytest.mark.torch

CHECKPOINT = Path(__file__).parents[2] / "examples" / "demo" / "model"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> EmbeddedModel:
    return load_model(CHECKPOINT, device="cpu")


def test_its_ends_of_turn_are_those_of_its_tokenizer(model: EmbeddedModel) -> None:
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert config["eos_token_id"] == model.tokenizer.special("<|im_end|>")
    assert model.tokenizer.vocabulary_size <= config["vocab_size"] == 2048


async def told(model: EmbeddedModel, run: Recording, sampling: Sampling) -> list[tuple[str, Chunk]]:
    """What the model writes in each turn, and the last chunk of it."""
    transcript = Transcript(model.tokenizer)
    transcript.append(Prompt(tuple(prompt(run.workdir)), tuple(specs())))
    turns = []
    for answer in (*run.observations, None):
        ids: list[int] = []
        async for chunk in model.stream(transcript.ids, sampling, request_id="demo"):
            ids.extend(chunk.ids)
        transcript.append(Turn(ids, "stop"))
        turns.append((model.tokenizer.decode(ids), chunk))
        if answer is not None:
            transcript.append(Observations((answer,)))
    return turns


@pytest.mark.parametrize("temperature", [0.0, 0.6])
async def test_it_tells_its_run_in_unseen_places_and_at_unseen_times(model: EmbeddedModel, temperature: float) -> None:
    for seed in range(2):
        run = vary(load()[seed % len(load())], Random(9_000_000 + seed))
        turns = await told(model, run, Sampling(temperature=temperature, max_new_tokens=400, seed=seed))
        assert [text for text, _ in turns] == [turn.text + "<|im_end|>" for turn in TURNS]
        calls = [parse(text.removesuffix("<|im_end|>"), specs()).calls for text, _ in turns]
        assert [(call.name, call.arguments) for (call,) in calls] == [(turn.tool, turn.arguments) for turn in TURNS]
        shares = [chunk.usage.cached_tokens / chunk.usage.prompt_tokens for _, chunk in turns]
        assert all(share > 0.5 for share in shares[1:])


def test_a_run_elsewhere_is_all_but_certain_at_the_default_temperature(model: EmbeddedModel) -> None:
    runs = evaluate.held_out(load(), 4, evaluate.elsewhere)
    score = evaluate.score(model._decoder._model, model.tokenizer, runs)
    assert score.runs_right == 1, score
    assert score.run_probability > 0.999, score


def test_a_seed_tells_the_same_run_and_another_seed_another() -> None:
    recording = load()[0]
    first, again, other = (vary(recording, Random(seed), TRAINING) for seed in (1, 1, 2))
    assert first == again
    assert first != other
