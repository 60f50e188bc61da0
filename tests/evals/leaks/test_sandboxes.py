"""The audit in every kind of sandbox: it finds what was planted there, and nothing in our own checkouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from evals.leaks import Leak, LeakKind, audit_checkout
from evals.leaks.own import audit_own, opened
from sandbox.base import Sandbox
from sandbox.policy import MIB, Network
from tests.agent.repos import git
from tests.evals.leaks.images import (
    AT_TESTBED,
    CACHE,
    COPY,
    ELSEWHERE,
    LEAKY,
    files_for_images,
    image_of,
    tar_of,
)
from tests.evals.leaks.planted import PLANTS, TOGETHER, Story, checkout, story
from tests.sandbox.kinds import ISOLATED, KINDS, SPEC, need, opener

ROOMY = replace(SPEC, limits=replace(SPEC.limits, memory=1024 * MIB))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return story(tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="module")
def files(told: Story, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    return {**files_for_images(told, folder), "unique": str(folder).encode()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATCHWRIGHT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


@pytest.fixture(scope="module", params=ISOLATED)
def published(request: pytest.FixtureRequest, files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """A kind, and an image with a checkout at /testbed that holds all of the future."""
    need(request.param)
    with image_of(request.param, AT_TESTBED, files) as image:
        yield request.param, image


@pytest.fixture(scope="module", params=ISOLATED)
def leaky(request: pytest.FixtureRequest, files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """A kind, and an image with a checkout, an installed copy and a package cache where no work folder hides them."""
    need(request.param)
    with image_of(request.param, LEAKY, files) as image:
        yield request.param, image


def kinds_of(leaks: tuple[Leak, ...]) -> set[LeakKind]:
    return {leak.kind for leak in leaks}


async def test_our_own_checkout_leaks_nothing(kind: str, told: Story, home: Path) -> None:
    done = await audit_own(str(told.upstream), told.base, kind=kind, instance=told.instance)
    assert (done.commit, done.kind, list(map(str, done.leaks))) == (told.base, kind, [])


def together(told: Story, folder: Path, seen_at: str) -> None:
    """One checkout with a leak of every kind, and what lies beside it; `seen_at` is the folder's place in a sandbox."""
    work, away = checkout(told, folder / "work"), folder / "away"
    away.mkdir()
    for plant in TOGETHER:
        plant(told, work, away)
    (work / ".git/objects/info/alternates").write_text(f"{seen_at}/away/testbed/.git/objects\n")


async def test_each_kind_of_leak_is_found(kind: str, told: Story, tmp_path: Path) -> None:
    spec = replace(ROOMY, env={"FAIL_TO_PASS": "[]"})
    async with await opener(kind)(spec) as sandbox:
        together(told, tmp_path / "both", sandbox.workdir)
        await sandbox.unpack(tar_of(tmp_path / "both"))
        found = await audited(sandbox, told, "work", "away")
    assert {kind for kind, _ in PLANTS.values()} | {LeakKind.ENVIRONMENT} <= kinds_of(found), list(map(str, found))
    assert not {LeakKind.UNSEEN, LeakKind.NETWORK} & kinds_of(found)


async def audited(sandbox: Sandbox, told: Story, work: str, away: str) -> tuple[Leak, ...]:
    at = sandbox.workdir
    isolated = sandbox.kind != "none"
    return await audit_checkout(
        sandbox, f"{at}/{work}", told.base, instance=told.instance, roots=(f"{at}/{away}",), network=isolated
    )


@pytest.mark.heavy
async def test_each_plant_is_found(kind: str, told: Story, tmp_path: Path) -> None:
    """Each alone, so that none is found for the sake of another."""
    async with await opener(kind)(ROOMY) as sandbox:
        for name, (_, plant) in PLANTS.items():
            work, away = checkout(told, tmp_path / "all" / name / "work"), tmp_path / "all" / name / "away"
            away.mkdir()
            plant(told, work, away)
        upstream = f"{sandbox.workdir}/other_checkout/away/testbed/.git/objects\n"
        (tmp_path / "all/alternates/work/.git/objects/info/alternates").write_text(upstream)
        await sandbox.unpack(tar_of(tmp_path / "all"))
        found = {name: await audited(sandbox, told, f"{name}/work", f"{name}/away") for name in PLANTS}
    missing = {name: list(map(str, found[name])) for name, (wanted, _) in PLANTS.items()
               if wanted not in kinds_of(found[name])}  # fmt: skip
    assert missing == {}


@pytest.mark.parametrize("network", list(Network))
@pytest.mark.parametrize("isolated", ISOLATED)
async def test_a_network_that_is_on_is_found(
    isolated: str, network: Network, told: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    async with await opener(isolated)(replace(ROOMY, network=network)) as sandbox:
        await sandbox.unpack(tar_of(checkout(told, tmp_path / "work")))
        found = await audit_checkout(sandbox, sandbox.workdir, told.base, roots=())
        found += await audit_checkout(sandbox, sandbox.workdir, told.base, roots=(), network=True)
    assert kinds_of(found) == (set() if network is Network.NONE else {LeakKind.NETWORK}), list(map(str, found))


LOOKS = """
git log --all --format=%H%n%s; git log --all --reflog --format=%H; git tag; git branch -a; git remote -v; git stash list
git fsck --lost-found --no-progress; git cat-file --batch-all-objects --batch-check; cat .git/packed-refs .git/*_HEAD
git for-each-ref; git reflog --all; ls -R .git/objects .git/refs .git/logs; echo; ls -d /testbed*
find / -xdev -name '*.pack' -o -xdev -name 'HEAD' -o -xdev -name FETCH_HEAD
"""


async def test_a_published_images_own_checkout_is_out_of_sight(
    published: tuple[str, str], told: Story, home: Path
) -> None:
    kind, image = published
    async with opened(str(told.upstream), told.base, kind=kind, image=image, workdir="/testbed") as its:
        seen = (await its.sandbox.run(LOOKS, cwd="/testbed", max_output=8 << 20)).output.decode()
        found = await audit_checkout(its.sandbox, "/testbed", told.base, instance=told.instance)
    assert list(map(str, found)) == []
    assert told.base in seen and "Words are small" in seen
    later = git(told.upstream, "rev-list", "--all", "--reflog", f"^{told.base}").split()
    assert len(later) > 3
    assert [one for one in (*later, "Mend mean", "origin", "v1.3", "later", "dangling") if one in seen] == []
    packs = [line for line in seen.splitlines() if line.endswith(".pack") and line.startswith("/")]
    assert all(line.startswith("/testbed/.git/") for line in packs)


async def test_a_checkout_beside_the_work_folder_is_found(published: tuple[str, str], told: Story, home: Path) -> None:
    kind, image = published
    done = await audit_own(str(told.upstream), told.base, kind=kind, image=image, workdir="/elsewhere")
    assert [(leak.kind, leak.where) for leak in done.leaks] == [(LeakKind.CHECKOUT, "/testbed/.git")]


async def test_what_an_image_holds_elsewhere_is_found(leaky: tuple[str, str], told: Story, home: Path) -> None:
    kind, image = leaky
    done = await audit_own(str(told.upstream), told.base, kind=kind, image=image, workdir="/testbed")
    found = {(leak.kind, leak.where) for leak in done.leaks}
    wanted = {
        (LeakKind.CHECKOUT, f"{ELSEWHERE}/.git"),
        (LeakKind.COPY, f"{COPY}/calc"),
        (LeakKind.CACHE, CACHE),
    }
    if kind != "bubblewrap":  # it hides the image's homes
        wanted.add((LeakKind.CHECKOUT, "/home/x/repo/.git"))
    assert found == wanted
