"""Images are pulled ahead of the attempts: each once, with progress, and a registry's limits are nobody's failure."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evals.environments import ImageNames, Options
from evals.environments.pull import PullFailed
from evals.instance import Instance
from evals.runs.ahead import Ahead, pulling_ahead
from evals.runs.rows import row_of
from sandbox.images.engine import connect
from tests.evals.environments.registry import Registry, serving
from tests.evals.environments.rows import instance
from tests.evals.environments.test_code import repository
from tests.evals.runs.harness import Evaluation
from tests.sandbox.kinds import need

ROWS = [instance(f"acme__lib-{number}") for number in range(1, 6)]
LIMIT = "toomanyrequests: retry-after: 1ms, allowed: 44000/minute"


@dataclass
class Engine:
    """In the place of Docker's: what was pulled, in order, and what it answers to the first pulls of an image."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    here: set[str] = field(default_factory=set)

    def pull(self, kind: str, name: str, tell: Any) -> None:
        short = name.rpartition("/")[2].removesuffix(":latest")
        self.asked.append(short)
        if said := self.answers.get(short):
            raise PullFailed(name, said.pop(0))
        self.here.add(name)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr("evals.environments.pull._pull", made.pull)
    monkeypatch.setattr("evals.environments.environment._machine_of", lambda kind: "x86_64")
    monkeypatch.setattr("evals.environments.environment._is_in_engine", lambda kind, name: name in made.here)
    return made


def options() -> Options:
    return Options(names=ImageNames(("hub.invalid/{id}:latest",)))


async def pulled(rows: list[Instance], kind: str = "docker", waits_for: str = "") -> list[str]:
    """The lines that are told while an attempt at `waits_for` waits for its image, or at all."""
    ahead, lines = Ahead(), list[str]()
    async with asyncio.timeout(30), pulling_ahead(ahead, rows, kind, options(), lines.append):
        for row in [one for one in rows if waits_for in ("", one.instance_id)]:
            await ahead.wait_for(row.instance_id)
    return lines


async def test_each_image_is_pulled_once_in_the_order_of_the_attempts(engine: Engine) -> None:
    lines = await pulled(ROWS)
    assert engine.asked == [row.instance_id for row in ROWS]
    assert [line.partition(";")[0] for line in lines] == [f"images: {number} of 5" for number in range(1, 6)]


async def test_an_attempt_waits_for_its_own_image_only(engine: Engine) -> None:
    engine.answers["acme__lib-5"] = [LIMIT] * 1000
    await pulled(ROWS, waits_for="acme__lib-2")
    assert "hub.invalid/acme__lib-2:latest" in engine.here


async def test_a_limit_is_waited_for(engine: Engine) -> None:
    engine.answers["acme__lib-1"] = [LIMIT, LIMIT]
    lines = await pulled(ROWS[:1])
    assert engine.asked == ["acme__lib-1"] * 3
    assert ["limits how often" in line for line in lines] == [True, True, False]
    assert lines[-1] == "images: 1 of 1; acme__lib-1: hub.invalid/acme__lib-1:latest"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("manifest unknown", "images: 2 of 5; acme__lib-2: hub.invalid/acme__lib-2:latest: manifest unknown"),
        ("no space left on device", "images are no longer pulled ahead: 1 of 5 images are here, and"),
    ],
)
async def test_what_cant_be_pulled_holds_nobody_up(engine: Engine, said: str, told: str) -> None:
    """Its attempt looks itself: there may be a recipe, and it has tries of its own."""
    engine.answers["acme__lib-2"] = [said]
    lines = await pulled(ROWS)
    assert any(line.startswith(told) for line in lines), lines


async def test_bundled_tasks_and_other_kinds_wait_for_nothing(engine: Engine) -> None:
    bundled = instance("mini__a-1", bundled="/somewhere")
    engine.answers["acme__lib-1"] = [LIMIT] * 1000
    await pulled([ROWS[0], bundled], waits_for="mini__a-1")
    await pulled(ROWS, kind="bubblewrap")
    assert set(engine.asked) <= {"acme__lib-1"}


# -- a whole run, a real engine, a registry on loopback


@pytest.fixture
def registry() -> Iterator[Registry]:
    need("docker")
    with serving() as registry:
        yield registry
        client = connect("docker")
        for name in registry.manifests:
            for image in client.images.list(f"{registry.host}/{name}"):
                client.images.remove(image.id, force=True)
        client.close()


@pytest.mark.docker
@pytest.mark.heavy
def test_a_runs_images_come_past_a_limit_and_no_attempt_hears_of_it(registry: Registry, tmp_path: Path) -> None:
    """The images hold no shell, so that there is no verdict; what counts is that no try was lost to the limit."""
    base = repository(tmp_path / "clones" / "pallets__flask")[-1]
    rows = [instance(f"acme__lib-{number}", base_commit=base, repo="pallets/flask") for number in (1, 2)]
    for row in rows:
        files = {"testbed/.git/HEAD": b"ref: refs/heads/main\n", "name": row.instance_id.encode()}
        registry.add(f"eval.{row.instance_id}", files)
    registry.limited, registry.words = 3, "retry-after: 1ms, allowed: 44000/minute"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row_of(row)) + "\n" for row in rows))
    predictions = [
        {"instance_id": row.instance_id, "model_name_or_path": "m", "model_patch": "+++ b/x\n"} for row in rows
    ]
    (tmp_path / "preds.json").write_text(json.dumps(predictions))
    evaluation = Evaluation(tmp_path)
    done = evaluation.agent(
        "grade", str(tmp_path / "rows.jsonl"), "--predictions", str(tmp_path / "preds.json"), "--sandbox", "docker",
        "--out", str(evaluation.out), "--image-names", f"{registry.host}/eval.{{id}}:latest", "--tries", "1",
        "--repositories", str(tmp_path / "clones"), "--json",
    )  # fmt: skip
    told = [event["text"] for event in done.events if event["event"] == "said"]
    assert any("limits how often images are pulled" in line for line in told), done.out + done.err
    assert any(line.startswith("images: 2 of 2") for line in told)
    assert len(evaluation.records()) == 2
    for record in evaluation.records().values():
        assert record.tries == ()
        assert record.infrastructure
        assert not re.search("limit|pulled|can't be had", record.infrastructure), record.infrastructure
    fetched = [name for name in registry.asked if name in registry.manifests]
    assert len(fetched) <= len(rows) * 2 + 3 * 2  # the engine asks more than once for one pull
