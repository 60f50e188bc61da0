"""The shipped demo model fits what it was trained on, and that is what the product sends and answers today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.demo.record import FILE, FINGERPRINT, fingerprint, load, record
from examples.demo.vary import Recording, normal
from tests.sandbox.kinds import KINDS, need

CHECKPOINT = Path(__file__).parents[2] / "examples" / "demo" / "model"
RETRAIN = (
    "the demo model was trained on other texts: run `python examples/demo/record.py docker bubblewrap none`, then "
    "`python examples/demo/train.py --out examples/demo/model`"
)


def test_the_texts_are_those_that_it_was_trained_on() -> None:
    trained_on = json.loads((CHECKPOINT / FINGERPRINT).read_text())
    changed = [name for name, digest in fingerprint().items() if trained_on.get(name) != digest]
    assert not changed, f"{', '.join(changed)} changed; {RETRAIN}"


def test_the_checkpoint_is_small_and_has_what_servers_read() -> None:
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert config["architectures"] == ["Qwen3_5MoeForCausalLM"]
    assert config["full_attention_interval"] == 4
    assert config["layer_types"] == ["linear_attention"] * 3 + ["full_attention"]
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    sizes = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(sizes)
    assert sum(sizes.values()) < 5_000_000


@pytest.mark.parametrize("kind", KINDS)
async def test_the_tools_answer_as_they_did_when_they_were_recorded(kind: str) -> None:
    need(kind)
    each = json.loads(FILE.read_text())["docker" if kind == "podman" else kind]  # the image and its paths are the same
    assert normal(await record(kind)) == normal(Recording(each["workdir"], tuple(each["observations"]))), RETRAIN


def test_what_varies_between_machines_does_not_count_as_a_change() -> None:
    recording = load()[0]
    answers = (text.replace(recording.workdir, "/elsewhere").replace("0.0", "7.3") for text in recording.observations)
    assert normal(Recording("/elsewhere", tuple(answers))) == normal(recording)
    changed = Recording(recording.workdir, tuple(text + "!" for text in recording.observations))
    assert normal(changed) != normal(recording)
