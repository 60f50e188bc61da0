"""A real engine pulls from a registry on loopback: limits are waited for, missing images are said, others come.

Left out: what is made of a pulled image, which has to hold a whole system for that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.environments import EnvironmentUnavailable, ImageNames, Options, Recipes, environment_of, prepull
from evals.environments.pull import Limiter, PullFailed, Trouble, check_room, pull
from sandbox.images.engine import connect
from tests.evals.environments.registry import Registry, serving
from tests.evals.environments.rows import instance
from tests.evals.environments.test_code import repository
from tests.sandbox.kinds import need

pytestmark = pytest.mark.docker
FILES = {"testbed/.git/HEAD": b"ref: refs/heads/main\n"}


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


def options(registry: Registry) -> Options:
    return Options(names=ImageNames((f"{registry.host}/eval.{{id}}:latest",)))


async def test_limits_are_waited_for_and_are_no_failure(registry: Registry) -> None:
    registry.add("eval.a", FILES)
    registry.limited, registry.words = 2, "retry-after: 300ms, allowed: 44000/minute"
    lines: list[str] = []
    began = time.monotonic()
    await pull("docker", f"{registry.host}/eval.a:latest", Limiter(), lines.append)
    assert time.monotonic() - began > 1.0  # a second is the least
    # the engine itself asks more than once for one pull
    assert 1 <= [f"{registry.host} limits how often images are pulled" in line for line in lines].count(True) <= 2
    assert registry.limited == 0
    assert "docker login" in lines[0]


async def test_a_limit_that_lasts_longer_than_patience(registry: Registry) -> None:
    registry.limited = 99
    with pytest.raises(PullFailed) as caught:
        await pull("docker", f"{registry.host}/eval.a:latest", Limiter(patience=30.0), lambda _: None)
    assert caught.value.trouble is Trouble.RATE
    assert len(registry.asked) <= 4  # the engine itself asks more than once for one pull


async def test_a_missing_image_says_what_to_do(registry: Registry, tmp_path: Path) -> None:
    ids = repository(tmp_path / "acme__lib")
    with pytest.raises(EnvironmentUnavailable, match=r"no recipe names it or acme/lib 1\.0") as caught:
        await environment_of(
            instance(base_commit=ids[0]), kind="docker", recipes=Recipes(), repositories=tmp_path,
            options=options(registry),
        )  # fmt: skip
    assert not caught.value.again
    assert "--image-names" in str(caught.value)


async def test_an_unreachable_registry_is_asked_once(registry: Registry, tmp_path: Path) -> None:
    ids = repository(tmp_path / "acme__lib")
    chosen = Options(names=ImageNames(("127.0.0.1:9/eval.{id}",)))
    said = []
    for number in range(3):
        row = instance(f"acme__lib-{number}", base_commit=ids[0])
        with pytest.raises(EnvironmentUnavailable, match="registry not reachable") as caught:
            await environment_of(row, kind="docker", recipes=Recipes(), repositories=tmp_path, options=chosen)
        said.append(caught.value.again)
    assert said == [True] * 3
    assert chosen.closed("127.0.0.1:9")


async def test_prepulling_says_what_came_and_what_didnt(registry: Registry) -> None:
    for number in range(3):
        registry.add(f"eval.acme__lib-{number}", {**FILES, "number": str(number).encode()})
    registry.limited, registry.words = 1, "retry-after: 1ms"
    lines: list[str] = []
    rows = [instance(f"acme__lib-{number}") for number in range(4)]
    found = await prepull(rows, kind="docker", options=options(registry), progress=lines.append)
    assert sorted(found.images) == ["acme__lib-0", "acme__lib-1", "acme__lib-2"]
    assert list(found.missing) == ["acme__lib-3"]
    assert any(line.startswith("images: 4 of 4") for line in lines)


async def test_with_bubblewrap_nothing_is_pulled(registry: Registry) -> None:
    found = await prepull([instance()], kind="bubblewrap", options=options(registry), progress=lambda _: None)
    assert (found.images, found.missing, registry.asked) == ({}, {}, [])


def test_a_full_disk_is_seen_before_the_pull() -> None:
    client = connect("docker")
    try:
        check_room(client, "img", least=1)
        with pytest.raises(PullFailed, match="no space left for it") as caught:
            check_room(client, "img", least=1 << 60)
    finally:
        client.close()
    assert caught.value.trouble is Trouble.DISK
