"""What a manifest says, that it comes back, and what counts as a difference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.limits import Limits
from agent.request import Generation
from evals.runs.facts import text_facts, version_facts
from evals.runs.manifest import (
    DatasetFacts,
    Manifest,
    ManifestBroken,
    Settings,
    differences,
    generation_of,
    read_manifest,
    same_task,
    seed_of,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "eval-manifest.json"


def manifest() -> Manifest:
    return Manifest(
        run="nightly-7",
        created=1795403330.25,
        dataset=DatasetFacts("verified", "test", "4f" * 32, ("psf__requests-1", "sympy__sympy-2"), ("row 3: no id",)),
        settings=Settings(
            model="http://127.0.0.1:30000",
            attempts=2,
            seed=7,
            sandbox="docker",
            limits=Limits(steps=60),
            generation=Generation(preset="thinking", temperature=0.7),
            recipes={"mine.toml": "ab" * 32},
        ),
        model={"name": "Qwen/Qwen3.6-27B", "engine": "sglang", "version": "0.5.23", "features": ["exact ids"]},
        sampling={"temperature": 0.7, "top_k": 20},
        texts={"prompts": "785e56ae65845d8a", "template": "0011", "tools": {"bash": "aabb"}},
        versions={"patchwright": "0.1.0", "python": "3.11.7"},
        machine={"cores": 2},
        environments={"psf__requests-1": {"image_digest": "sha256:12"}},
    )


def test_the_file_is_as_it_always_was() -> None:
    """Other releases read manifests: a change here asks for another FORMAT, or for fields that may be missing."""
    assert manifest().text() == GOLDEN.read_text()


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest().text())
    assert read_manifest(tmp_path) == read_manifest(tmp_path / "manifest.json") == manifest()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no manifest"),
        ("{", "is no JSON"),
        ('{"format": 99}', "format 99; this release reads 1"),
        ('{"format": 1, "run": "x"}', "no manifest"),
        (manifest().text().replace('"steps"', '"stops"'), "no manifest"),
    ],
)
def test_what_is_no_manifest_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ManifestBroken, match=says) as raised:
        read_manifest(path)
    assert str(path) in str(raised.value)


def test_differences_are_what_may_change_a_score() -> None:
    before = manifest()
    same = replace(before, run="other", created=1.0, machine={"cores": 64}, environments={})
    assert differences(before, same) == []
    now = replace(
        same,
        settings=replace(before.settings, limits=Limits(steps=61)),
        texts={"prompts": "785e56ae65845d8a", "template": "0011", "tools": {"bash": "aabc", "new": "1"}},
    )
    assert differences(before, now) == [
        "settings.limits.steps: 60 -> 61",
        'texts.tools.bash: "aabb" -> "aabc"',
        'texts.tools.new: nothing -> "1"',
    ]


def test_a_run_goes_on_only_with_the_same_task() -> None:
    before = manifest()
    other_host = replace(before, versions={"patchwright": "0.2.0"}, model={"name": "Qwen/Qwen3.6-27B", "version": "1"})
    assert same_task(before, other_host)
    assert not same_task(before, replace(before, settings=replace(before.settings, attempts=3)))
    assert not same_task(before, replace(before, dataset=replace(before.dataset, sha256="00" * 32)))


def test_each_attempt_has_its_own_seed_and_always_the_same() -> None:
    seeds = {(seed, one, k): seed_of(seed, one, k) for seed in (0, 1) for one in ("a", "b") for k in (1, 2, 3)}
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= value < 2**31 for value in seeds.values())
    assert seed_of(7, "psf__requests-1", 1) == 1219963302
    assert generation_of(manifest().settings, "psf__requests-1", 1).seed == 1219963302
    assert manifest().to_json()["seeds"]["by_instance"]["psf__requests-1"] == [
        seed_of(7, "psf__requests-1", 1),
        seed_of(7, "psf__requests-1", 2),
    ]


def test_what_the_model_reads_and_what_judges_is_in_it() -> None:
    texts = text_facts()
    assert {"bash", "str_replace_editor", "submit"} <= set(texts["tools"])
    assert all(len(one) == 16 for one in (texts["prompts"], texts["template"], *texts["tools"].values()))
    assert version_facts("4.1")["rules"] == "swebench 4.1.0"
    assert {"patchwright", "python", "git"} <= set(version_facts("auto"))
    json.dumps(texts)
