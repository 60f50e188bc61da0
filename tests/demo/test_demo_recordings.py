"""The recordings that the demo model is trained on are what the tools answer today."""

from __future__ import annotations

import json

import pytest

from examples.demo.record import FILE, record
from examples.demo.vary import Recording, normal


def kept(kind: str) -> Recording:
    each = json.loads(FILE.read_text())[kind]
    return Recording(each["workdir"], tuple(each["observations"]))


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
async def test_the_tools_answer_as_they_did_when_they_were_recorded(kind: str) -> None:
    now = await record(kind)
    assert normal(now) == normal(kept(kind)), (
        "what the tools answer has changed: run `python examples/demo/record.py docker bubblewrap none` and "
        "`python examples/demo/train.py --out examples/demo/model`"
    )
