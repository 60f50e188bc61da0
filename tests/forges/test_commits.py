"""Commits and their way to a branch: what is pushed, and what is never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.forges.base import ForgeProblem, GitAccess, Moved, Secret
from agent.forges.commits import Identity, commit, fetch, push, tip, with_trailers
from agent.forges.github.auth import TokenAuth
from agent.forges.github.forge import open_github
from agent.git import git, git_line
from tests.forges.conftest import QUICK, SLUG, Scene

pytestmark = pytest.mark.heavy

US = Identity("patchwright[bot]", "1+patchwright[bot]@users.noreply.github.com")
BRANCH = "patchwright/issue-1"


@pytest.fixture
async def bare(tmp_path: Path) -> Path:
    folder = tmp_path / "bare.git"
    await git("init", "-q", "--bare", str(folder))
    return folder


async def change(bare: Path, base: str, text: str) -> str:
    """A commit on top of `base` that changes calc.py."""
    blob = (await git("hash-object", "-w", "--stdin", at=bare, stdin=text.encode())).decode().strip()
    tree = (await git("mktree", at=bare, stdin=f"100644 blob {blob}\tcalc.py\n".encode())).decode().strip()
    return await commit(bare, tree, [base], f"Set {text}", US)


async def start(scene: Scene, bare: Path) -> tuple[GitAccess, str]:
    access = await scene.bot.git_access(SLUG)
    return access, await fetch(access, bare, "main")


async def test_a_new_branch_then_a_follow_up(scene: Scene, bare: Path) -> None:
    access, base = await start(scene, bare)
    assert await tip(access, BRANCH) is None
    first = await change(bare, base, "one")
    await push(access, bare, first, BRANCH, None)
    second = await change(bare, first, "two")
    await push(access, bare, second, BRANCH, first)
    assert await tip(access, BRANCH) == second
    assert await scene.forge.sha(scene.forge.repo(SLUG), BRANCH) == second


async def test_pushing_again_is_a_success(scene: Scene, bare: Path) -> None:
    access, base = await start(scene, bare)
    made = await change(bare, base, "one")
    for _ in range(2):
        await push(access, bare, made, BRANCH, None)
    assert await tip(access, BRANCH) == made


async def test_what_we_pushed_ourselves_may_be_replaced(scene: Scene, bare: Path) -> None:
    access, base = await start(scene, bare)
    first = await change(bare, base, "one")
    await push(access, bare, first, BRANCH, None)
    other = await change(bare, base, "other")  # not on top of the first one
    await push(access, bare, other, BRANCH, first)
    assert await tip(access, BRANCH) == other


async def test_a_persons_commit_is_never_overwritten(scene: Scene, bare: Path) -> None:
    access, base = await start(scene, bare)
    first = await change(bare, base, "one")
    await push(access, bare, first, BRANCH, None)
    theirs = await scene.forge.push(SLUG, "mia", BRANCH, {"calc.py": "better\n"}, "Mine")
    for expected in (first, None):
        with pytest.raises(Moved, match="Somebody else pushed") as raised:
            await push(access, bare, await change(bare, first, "two"), BRANCH, expected)
        assert theirs[:12] in str(raised.value) and not raised.value.again
    assert await tip(access, BRANCH) == theirs
    assert await fetch(access, bare, BRANCH) == theirs
    await push(access, bare, await change(bare, theirs, "three"), BRANCH, theirs)  # built on theirs


async def test_a_branch_that_is_there_already_isnt_taken_for_new(scene: Scene, bare: Path) -> None:
    access, base = await start(scene, bare)
    theirs = await scene.forge.push(SLUG, "mia", BRANCH, {"calc.py": "mine\n"}, "Mine")
    with pytest.raises(Moved):
        await push(access, bare, await change(bare, base, "one"), BRANCH, None)
    assert await tip(access, BRANCH) == theirs


async def test_a_branch_that_somebody_deleted_isnt_brought_back(scene: Scene, bare: Path) -> None:
    access, base = await start(scene, bare)
    first = await change(bare, base, "one")
    await push(access, bare, first, BRANCH, None)
    await git("update-ref", "-d", f"refs/heads/{BRANCH}", at=scene.forge.bare(scene.forge.repo(SLUG)))
    with pytest.raises(Moved, match="no commit"):
        await push(access, bare, await change(bare, first, "two"), BRANCH, first)


async def test_a_repositorys_rules_are_named(scene: Scene, bare: Path) -> None:
    access, base = await start(scene, bare)
    theirs = scene.forge.bare(scene.forge.repo(SLUG))
    await git("config", "receive.denyDeletes", "true", at=theirs)
    await git("config", "transfer.hideRefs", "refs/heads/patchwright", at=theirs)
    with pytest.raises(ForgeProblem, match="rules for branches"):
        await push(access, bare, await change(bare, base, "one"), BRANCH, None)


async def test_who_may_not_push_is_told_so(scene: Scene, bare: Path) -> None:
    token = scene.forge.user_token("ann")
    bot = open_github(TokenAuth(Secret(token)), scene.forge.api, QUICK)
    access = await bot.git_access(SLUG)
    await bot.close()
    base = await fetch(access, bare, "main")  # anybody may read
    with pytest.raises(ForgeProblem, match="contents: write") as raised:
        await push(access, bare, await change(bare, base, "one"), BRANCH, None)
    assert not isinstance(raised.value, Moved) and token not in str(raised.value)


async def test_a_private_repository_is_closed_to_strangers(scene: Scene, bare: Path) -> None:
    scene.forge.repo(SLUG).private = True
    bot = open_github(TokenAuth(Secret(scene.forge.user_token("ann"))), scene.forge.api, QUICK)
    with pytest.raises(ForgeProblem, match="doesn't let us"):
        await fetch(await bot.git_access(SLUG), bare, "main")
    await bot.close()
    assert await fetch(await scene.bot.git_access(SLUG), bare, "main")


async def test_a_dead_server_may_be_tried_later(bare: Path, scene: Scene) -> None:
    _, base = await start(scene, bare)
    with pytest.raises(ForgeProblem) as raised:
        await push(GitAccess("http://127.0.0.1:1/octo/demo.git", {}), bare, base, BRANCH, None)
    assert raised.value.again


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "", "x.lock", "a:b", "refs\x00x", "@{u}", "a\nb"])
async def test_no_branch_name_becomes_anything_else(scene: Scene, bare: Path, branch: str) -> None:
    access, base = await start(scene, bare)
    with pytest.raises(ForgeProblem, match="no name"):
        await push(access, bare, base, branch, None)


@pytest.mark.parametrize("sha", ["main", "HEAD", "--force", "", "a" * 39])
async def test_only_commit_ids_are_pushed(scene: Scene, bare: Path, sha: str) -> None:
    access, base = await start(scene, bare)
    with pytest.raises(ForgeProblem, match="no commit's id"):
        await push(access, bare, sha, BRANCH, None)
    if sha:
        with pytest.raises(ForgeProblem, match="no commit's id"):
            await push(access, bare, base, BRANCH, sha)


async def test_the_head_of_a_forks_pull_request_can_be_fetched(scene: Scene, bare: Path) -> None:
    await scene.forge.fork(SLUG, "eve")
    sha = await scene.forge.push("eve/demo", "eve", "mine", {"calc.py": "x\n"}, "Mine")
    number = await scene.forge.open_pull(SLUG, "eve", "eve:mine", "main", "Take it")
    access = await scene.bot.git_access(SLUG)
    assert await fetch(access, bare, f"refs/pull/{number}/head", depth=1) == sha


async def test_a_shallow_copy_is_enough_to_push_from(scene: Scene, bare: Path) -> None:
    for index in range(3):
        last = await scene.forge.push(SLUG, "mia", "main", {"calc.py": f"{index}\n"}, str(index))
    access = await scene.bot.git_access(SLUG)
    base = await fetch(access, bare, "main", depth=1)
    assert base == last
    assert await git_line("rev-list", "--count", base, at=bare) == "1"
    await push(access, bare, await change(bare, base, "one"), BRANCH, None)
    assert await fetch(access, bare, base, depth=2) == base  # by its id


async def test_a_branch_that_became_a_folder_of_branches_can_be_fetched(scene: Scene, bare: Path) -> None:
    access = await scene.bot.git_access(SLUG)
    await scene.forge.push(SLUG, "mia", "topic", {"calc.py": "x\n"}, "One")
    await fetch(access, bare, "topic")
    await git("update-ref", "-d", "refs/heads/topic", at=scene.forge.bare(scene.forge.repo(SLUG)))
    sha = await scene.forge.push(SLUG, "mia", "topic/more", {"calc.py": "y\n"}, "Two")
    assert await fetch(access, bare, "topic/more") == sha


async def test_author_and_co_authors(scene: Scene, bare: Path) -> None:
    _, base = await start(scene, bare)
    mia = scene.forge.add_person("mia")
    person = (await scene.bot.ticket(SLUG, await scene.forge.open_issue(SLUG, "mia", "Bug"))).author
    who = Identity(person.login, scene.bot.address(person))
    tree = await git_line("rev-parse", f"{base}^{{tree}}", at=bare)
    made = await commit(bare, tree, [base], "Fix adding\n\nWhy.\n", US, [who])
    text = (
        await git("log", "-1", "--format=%an <%ae>|%cn <%ce>|%(trailers:key=Co-authored-by,valueonly)", made, at=bare)
    ).decode()
    assert text.split("|") == [f"{US.name} <{US.email}>"] * 2 + [f"mia <{mia.id}+mia@users.noreply.127.0.0.1>\n\n"]


def test_names_cant_add_trailers_of_their_own() -> None:
    text = with_trailers("Fix", [Identity("ann\nSigned-off-by: eve <e@e>", "a@b>\nX: y")])
    assert text.splitlines()[2:] == ["Co-authored-by: annSigned-off-by: eve e@e <a@bX: y>"]
