"""The in-process model over real transformers networks with random weights."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime.models.base import (
    Chunk,
    ContextExceeded,
    FinishReason,
    ModelRefused,
    ModelUnreachable,
    Sampling,
    Usage,
)
from runtime.models.embedded import EmbeddedModel, load
from tests.runtime.models.tiny_checkpoints import change_json, save_checkpoint

pytest.importorskip("torch", reason="needs the extra `embedded`")
pytest.importorskip("transformers", reason="needs the extra `embedded`")

import torch

pytestmark = pytest.mark.torch

TEXT = "def double(x):\n    return x * 2  # grüße\n" * 12
GREEDY = Sampling(temperature=0, max_new_tokens=24)
# The random weights write on for over 400 tokens after this text.
ENDLESS = "a " + TEXT


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices on many threads in many test processes spend their time on waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("tiny") / "moe", "moe")


@pytest.fixture(scope="module")
def fresh(checkpoint: Path) -> EmbeddedModel:
    """Keeps nothing between requests."""
    return load(checkpoint, device="cpu", kept_caches=0)


async def chunks_of(model: EmbeddedModel, ids: Sequence[int], sampling: Sampling = GREEDY) -> list[Chunk]:
    return [chunk async for chunk in model.stream(ids, sampling, request_id="r")]  # type: ignore[arg-type]


async def written(model: EmbeddedModel, ids: Sequence[int], sampling: Sampling = GREEDY) -> list[int]:
    return [token for chunk in await chunks_of(model, ids, sampling) for token in chunk.ids]


async def usage(model: EmbeddedModel, ids: Sequence[int], sampling: Sampling = GREEDY) -> Usage:
    return (await chunks_of(model, ids, sampling))[-1].usage


def by_transformers(folder: Path, prompt: Sequence[int], stop: Sequence[int], count: int) -> list[int]:
    """What the library's own greedy generate writes, without its cache."""
    import transformers

    network: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    output = network.generate(
        torch.tensor([list(prompt)]),
        do_sample=False,
        max_new_tokens=count,
        use_cache=False,
        eos_token_id=list(stop),
        pad_token_id=0,
    )
    ids: list[int] = output[0][len(prompt) :].tolist()
    return ids


@pytest.mark.parametrize("kind", ["moe", "dense", "moe-vision"])
async def test_greedy_ids_are_those_of_transformers_whatever_the_cache_holds(kind: str, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / kind, kind)
    model = load(folder, device="cpu", prefill_chunk=50)
    stop = [model.tokenizer.special("<|im_end|>"), model.tokenizer.special("<|endoftext|>")]
    prompt = model.tokenizer.encode(TEXT)
    for turn in range(3):
        answer = await chunks_of(model, prompt)
        ids = [token for chunk in answer for token in chunk.ids]
        expected = by_transformers(folder, prompt, stop, GREEDY.max_new_tokens)
        if expected[-1] == stop[1]:
            expected[-1] = stop[0]
        assert ids == expected
        assert (answer[-1].usage.cached_tokens > 0) == (turn > 0)
        prompt = prompt + ids + model.tokenizer.encode(f"\nnow for number {turn}")


async def test_a_prompt_that_goes_on_from_the_last_turn_costs_only_what_is_new(checkpoint: Path) -> None:
    model = load(checkpoint, device="cpu")
    prompt = model.tokenizer.encode(TEXT)
    first = await chunks_of(model, prompt)
    ids = [token for chunk in first for token in chunk.ids]
    assert first[-1].usage == Usage(len(prompt), 0, len(ids))
    # The last token was given out, not fed back, so it is the one id of the turn that the cache lacks.
    assert await usage(model, [*prompt, *ids, 5, 6, 7]) == Usage(
        len(prompt) + len(ids) + 3, len(prompt) + len(ids) - 1, GREEDY.max_new_tokens
    )


async def test_another_attempt_from_the_same_prompt_starts_at_its_end(checkpoint: Path, fresh: EmbeddedModel) -> None:
    model = load(checkpoint, device="cpu")
    prompt = model.tokenizer.encode(TEXT)
    answer = await written(model, prompt)
    for _ in range(2):
        again = await chunks_of(model, prompt)
        assert [token for chunk in again for token in chunk.ids] == answer
        assert again[-1].usage.cached_tokens == len(prompt) - 1
    other = [*prompt, 9, 8, 7]
    assert await written(model, other) == await written(fresh, other)


async def test_a_prompt_that_differs_in_the_middle_starts_afresh(checkpoint: Path, fresh: EmbeddedModel) -> None:
    model = load(checkpoint, device="cpu")
    prompt = model.tokenizer.encode(TEXT)
    await written(model, prompt)
    changed = [*prompt[:40], prompt[40] + 1, *prompt[41:], 3]
    answer = await chunks_of(model, changed)
    assert answer[-1].usage.cached_tokens == 0
    assert [token for chunk in answer for token in chunk.ids] == await written(fresh, changed)


async def test_no_more_caches_are_kept_than_asked_for(checkpoint: Path) -> None:
    model = load(checkpoint, device="cpu", kept_caches=2)
    first, second = model.tokenizer.encode(TEXT), model.tokenizer.encode("another " + TEXT)
    await written(model, first)
    await written(model, second)
    assert (await usage(model, first)).cached_tokens == 0
    assert (await usage(model, first)).cached_tokens == len(first) - 1


async def test_closing_the_iterator_stops_the_work_and_keeps_what_was_done(checkpoint: Path) -> None:
    model = load(checkpoint, device="cpu")
    prompt = model.tokenizer.encode(ENDLESS)
    stream = model.stream(prompt, Sampling(temperature=0, max_new_tokens=400), request_id="r")  # type: ignore[arg-type]
    got = [(await anext(stream)).ids[0] for _ in range(3)]
    await stream.aclose()  # type: ignore[attr-defined]
    again = await chunks_of(model, prompt)  # waits until the worker is free
    assert again[-1].usage.cached_tokens == len(prompt) - 1
    assert [chunk.ids[0] for chunk in again[:3]] == got
    written_until_stopped = [len(kept.ids) - len(prompt) for kept in model._decoder._caches._kept]
    assert max(written_until_stopped) < 50


async def test_concurrent_streams_wait_for_each_other_and_each_is_right(checkpoint: Path, fresh: EmbeddedModel) -> None:
    model = load(checkpoint, device="cpu")
    prompts = [model.tokenizer.encode(f"{number} {TEXT}") for number in range(4)]
    together = await asyncio.gather(*(written(model, prompt) for prompt in prompts))
    assert list(together) == [await written(fresh, prompt) for prompt in prompts]


async def test_closing_the_model_ends_a_stream_with_abort(checkpoint: Path) -> None:
    model = load(checkpoint, device="cpu")
    prompt = model.tokenizer.encode(ENDLESS)
    running = asyncio.create_task(chunks_of(model, prompt, Sampling(temperature=0, max_new_tokens=400)))
    await asyncio.sleep(0.1)
    await model.close()
    chunks = await running
    assert chunks[-1].finish is FinishReason.ABORT
    assert len(chunks) < 400
    with pytest.raises(ModelUnreachable, match="was closed"):
        await written(model, prompt)


async def test_the_finish_says_stop_at_the_end_of_a_turn_and_length_at_a_limit(fresh: EmbeddedModel) -> None:
    prompt = fresh.tokenizer.encode(TEXT)
    long = await chunks_of(fresh, prompt, Sampling(temperature=1.0, top_p=1.0, top_k=0, seed=4))
    assert long[-1].finish is FinishReason.STOP
    assert long[-1].ids == (fresh.tokenizer.special("<|im_end|>"),)
    assert all(chunk.finish is None for chunk in long[:-1])
    short = await chunks_of(fresh, prompt, Sampling(temperature=0, max_new_tokens=2))
    assert (len(short), short[-1].finish) == (2, FinishReason.LENGTH)


async def test_the_context_limits_the_output_and_refuses_a_prompt_that_fills_it(checkpoint: Path) -> None:
    model = load(checkpoint, device="cpu", context_length=100)
    assert model.context_length == 100
    chunks = await chunks_of(model, list(range(97)))
    assert (len(chunks), chunks[-1].finish) == (3, FinishReason.LENGTH)
    with pytest.raises(ContextExceeded, match="100 tokens"):
        await written(model, list(range(100)))
    assert load(checkpoint, device="cpu", context_length=10**6).context_length == 2048


@pytest.mark.parametrize("ids", [[], [3, 448], [-1]])
async def test_ids_that_the_embedding_lacks_are_refused(fresh: EmbeddedModel, ids: list[int]) -> None:
    with pytest.raises(ModelRefused, match="own tokenizer"):
        await written(fresh, ids)


async def test_a_seed_makes_sampling_repeatable_and_seeds_differ(fresh: EmbeddedModel) -> None:
    prompt = fresh.tokenizer.encode(TEXT)
    hot = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "max_new_tokens": 8}
    runs = [await written(fresh, prompt, Sampling(seed=seed, **hot)) for seed in (1, 1, 2, 3)]  # type: ignore[arg-type]
    assert runs[0] == runs[1]
    assert len({tuple(run) for run in runs}) == 3
    unseeded = {tuple(await written(fresh, prompt, Sampling(**hot))) for _ in range(3)}  # type: ignore[arg-type]
    assert len(unseeded) == 3


def pick_all(sampling: Sampling, logits: list[float], count: int = 400, prompt: Sequence[int] = ()) -> set[int]:
    from dataclasses import replace

    from runtime.models.embedded_decoding import Picker

    return {Picker(replace(sampling, seed=seed), prompt).pick(torch.tensor(logits)) for seed in range(count)}


def test_the_sampling_parameters_cut_as_they_should() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).tolist()
    whole = Sampling(temperature=1.0, top_p=1.0, top_k=0)

    def cut(**changes: Any) -> set[int]:
        from dataclasses import replace

        return pick_all(replace(whole, **changes), logits)

    assert cut() == {0, 1, 2, 3}
    assert cut(top_k=2) == {0, 1}
    assert cut(top_p=0.7) == {0, 1}
    assert cut(top_p=0.85) == {0, 1, 2}
    assert cut(min_p=0.25) == {0, 1, 2}
    assert cut(temperature=0.02) == {0}
    assert cut(temperature=0) == {0}
    assert cut(top_p=0.0) == {0}


def test_penalties_count_what_they_should() -> None:
    from runtime.models.embedded_decoding import Picker

    logits = torch.tensor([2.0, 1.5, -1.0])
    presence = Picker(Sampling(temperature=0, presence_penalty=1.0), [0])
    assert [presence.pick(logits), presence.pick(logits), presence.pick(logits)] == [0, 1, 0]
    repetition = Picker(Sampling(temperature=0, repetition_penalty=4.0), [0])
    assert [repetition.pick(logits), repetition.pick(logits)] == [1, 0]
    negative = Picker(Sampling(temperature=0, repetition_penalty=4.0), [0])
    assert negative.pick(torch.tensor([-1.0, -2.0])) == 1


def test_a_small_checkpoint_in_half_precision_is_computed_in_single_on_a_cpu(checkpoint: Path, tmp_path: Path) -> None:
    import transformers

    folder = tmp_path / "half"
    shutil.copytree(checkpoint, folder)
    transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).save_pretrained(folder)
    network = load(folder, device="cpu")._decoder._model
    assert network.dtype is torch.float32
    assert load(folder, device="cpu", dtype="bfloat16")._decoder._model.dtype is torch.bfloat16


def test_what_a_folder_lacks_is_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    with pytest.raises(ModelUnreachable, match=r"no config\.json and no tokenizer\.json"):
        load(folder)
    shutil.copy(checkpoint / "config.json", folder)
    with pytest.raises(ModelUnreachable, match=r"has no tokenizer\.json"):
        load(folder)
    shutil.copy(checkpoint / "tokenizer.json", folder)
    with pytest.raises(ModelUnreachable, match="weights"):
        load(folder)


def test_a_hub_id_that_cannot_be_had_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnreachable, match="nobody/nothing is neither"):
        load("nobody/nothing")


def test_other_architectures_and_tokenizers_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    (other / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(ModelRefused, match="gpt2"):
        load(other)
    shutil.copy(checkpoint / "config.json", other)
    change_json(other / "tokenizer.json", decoder={"type": "WordPiece", "prefix": "##", "cleanup": True})
    with pytest.raises(ModelRefused, match="byte-level"):
        load(other)


def test_without_the_extra_the_error_says_what_to_install(checkpoint: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from runtime.models.base import ModelUnreachable\n"
        "from runtime.models.embedded import load\n"
        "try:\n    load(sys.argv[1])\nexcept ModelUnreachable as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(checkpoint)], capture_output=True, text=True)
    assert "pip install 'patchwright[embedded]'" in done.stdout, done.stderr


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import sys, runtime.models.embedded; print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
