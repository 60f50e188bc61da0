"""What any `Forge` does, run against GitHub's client and the fake GitHub: as an App, and with a person's token."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent.forges.base import Forge, ForgeProblem, Permission, Person, Place, Secret
from agent.forges.github.auth import TokenAuth
from agent.forges.github.forge import open_github
from tests.forges.conftest import QUICK, SLUG, Scene

pytestmark = pytest.mark.heavy


@pytest.fixture(params=["app", "token"])
async def bot(request: pytest.FixtureRequest, scene: Scene) -> AsyncIterator[Forge]:
    if request.param == "app":
        yield scene.bot
        return
    scene.forge.grant(SLUG, "robot", "write")
    forge = open_github(TokenAuth(Secret(scene.forge.user_token("robot")), only=SLUG), scene.forge.api, QUICK)
    yield forge
    await forge.close()


class TestForge:
    async def test_me_is_who_our_comments_are_by(self, scene: Scene, bot: Forge) -> None:
        number = await scene.forge.open_issue(SLUG, "mia", "Adds wrongly")
        said = await bot.say(SLUG, number, "Looking", "status")
        assert said.author == await bot.me()
        assert said.author.bot is (said.author.login == "patchwright[bot]")

    async def test_repository(self, scene: Scene, bot: Forge) -> None:
        found = await bot.repository(SLUG)
        assert (found.slug, found.default_branch, found.private) == (SLUG, "main", False)
        assert found.id == scene.forge.repo(SLUG).id

    async def test_ticket_of_an_issue(self, scene: Scene, bot: Forge) -> None:
        number = await scene.forge.open_issue(SLUG, "ann", "Adds wrongly", "add(1, 1) is 0", ["bug"])
        found = await bot.ticket(SLUG, number)
        assert (found.title, found.body, found.labels) == ("Adds wrongly", "add(1, 1) is 0", ("bug",))
        assert found.open and not found.pull
        assert found.author.login == "ann"
        await scene.forge.close_thread(SLUG, number, "ann")
        assert not (await bot.ticket(SLUG, number)).open

    async def test_a_missing_ticket_is_a_problem_that_names_it(self, bot: Forge) -> None:
        with pytest.raises(ForgeProblem, match="issues/77") as raised:
            await bot.ticket(SLUG, 77)
        assert raised.value.status == 404 and not raised.value.again

    async def test_comments_are_the_newest_hundred_in_order(self, scene: Scene, bot: Forge) -> None:
        number = await scene.forge.open_issue(SLUG, "ann", "Long")
        for index in range(237):
            await scene.forge.comment(SLUG, number, "ann", f"say {index}")
        bodies = [one.body for one in await bot.comments(SLUG, number)]
        assert bodies == [f"say {index}" for index in range(137, 237)]

    async def test_one_comment_per_marker(self, scene: Scene, bot: Forge) -> None:
        number = await scene.forge.open_issue(SLUG, "ann", "Bug")
        first = await bot.say(SLUG, number, "Looking", "status")
        second = await bot.say(SLUG, number, "Done", "status")
        third = await bot.say(SLUG, number, "Really done", "status", known=second.id)
        other = await bot.say(SLUG, number, "Help", "help")
        assert first.id == second.id == third.id != other.id
        bodies = [note.body for note in scene.forge.repo(SLUG).notes]
        assert [body.partition("\n")[2] for body in bodies] == ["Really done", "Help"]

    async def test_somebody_elses_marker_is_not_ours(self, scene: Scene, bot: Forge) -> None:
        number = await scene.forge.open_issue(SLUG, "ann", "Bug")
        theirs = await scene.forge.comment(SLUG, number, "ann", "<!-- patchwright:status -->\nmine")
        said = await bot.say(SLUG, number, "Looking", "status")
        assert said.id != theirs.id
        assert scene.forge.note(scene.forge.repo(SLUG), theirs.id).body.endswith("mine")

    async def test_a_marker_quoted_inside_a_comment_of_ours_does_not_count(self, scene: Scene, bot: Forge) -> None:
        number = await scene.forge.open_issue(SLUG, "ann", "Bug")
        help_text = await bot.say(SLUG, number, "it said <!-- patchwright:status -->", "help")
        assert (await bot.say(SLUG, number, "Looking", "status")).id != help_text.id

    async def test_a_deleted_comment_is_made_again(self, scene: Scene, bot: Forge) -> None:
        number = await scene.forge.open_issue(SLUG, "ann", "Bug")
        first = await bot.say(SLUG, number, "Looking", "status")
        await scene.forge.delete_comment(SLUG, first.id, "mia")
        again = await bot.say(SLUG, number, "Done", "status", known=first.id)
        assert again.id != first.id and again.body.endswith("Done")

    async def test_a_long_body_is_cut_with_a_note(self, scene: Scene, bot: Forge) -> None:
        number = await scene.forge.open_issue(SLUG, "ann", "Bug")
        said = await bot.say(SLUG, number, "```\n" + "x" * 70_000, "status")
        assert len(said.body) <= 65_536
        assert "more characters" in said.body.splitlines()[-1]
        assert sum(line.startswith("```") for line in said.body.splitlines()) == 2

    async def test_reactions_are_put_once(self, scene: Scene, bot: Forge) -> None:
        number, remark = await _reviewed(scene)
        note = await scene.forge.comment(SLUG, number, "ann", "please")
        for _ in range(2):
            assert await bot.react(SLUG, Place.ISSUE, number)
            assert await bot.react(SLUG, Place.COMMENT, note.id, "rocket")
            assert await bot.react(SLUG, Place.REVIEW_COMMENT, remark)
        assert not await bot.react(SLUG, Place.REVIEW, 1)
        found = [(one.kind, one.content) for one in scene.forge.repo(SLUG).reactions]
        assert found == [("issue", "eyes"), ("comment", "rocket"), ("review_comment", "eyes")]

    async def test_review_comments_of_a_pull_and_of_one_review(self, scene: Scene, bot: Forge) -> None:
        number, remark = await _reviewed(scene)
        review, more = await scene.forge.review(
            SLUG, number, "mia", "twice", [("calc.py", 1, "name?"), ("calc.py", 2, "why?")]
        )
        everything = await bot.review_comments(SLUG, number)
        assert [one.id for one in everything] == [remark, *(one.id for one in more)]
        chosen = await bot.review_comments(SLUG, number, review.id)
        assert [(one.body, one.path, one.line) for one in chosen] == [("name?", "calc.py", 1), ("why?", "calc.py", 2)]
        assert all(one.review == review.id and one.in_reply_to is None for one in chosen)
        assert "return a + b" in chosen[1].diff_hunk

    async def test_an_answer_goes_into_the_thread_once(self, scene: Scene, bot: Forge) -> None:
        number, remark = await _reviewed(scene)
        follow_up = await scene.forge.reply(SLUG, remark, "mia", "and the docs?")
        await bot.reply(SLUG, number, remark, "Will do", "answer-1")
        await bot.reply(SLUG, number, remark, "Done", "answer-1")
        await bot.reply(SLUG, number, follow_up.id, "Docs too", "answer-2")  # the thread's first comment is found
        mine = [one for one in await bot.review_comments(SLUG, number) if one.author == await bot.me()]
        assert [(one.in_reply_to, one.body.partition("\n")[2]) for one in mine] == [
            (remark, "Done"),
            (remark, "Docs too"),
        ]

    async def test_a_pull_request_is_one_however_often_it_is_opened(self, scene: Scene, bot: Forge) -> None:
        sha = await scene.forge.push(SLUG, "mia", "fix/1", {"calc.py": "fixed\n"}, "Fix")
        assert await bot.pull_of(SLUG, "fix/1") is None
        first = await bot.open_pull(SLUG, "fix/1", "main", "Fix adding", "why")
        again = await bot.open_pull(SLUG, "fix/1", "main", "Fix adding again", "why else")
        assert first.number == again.number
        assert (first.draft, first.open, first.head, first.head_sha, first.base) == (True, True, "fix/1", sha, "main")
        assert (again.title, again.body, first.head_repository) == ("Fix adding again", "why else", SLUG)
        assert await bot.pull_of(SLUG, "fix/1") == again == await bot.pull(SLUG, first.number)
        await scene.forge.close_thread(SLUG, first.number, "mia")
        assert await bot.pull_of(SLUG, "fix/1") is None
        assert (await bot.open_pull(SLUG, "fix/1", "main", "Anew", "")).number != first.number

    async def test_a_pull_request_of_a_fork_is_told_apart(self, scene: Scene, bot: Forge) -> None:
        await scene.forge.fork(SLUG, "eve")
        await scene.forge.push("eve/demo", "eve", "fix/1", {"calc.py": "evil\n"}, "Mine")
        number = await scene.forge.open_pull(SLUG, "eve", "eve:fix/1", "main", "Take it")
        assert (await bot.pull(SLUG, number)).head_repository == "eve/demo"
        assert await bot.pull_of(SLUG, "fix/1") is None
        await scene.forge.fork(SLUG, "octo", "copy")  # of the same owner, so that `owner:branch` is the same
        await scene.forge.push("octo/copy", "eve", "fix/1", {"calc.py": "evil too\n"}, "Mine")
        await scene.forge.open_pull(SLUG, "eve", "octo/copy:fix/1", "main", "Take it too")
        assert await bot.pull_of(SLUG, "fix/1") is None

    async def test_where_there_are_no_drafts_a_plain_one_is_opened(self, scene: Scene, bot: Forge) -> None:
        scene.forge.repo(SLUG).drafts = False
        await scene.forge.push(SLUG, "mia", "fix/1", {"calc.py": "fixed\n"}, "Fix")
        assert not (await bot.open_pull(SLUG, "fix/1", "main", "Fix", "")).draft

    async def test_a_pull_request_without_commits_is_a_problem(self, scene: Scene, bot: Forge) -> None:
        with pytest.raises(ForgeProblem, match="422"):
            await bot.open_pull(SLUG, "nowhere", "main", "Fix", "")

    async def test_title_and_body_are_edited(self, scene: Scene, bot: Forge) -> None:
        await scene.forge.push(SLUG, "mia", "fix/1", {"calc.py": "fixed\n"}, "Fix")
        made = await bot.open_pull(SLUG, "fix/1", "main", "Fix", "old")
        await bot.edit_pull(SLUG, made.number, body="new")
        changed = await bot.pull(SLUG, made.number)
        assert (changed.title, changed.body) == ("Fix", "new")

    async def test_failed_checks_say_what_failed(self, scene: Scene, bot: Forge) -> None:
        sha = await scene.forge.push(SLUG, "mia", "fix/1", {"calc.py": "x\n"}, "Fix")
        note = {"path": "calc.py", "start_line": 1, "end_line": 1, "annotation_level": "failure", "message": "bad name"}
        await scene.forge.check(SLUG, sha, "tests", "failure", log="one\n" * 9000 + "E assert 2 == 0\n")
        await scene.forge.check(SLUG, sha, "lint", "failure", title="1 error", annotations=[note], app="linter")
        await scene.forge.check(SLUG, sha, "docs", "success")
        await scene.forge.check(SLUG, sha, "slow", "failure")
        await scene.forge.check(SLUG, sha, "slow", "success")  # run again since
        found = {one.name: one for one in await bot.failed_checks(SLUG, sha)}
        assert set(found) == {"tests", "lint"}
        if (await bot.me()).bot:
            assert found["tests"].log.endswith("E assert 2 == 0\n") and len(found["tests"].log) <= 20_000
        assert found["lint"].summary == "1 error"
        assert found["lint"].text == "calc.py:1: failure: bad name"

    async def test_files_of_a_branch(self, scene: Scene, bot: Forge) -> None:
        await scene.forge.push(SLUG, "mia", "other", {".patchwright.toml": "x = 2\n"}, "Change")
        assert await bot.file(SLUG, ".patchwright.toml", "main") == b"x = 1\n"
        assert await bot.file(SLUG, ".patchwright.toml", "other") == b"x = 2\n"
        assert await bot.file(SLUG, "missing.toml", "main") is None
        for path in ("../../secret", "/etc/passwd", "a//b", "."):
            with pytest.raises(ForgeProblem, match="no path"):
                await bot.file(SLUG, path, "main")

    async def test_a_huge_file_is_a_problem(self, scene: Scene, bot: Forge) -> None:
        await scene.forge.push(SLUG, "mia", "main", {"big": "x" * 1_200_000}, "Big")
        with pytest.raises(ForgeProblem, match="1200000"):
            await bot.file(SLUG, "big", "main")

    @pytest.mark.parametrize("role", [*Permission])
    async def test_permission_is_the_role(self, scene: Scene, bot: Forge, role: Permission) -> None:
        scene.forge.repo(SLUG).private = True
        scene.forge.grant(SLUG, "ann", role.name.lower())
        ann = Person(scene.forge.add_person("ann").id, "ann")
        assert await bot.permission(SLUG, ann) is role

    async def test_a_login_that_changed_hands_has_no_permission(self, scene: Scene, bot: Forge) -> None:
        mia = Person(scene.forge.add_person("mia").id, "mia")
        assert await bot.permission(SLUG, mia) is Permission.MAINTAIN
        scene.forge.rename_person("mia", "mia2")
        assert await bot.permission(SLUG, mia) is Permission.MAINTAIN  # the account of that id, whatever its login
        scene.forge.add_person("mia")
        scene.forge.grant(SLUG, "mia", "admin")
        assert await bot.permission(SLUG, mia) is Permission.MAINTAIN
        assert await bot.permission(SLUG, Person(999_999, "mia")) is Permission.NONE
        assert await bot.permission(SLUG, Person(999_999, "nobody")) is Permission.NONE

    @pytest.mark.parametrize("slug", ["octo", "octo/demo/../x", "../demo", "octo/..", "octo/demo?x=1", "", "a/b\nc"])
    async def test_what_is_no_repository_is_never_asked_for(self, scene: Scene, bot: Forge, slug: str) -> None:
        before = len(scene.forge.asked)
        for refused in (
            bot.repository(slug),
            bot.git_access(slug),
            bot.file(slug, "x", "main"),
            bot.pull_of(slug, "x"),
        ):
            with pytest.raises(ForgeProblem):
                await refused
        assert len(scene.forge.asked) == before

    async def test_another_repository_is_out_of_reach(self, scene: Scene, bot: Forge) -> None:
        await scene.forge.add_repository("octo/other", {"a": "b\n"})
        for refused in (
            bot.repository("octo/other"),
            bot.git_access("octo/other"),
            bot.say("octo/other", 1, "hi", "x"),
        ):
            with pytest.raises(ForgeProblem):
                await refused


async def _reviewed(scene: Scene) -> tuple[int, int]:
    """A pull request with one review comment: their numbers."""
    await scene.forge.push(SLUG, "mia", "fix/1", {"calc.py": "def add(a, b):\n    return a + b\n"}, "Fix")
    number = await scene.forge.open_pull(SLUG, "mia", "fix/1", "main", "Fix")
    _, remarks = await scene.forge.review(SLUG, number, "mia", "", [("calc.py", 2, "a test?")])
    return number, remarks[0].id
