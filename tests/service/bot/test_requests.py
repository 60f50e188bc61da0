"""Requests from admission to the last word, on the fake forge over real HTTP and git, with real runs."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from agent.forges.base import Place
from agent.request import Patience
from service.bot import running
from service.bot.admission import admit
from service.store import StoreUnavailable, Thread
from service.webhooks.model import WishKind
from tests.runs.harness import call, fixing_turns, served
from tests.runs.test_follow_up import FURTHER
from tests.service.bot.conftest import SLUG, Remembered, Scene

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(120)]


def git(scene: Scene, *arguments: str) -> str:
    bare = scene.forge.bare(scene.repo)
    return subprocess.run(
        ["git", "-C", str(bare), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def give_up() -> list[dict[str, Any]]:
    words = "I could not reproduce it: mean([2, 4]) is 3 here. @uma, which version is it? See #1 ![x](http://evil.example/x)"
    return [call("submit", "Nothing.", summary=words), call("submit", "Nothing.", summary=words)]


async def test_an_issue_becomes_a_draft_pull_request(scene: Scene) -> None:
    ended = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    assert ended["end"] == "pull request"
    pull = scene.conversation(ended["pull"])
    assert pull.pull is not None
    assert pull.pull.draft
    assert (pull.pull.head, pull.pull.base) == (f"patchwright/issue-{scene.number}", "main")
    assert git(scene, "diff", "--stat", "main", pull.pull.head).startswith("calc/ops.py | 2 +-")
    assert f"Fixes #{scene.number}." in pull.body
    assert "mean() divided by one too many." in pull.body
    assert "fails without the change, passes with it" in pull.body
    message = git(scene, "log", "-1", "--format=%an <%ae>%n%B", pull.pull.head)
    assert message.startswith("patchwright[bot] <")
    assert "Co-authored-by: mia <" in message

    (status,) = scene.ours(scene.number)
    assert f"#{pull.number}" in status
    assert "It was shown to work" in status
    assert {one.content for one in scene.repo.reactions} == {"eyes"}
    kept = await scene.threads.get(scene.repo.id, scene.number)
    assert kept is not None
    assert (kept.pull, kept.head) == (pull.number, pull.pull.head_sha)


async def test_a_review_comment_leads_to_a_commit_in_the_same_conversation(scene: Scene) -> None:
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    pull = scene.conversation(first["pull"]).pull
    assert pull is not None
    before = pull.head_sha
    review, (remark,) = await scene.forge.review(
        SLUG, first["pull"], "mia", "One thing.", [("calc/ops.py", 2, "Say what an empty list gives.")]
    )
    asked = scene.asks(
        WishKind.REVIEWED, "One thing.", number=first["pull"], review=review.id, place=Place.REVIEW, pull=True
    )
    ended = await scene.ask([*fixing_turns(), *FURTHER], asked)
    assert ended["end"] == "pull request"
    assert ended["run"] == first["run"]
    assert ended["pull"] == first["pull"]
    assert git(scene, "rev-parse", f"{pull.head}^") == before
    assert "without values" in git(scene, "show", f"{pull.head}:calc/ops.py")
    (answer,) = [one for one in scene.repo.remarks if one.in_reply_to == remark.id]
    assert f"Done in {ended['commit'][:12]}." in answer.body
    log = next((scene.folder / "runs").glob(f"*/{ended['run']}/events.jsonl"))
    (said,) = [event["data"] for event in map(json.loads, log.open()) if event["type"] == "follow_up"]
    assert "On calc/ops.py, line 2:" in said["text"]
    assert "Say what an empty list gives." in said["text"]
    assert not said["tree"]
    assert len(scene.ours(scene.number)) == 1


async def test_a_review_that_is_only_a_command_asks_for_nothing_more(scene: Scene) -> None:
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    review, (remark, _) = await scene.forge.review(
        SLUG,
        first["pull"],
        "mia",
        "",
        [("calc/ops.py", 2, "@patchwright stop"), ("calc/ops.py", 2, "@patchwright retry")],
    )
    place: dict[str, Any] = {"review": review.id, "place": Place.REVIEW, "pull": True}
    ended = await scene.ask([], scene.asks(WishKind.REVIEWED, number=first["pull"], **place))
    assert ended["end"] == "refused"
    assert len(scene.ours(scene.number)) == 1
    assert not [one for one in scene.repo.remarks if one.in_reply_to == remark.id]


async def test_a_review_that_is_known_by_a_comment_is_read_whole(scene: Scene) -> None:
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    words = ["Say what an empty list gives.", "@patchwright stop", "And name the error."]
    review, remarks = await scene.forge.review(
        SLUG, first["pull"], "mia", "", [("calc/ops.py", 2, one) for one in words]
    )
    place: dict[str, Any] = {"review": review.id, "comment": remarks[0].id, "place": Place.REVIEW_COMMENT, "pull": True}
    ended = await scene.ask(
        [*fixing_turns(), *FURTHER], scene.asks(WishKind.REVIEWED, words[0], number=first["pull"], **place)
    )
    log = next((scene.folder / "runs").glob(f"*/{ended['run']}/events.jsonl"))
    (said,) = [event["data"] for event in map(json.loads, log.open()) if event["type"] == "follow_up"]
    assert [said["text"].count(one) for one in words] == [1, 0, 1]


async def test_commits_of_people_stay_and_are_built_upon(scene: Scene) -> None:
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    branch = f"patchwright/issue-{scene.number}"
    theirs = await scene.forge.push(SLUG, "mia", branch, {"NEWS": "mean() is right now\n"}, "News")
    ended = await scene.ask([*fixing_turns(), *FURTHER], scene.asks(WishKind.CONTINUE, "The docstring, please."))
    assert ended["end"] == "pull request"
    assert git(scene, "rev-parse", f"{branch}^") == theirs
    assert git(scene, "show", f"{branch}:NEWS") == "mean() is right now"
    assert "without values" in git(scene, "show", f"{branch}:calc/ops.py")
    assert first["pull"] == ended["pull"]


async def test_a_review_after_an_attempt_that_came_to_nothing_keeps_what_is_there(scene: Scene) -> None:
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    again = await scene.ask(give_up(), scene.asks(WishKind.RETRY))
    assert (again["end"], again["run"] != first["run"]) == ("no change", True)
    review, _ = await scene.forge.review(SLUG, first["pull"], "mia", "", [("calc/ops.py", 2, "Of an empty list?")])
    place: dict[str, Any] = {"review": review.id, "place": Place.REVIEW, "pull": True}
    ended = await scene.ask([*give_up(), *FURTHER], scene.asks(WishKind.REVIEWED, number=first["pull"], **place))
    assert (ended["end"], ended["pull"]) == ("pull request", first["pull"])
    shown = git(scene, "show", f"patchwright/issue-{scene.number}:calc/ops.py")
    assert "without values" in shown
    assert "/ len(values)" in shown


async def test_a_review_is_heard_after_one_whose_model_was_away(scene: Scene) -> None:
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    impatient = replace(scene.bot.settings.run, patience=Patience(absence=0.1))
    scene.bot = replace(scene.bot, settings=replace(scene.bot.settings, run=impatient))
    await scene.ask([], scene.asks(WishKind.CONTINUE, "And the docstring."))
    ended = await scene.ask([*fixing_turns(), *FURTHER], scene.asks(WishKind.CONTINUE, "Please."))
    assert (ended["end"], ended["run"]) == ("pull request", first["run"])


async def test_what_is_asked_after_a_stop_is_asked_anew(scene: Scene) -> None:
    """It was stopped in mid-run: nothing of it was delivered."""
    asked = scene.asks(WishKind.FIX, "the old words")
    admitted = await admit(scene.bot.forge, scene.threads, scene.bot.settings.runs, asked)
    await scene.threads.put(admitted.thread)
    bare = await scene.bot.mirrors.bring(SLUG, scene.repo.id, "main")
    with served(fixing_turns()[:2]) as model:  # and then it has nothing more to say
        run = replace(scene.bot.settings.run, model=model.url)
        old = await running.begin(admitted.folder, scene.bot.mirrors.path(scene.repo.id), bare, "old words", run)
    ended = await scene.ask(fixing_turns(), scene.asks(WishKind.RETRY))
    assert ended["end"] == "pull request"
    assert ended["run"] != old.run


class Away(Remembered):
    """A database that doesn't answer once, when a run is to be kept."""

    away = 1

    async def put(self, thread: Thread) -> None:
        if thread.run and self.away:
            self.away -= 1
            raise StoreUnavailable("the database doesn't answer")
        await super().put(thread)


async def test_a_database_that_is_away_for_a_moment_loses_no_run(scene: Scene) -> None:
    threads = Away()
    scene.bot = replace(scene.bot, threads=threads)
    ended = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    assert (ended["end"], threads.away) == ("pull request", 0)


async def test_words_of_others_do_nothing_in_commits(scene: Scene) -> None:
    title = "mean() is off [skip ci] closes #1, fixes octo/other#5"
    number = await scene.forge.open_issue(SLUG, "uma", title, "It gives 2.")
    ended = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX, number=number))
    message = git(scene, "log", "-1", "--format=%B", ended["commit"])
    assert message.startswith("mean() is off (skip ci) closes the text of #1, fixes the text")


async def test_what_cannot_be_reproduced_is_said_and_calls_nobody(scene: Scene) -> None:
    ended = await scene.ask(give_up(), scene.asks(WishKind.FIX))
    assert ended["end"] == "no change"
    (status,) = scene.ours(scene.number)
    assert "I could not reproduce it" in status
    assert "@uma" not in status
    assert "#1 " not in status
    assert "![" not in status
    assert not [one for one in scene.repo.threads if one.pull]


async def test_who_may_not_write_there_may_not_ask(scene: Scene) -> None:
    scene.forge.grant(SLUG, "reader", "read")
    ended = await scene.ask([], scene.asks(WishKind.FIX, login="reader"))
    assert ended["end"] == "refused"
    assert ["write permission" in body for body in scene.ours(scene.number)] == [True]
    assert not (scene.folder / "runs").exists()


async def test_failing_checks_are_followed_up_and_bounded(scene: Scene) -> None:
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    sha = (await scene.bot.forge.pull(SLUG, first["pull"])).head_sha
    await scene.forge.check(
        SLUG, sha, "docs", "failure", summary="The docstring lacks the error.", log="line 2: D100\n"
    )
    asked = scene.asks(WishKind.CHECKS_FAILED, number=first["pull"], sha=sha, pull=True)
    ended = await scene.ask([*fixing_turns(), *FURTHER], asked)
    assert ended["end"] == "pull request"
    log = next((scene.folder / "runs").glob(f"*/{ended['run']}/events.jsonl")).read_text()
    assert "The docstring lacks the error." in log
    kept = await scene.threads.get(scene.repo.id, scene.number)
    assert kept is not None
    assert kept.checks_followed == 1


async def test_explain_and_help_run_nothing(scene: Scene) -> None:
    assert (await scene.ask([], scene.asks(WishKind.HELP)))["end"] == "answered"
    assert "`@patchwright fix`" in scene.ours(scene.number)[0]
    await scene.ask(give_up(), scene.asks(WishKind.FIX))
    assert (await scene.ask([], scene.asks(WishKind.EXPLAIN, comment=7)))["end"] == "answered"
    assert "made no change" in scene.ours(scene.number)[-1]


async def test_no_token_is_left_anywhere(scene: Scene) -> None:
    """Those of an App begin with ghs_, and its JSON web tokens with the word that begins each of them."""
    await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    files = [path for path in scene.folder.rglob("*") if path.is_file() and scene.folder / "forge" not in path.parents]
    assert len(files) > 20
    for path in files:
        assert not re.search(rb"ghs_|eyJ[A-Za-z0-9_-]{10}|BEGIN (RSA )?PRIVATE|x-access-token", path.read_bytes()), path
