"""A registry that is away: no failure of the model's, tried again, and told apart, whatever the kind of instance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.mini.dataset import mini_dataset
from evals.mini.repositories import bundled_repository
from evals.runs.record import Status
from tests.evals.runs.harness import LIGHT, Evaluation, dataset, scripted
from tests.evals.terminal.folders import model_script, newer
from tests.sandbox.kinds import need

pytestmark = [pytest.mark.docker, pytest.mark.heavy]
AWAY = "127.0.0.1:9/org/image:1"
"""Nothing listens there."""
OTHER = "mini__sweep-14"


@pytest.fixture(autouse=True)
def docker() -> None:
    need("docker")


def test_an_instances_image(tmp_path: Path) -> None:
    """One instance has its environment, the other one's registry is away: only the first has a verdict."""
    (other,) = (one for one in mini_dataset().instances if one.instance_id == OTHER)
    repositories = tmp_path / "repositories"
    shutil.copytree(bundled_repository(other), repositories / f"{OTHER}.git")

    def published(row: dict[str, Any]) -> dict[str, Any]:
        if row["instance_id"] == OTHER:
            del row["bundled"]
            row["image"] = AWAY
        return row

    rows = dataset(tmp_path / "rows.jsonl", *LIGHT, OTHER, change=published)
    evaluation, model = Evaluation(tmp_path, "docker"), scripted(tmp_path / "script.json")
    done = evaluation.run("--tries", "2", "--repositories", str(repositories), dataset=rows, model=model)
    assert done.code == 3, done.out + done.err
    records = evaluation.records()
    assert records[LIGHT[0], 1].status is Status.RESOLVED
    away = records[OTHER, 1]
    assert (away.status, away.predicted, away.judged) == (Status.INFRASTRUCTURE, None, None)
    assert "registry not reachable" in away.infrastructure
    assert len(away.tries) == 1  # the first one; the last says why there is no verdict
    assert "registry not reachable" in away.tries[0]
    report = evaluation.report()
    assert (report["counts"]["resolved"], report["counts"]["infrastructure"], report["counts"]["attempts"]) == (1, 1, 2)
    assert report["resolved"]["rate"] == 0.5
    assert report["resolved"]["with_a_verdict"]["rate"] == 1.0
    summary = json.loads(next(evaluation.out.glob("scripted-mini.*.json")).read_text())
    assert (summary["incomplete_ids"], summary["unresolved_ids"]) == ([OTHER], [])


def test_a_tasks_image(tmp_path: Path) -> None:
    """Without a Dockerfile there is no environment; with one it is built, and the record says so."""
    tasks = tmp_path / "tasks"
    newer(tasks / "built", environment={"docker_image": AWAY})
    lost = newer(tasks / "lost", environment={"docker_image": AWAY})
    (lost / "environment/Dockerfile").unlink()
    evaluation = Evaluation(tmp_path, "docker")
    model = model_script(tmp_path / "script.json")
    done = evaluation.run("--tries", "2", dataset=str(tasks), model=model)
    assert done.code == 3, done.out + done.err
    built, lost_one = evaluation.records()["built", 1], evaluation.records()["lost", 1]
    assert (built.status, built.environment["source"]) == (Status.RESOLVED, "task")
    assert (lost_one.status, lost_one.predicted, len(lost_one.tries)) == (Status.INFRASTRUCTURE, None, 1)
    assert "it has no Dockerfile" in lost_one.infrastructure
    assert "docker load" in lost_one.infrastructure


def test_an_image_that_is_there_needs_no_dockerfile(tmp_path: Path) -> None:
    """Its work folder is empty, and made where the image has none."""
    tests = "import pathlib\n\n\ndef test_it():\n    assert pathlib.Path('/srv/deep/out.txt').read_text() == 'x\\n'\n"
    task = newer(
        tmp_path / "tasks/plain",
        {"tests/test_outputs.py": tests},
        environment={"docker_image": "patchwright/base:latest", "workdir": "/srv/deep"},
    )
    (task / "environment/Dockerfile").unlink()
    evaluation = Evaluation(tmp_path, "docker")
    model = model_script(tmp_path / "script.json", "echo x >out.txt")
    done = evaluation.run("--tries", "1", dataset=str(tmp_path / "tasks"), model=model)
    assert done.code == 0, done.out + done.err
    found = evaluation.records()["plain", 1]
    assert (found.status, found.environment["source"]) == (Status.RESOLVED, "published")
    assert found.predicted is not None
    assert found.predicted.edited == ("out.txt",)
