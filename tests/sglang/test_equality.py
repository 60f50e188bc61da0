"""What SGLang computes here is what transformers computes, with and without a hit in its prefix cache.

Everything in float32. If this fails, a stand-in of `examples/sglang_cpu` computes something else than the kernel
that it stands for, and nothing that is said about this server says anything about a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `embedded`")
pytest.importorskip("transformers", reason="needs the extra `embedded`")

import torch

from examples.checkpoints import hybrid
from tests.servers.sglang import ask
from tests.servers.shared import Server

pytestmark = [pytest.mark.sglang, pytest.mark.torch]

BOUND = 5e-4  # of a log-probability; the two sum in other orders
NEW = 20


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    from transformers import AutoModelForCausalLM

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield AutoModelForCausalLM.from_pretrained(hybrid.cached(), dtype=torch.float32).eval()
    torch.set_num_threads(threads)


def words(random: Random, count: int) -> list[int]:
    return [random.randrange(1000, 240_000) for _ in range(count)]


class Asked:
    """One request: what was asked, what came, and from how many cached tokens."""

    def __init__(self, server: Server, ids: list[int], new: int = NEW, **more: Any) -> None:
        parameters = {"temperature": 0, "max_new_tokens": new, "ignore_eos": True}
        body = {"input_ids": ids, "sampling_params": parameters, "return_logprob": True, **more}
        answer = ask(server, "/generate", body)
        self.prompt = ids
        self.answer: list[int] = answer["output_ids"]
        self.log_probabilities = [entry[0] for entry in answer["meta_info"]["output_token_logprobs"]]
        self.cached: int = answer["meta_info"]["cached_tokens"]

    @property
    def whole(self) -> list[int]:
        return self.prompt + self.answer


def assert_equal(reference: Any, asked: Asked) -> None:
    with torch.no_grad():
        logits = reference(torch.tensor([asked.whole])).logits[0, len(asked.prompt) - 1 : -1]
    assert logits.argmax(-1).tolist() == asked.answer
    expected = logits.log_softmax(-1).gather(1, torch.tensor(asked.answer)[:, None])[:, 0]
    assert (expected - torch.tensor(asked.log_probabilities)).abs().max() < BOUND


@pytest.mark.parametrize("length", [1, 63, 64, 65, 300, 1000])
def test_a_fresh_prompt(sglang_hybrid: Server, reference: Any, length: int) -> None:
    asked = Asked(sglang_hybrid, words(Random(length), length))
    assert asked.cached == 0
    assert len(set(asked.answer)) > NEW / 2  # a model that repeats itself would agree by accident
    assert_equal(reference, asked)


def test_turns_that_continue_each_other_from_the_cache(sglang_hybrid: Server, reference: Any) -> None:
    random = Random("turns")
    prompt = words(random, 300)
    for turn in range(4):
        asked = Asked(sglang_hybrid, prompt)
        assert (asked.cached > 0) == (turn > 0)
        assert_equal(reference, asked)
        prompt = asked.whole + words(random, 70)


def test_a_branch_and_the_same_prompt_again(sglang_hybrid: Server, reference: Any) -> None:
    random = Random("branch")
    trunk = words(random, 500)
    Asked(sglang_hybrid, trunk)
    branches = [Asked(sglang_hybrid, trunk[:350] + words(random, 80)) for _ in range(3)]
    again = Asked(sglang_hybrid, trunk)
    assert branches[-1].cached >= 64  # the second visit at the latest finds a state there
    assert again.cached >= 320
    for asked in (*branches, again):
        assert_equal(reference, asked)


def test_a_hit_changes_nothing(sglang_hybrid: Server) -> None:
    prompt = words(Random("twice"), 400)
    first, second = Asked(sglang_hybrid, prompt), Asked(sglang_hybrid, prompt)
    apart = Asked(sglang_hybrid, prompt, extra_key="apart")  # a name space of its own in the cache
    assert first.cached == apart.cached == 0
    assert second.cached > 0
    assert first.answer == second.answer == apart.answer
    for one, other in zip(first.log_probabilities, second.log_probabilities, strict=True):
        assert abs(one - other) < BOUND


def test_answers_written_together_are_those_written_alone(sglang_hybrid: Server, reference: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    prompts = [words(Random(f"together {n}"), 40 + 50 * n) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for asked in pool.map(lambda prompt: Asked(sglang_hybrid, prompt), prompts):
            assert_equal(reference, asked)
