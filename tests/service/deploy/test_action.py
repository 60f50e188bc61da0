"""`action.yml`: its steps as a runner runs them, on a repository of the fake forge, with a scripted model."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra `service`")
pytest.importorskip("uvicorn", reason="needs the extra `service`")
pytest.importorskip("cryptography", reason="needs the extra `service`")

from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from agent.forges.fake.state import Thread
from tests.runs.harness import BUGGY, FIX, ISSUE, fixing_turns, served
from tests.service.bot.conftest import SLUG
from tests.service.deploy.runner import Job, Runner, action, installed_agent

GRANTED = {"contents": "write", "issues": "write", "pull_requests": "write"}  # docs/action.md says so
HOSTILE = 'mean() $(touch pwned) `touch pwned` "; touch pwned; ${{ github.token }} \n::set-output name=result::x'


@dataclass
class Scene:
    forge: FakeForge
    runner: Runner
    number: int
    agent: str

    def record(self) -> dict[str, Any]:
        repo = self.forge.repo(SLUG)
        return self.forge.records.issue(repo, self.forge.thread(repo, self.number))

    def event(self, sender: str, action: str = "labeled", **more: Any) -> dict[str, Any]:
        """An event's payload, as GitHub writes it into the runner's file."""
        records, repo = self.forge.records, self.forge.repo(SLUG)
        who = self.forge.add_person(sender)
        return {"action": action, "issue": self.record(), "repository": records.repository(repo),
                "sender": records.user(who), **more}  # fmt: skip

    def label(self, name: str = "patchwright") -> dict[str, Any]:
        return {"label": {"id": 1, "name": name}}

    async def comment(self, login: str, body: str) -> dict[str, Any]:
        note = await self.forge.comment(SLUG, self.number, login, body)
        return {"comment": self.forge.records.note(self.forge.repo(SLUG), note)}

    async def run(self, event: str, payload: dict[str, Any], turns: list[Any] | None = None, **inputs: str) -> Job:
        given = {"agent": self.agent, "sandbox": "none", "max_steps": "20", **inputs}
        if turns is None:
            return await asyncio.to_thread(self.runner.run, event, payload, model_url="http://127.0.0.1:9", **given)
        with served(turns) as model:
            return await asyncio.to_thread(self.runner.run, event, payload, model_url=model.url, **given)

    def pulls(self) -> list[Thread]:
        return [one for one in self.forge.repo(SLUG).threads if one.pull]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with fake_forge(tmp_path / "forge") as forge:
        await forge.add_repository(SLUG, BUGGY)
        forge.grant(SLUG, "mia", "write")
        number = await forge.open_issue(SLUG, "uma", HOSTILE, ISSUE.partition("\n\n")[2])
        runner = Runner(tmp_path, forge.api, SLUG, forge.workflow_token(SLUG, GRANTED))
        yield Scene(forge, runner, number, installed_agent(tmp_path))


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_a_label_becomes_a_draft_pull_request_and_a_second_wish_a_branch_of_its_own(scene: Scene) -> None:
    job = await scene.run("issues", scene.event("mia", **scene.label()), fixing_turns())
    (pull,) = scene.pulls()
    assert (job.code, job.outputs) == (0, {"result": "pull request", "pull-request": str(pull.number)}), job.log
    assert pull.pull is not None
    assert (pull.pull.draft, pull.pull.head) == (True, "patchwright/issue-1")
    assert FIX.splitlines()[0] in await _diff(scene, pull.pull.head_sha)
    assert not list(scene.runner.folder.rglob("pwned"))
    assert scene.runner.token not in _written(scene.runner.folder / "temp") + job.log
    assert _commands(job.log) == []

    said = await scene.comment("mia", "@patchwright fix")
    job = await scene.run("issue_comment", scene.event("mia", "created", **said), fixing_turns(), home=str(
        scene.runner.folder / "another-runner"), draft="no")  # fmt: skip
    assert job.code == 0, job.log
    parts = [one.pull for one in scene.pulls() if one.pull]
    assert [(one.head, one.draft) for one in parts] == [("patchwright/issue-1", True), ("patchwright/issue-1-2", False)]


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_a_workflow_that_is_started_by_hand_solves_the_issue_that_it_is_given(scene: Scene) -> None:
    event = {name: value for name, value in scene.event("mia").items() if name not in ("issue", "action")}
    job = await scene.run("workflow_dispatch", event, fixing_turns(), issue=str(scene.number))
    assert (job.code, job.outputs["result"], len(scene.pulls())) == (0, "pull request", 1), job.log


@pytest.mark.heavy
async def test_nobody_without_write_permission_has_anything_done(scene: Scene) -> None:
    said = await scene.comment("eve", "@patchwright fix")
    job = await scene.run("issue_comment", scene.event("eve", "created", **said))
    assert (job.code, job.outputs) == (0, {"result": "refused", "pull-request": ""}), job.log
    assert "may not ask" in job.log
    assert not scene.pulls()
    assert not list(scene.runner.folder.rglob("events.jsonl"))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("event", "changed", "inputs", "code", "said"),
    [
        ("issues", {"label": {"id": 2, "name": "bug"}}, {}, 0, "another label than the bot's"),
        ("push", {}, {}, 0, "an event that the bot doesn't follow"),
        ("issues", {"repository": {"id": 5, "full_name": "octo/other"}}, {}, 6, "is a workflow of octo/calc"),
        ("issues", {}, {"issue": "1"}, 6, "an issue is named for workflow_dispatch only"),
        ("workflow_dispatch", {}, {"issue": "1; touch pwned"}, 2, "is not a valid integer"),
        ("issues", {"issue": []}, {}, 6, "`issue` isn't an object"),
        ("issues", {}, {"token": "ghs_wrong"}, 11, "Bad credentials"),
    ],
)
async def test_other_events_and_bad_inputs_say_what_they_are(
    scene: Scene, event: str, changed: dict[str, Any], inputs: dict[str, str], code: int, said: str
) -> None:
    job = await scene.run(event, {**scene.event("mia", **scene.label()), **changed}, **inputs)
    assert (job.code, said in job.log) == (code, True), job.log
    assert not list(scene.runner.folder.rglob("pwned"))


def test_what_events_say_reaches_no_shell() -> None:
    """Steps take expressions through `env` alone, and the event through its file."""
    told = action()
    for step in told["runs"]["steps"]:
        assert "${{" not in step["run"]
    assert "github.event" not in json.dumps(told)


def test_the_action_has_the_form_that_github_documents() -> None:
    told = action()
    assert set(told) == {"name", "description", "author", "branding", "inputs", "outputs", "runs"}
    assert len(told["description"]) <= 125  # what the marketplace takes
    assert (told["runs"]["using"], set(told["runs"])) == ("composite", {"using", "steps"})
    for one in told["inputs"].values():
        assert set(one) <= {"description", "required", "default", "deprecationMessage"}
        assert isinstance(one["description"], str)
        assert one.get("required") or isinstance(one["default"], str)
    for one in told["outputs"].values():
        assert set(one) == {"description", "value"}
    for step in told["runs"]["steps"]:
        assert {"id", "run", "shell", "env"} == set(step)
        assert all(isinstance(value, str) for value in step["env"].values())
    names = re.findall(r"inputs\.([\w-]+)", json.dumps(told["runs"]))
    assert set(names) == set(told["inputs"])


async def _diff(scene: Scene, sha: str) -> str:
    from agent.git import git

    return (await git("show", sha, at=scene.forge.bare(scene.forge.repo(SLUG)))).decode()


def _written(folder: Path) -> str:
    return "".join(file.read_bytes().decode("latin-1") for file in folder.rglob("*") if file.is_file())


def _commands(log: str) -> list[str]:
    """Lines that a runner takes as commands, with what they may not say while it is told not to listen."""
    return [line for line in log.splitlines() if line.startswith("::set-output")]
