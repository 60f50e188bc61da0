"""Images lose the project's history before a run gets them, and what stays is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evals.environments import Options, Recipes, environment_of
from evals.environments.closing import closed
from evals.environments.code import Code
from evals.leaks import LeakKind
from evals.leaks.own import audit_own
from sandbox.images.cache import cache_dir
from tests.evals.leaks.images import CACHE, COPY, LEAKY, files_for_images, image_of
from tests.evals.leaks.planted import Story, story
from tests.sandbox.kinds import ENGINES, need

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return story(tmp_path_factory.mktemp("story"))


@pytest.fixture(params=ENGINES)
def leaky(request: pytest.FixtureRequest, told: Story, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """An engine, and an image in it with a checkout, an installed copy and a package cache of its own."""
    need(request.param)
    files = {**files_for_images(told, tmp_path / "files"), "unique": str(tmp_path).encode()}
    with image_of(request.param, LEAKY, files) as image:
        yield request.param, image


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATCHWRIGHT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


async def test_a_run_gets_no_image_with_the_projects_history(
    leaky: tuple[str, str], told: Story, home: Path, tmp_path: Path
) -> None:
    """What can't be taken away is said in the environment's facts, each time; the audit is made once."""
    kind, image = leaky
    clones = tmp_path / "clones"
    clones.mkdir()
    (clones / "calc__calc-tools").symlink_to(told.upstream)
    row, lines = replace(told.instance, image=image), list[str]()
    made = await environment_of(
        row, kind=kind, recipes=Recipes.load(()), repositories=clones, progress=lines.append, options=Options()
    )
    try:
        assert made.image != image and made.workdir == "/testbed"
        done = await audit_own(
            made.repository, made.base_commit, kind=kind, image=made.image, workdir=made.workdir, instance=row
        )
        assert {(leak.kind, leak.where) for leak in done.leaks} >= {
            (LeakKind.COPY, f"{COPY}/calc"),
            (LeakKind.CACHE, CACHE),
        }
        assert LeakKind.CHECKOUT not in {leak.kind for leak in done.leaks}
        assert [line.split(":")[0] for line in made.facts["leaks"]] == ["copy", "package cache"]
        assert sum("the image leaks: " in line for line in lines) == 2
        again: list[str] = []
        same = await environment_of(
            row, kind=kind, recipes=Recipes.load(()), repositories=clones, progress=again.append, options=Options()
        )
        assert (same.image, same.facts["leaks"]) == (made.image, made.facts["leaks"])
        assert not any("looking for leaks" in line for line in again)
        assert sum("the image leaks: " in line for line in again) == 2
    finally:
        forget(made.image)
        await asyncio.to_thread(remove, kind, made.image)


@pytest.mark.bubblewrap
async def test_what_no_engine_can_take_away_is_said(told: Story, home: Path, tmp_path: Path) -> None:
    need("bubblewrap")
    files = {**files_for_images(told, tmp_path / "files"), "unique": str(tmp_path).encode()}
    code, lines = Code(str(told.upstream), told.base, "clone"), list[str]()
    with image_of("bubblewrap", LEAKY, files) as image:
        try:
            done = await closed("bubblewrap", image, "/testbed", code, told.instance, lines.append)
            again = await closed("bubblewrap", image, "/testbed", code, told.instance, lines.append)
        finally:
            forget(image)
    assert done == again and done.image == image
    assert sorted(line.split(":")[0] for line in done.leaks) == ["copy", "other checkout", "package cache"]
    assert sum("looking for leaks" in line for line in lines) == 1
    assert sum("the image leaks: " in line for line in lines) == 6


def forget(image: str) -> None:
    """What an audit has noted of an image that is gone after the test."""
    for file in (cache_dir() / "leaks").glob("*.json"):
        if json.loads(file.read_text())["image"] == image:
            file.unlink()


def remove(kind: str, image: str) -> None:
    from sandbox.images.engine import connect

    client = connect(kind)
    try:
        client.images.remove(image, force=True)
    finally:
        client.close()
