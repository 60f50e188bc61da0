"""The audit finds each kind of leak that was planted in a real checkout, and nothing where nothing is."""

from __future__ import annotations

import ast
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from evals.leaks import AuditFailed, Bounds, Leak, LeakKind, audit_checkout
from evals.leaks import checkout as auditing
from sandbox.base import Sandbox
from sandbox.local import open_local
from sandbox.policy import SandboxSpec
from tests.agent.repos import git, make_repo, write
from tests.evals.leaks.planted import PLANTS, Story, checkout, harmless, story


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return story(tmp_path_factory.mktemp("story"))


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    opened = await open_local(SandboxSpec())
    yield opened
    await opened.close()


@pytest.fixture
def work(told: Story, tmp_path: Path) -> Path:
    return checkout(told, tmp_path / "work")


@pytest.fixture
def away(tmp_path: Path) -> Path:
    folder = tmp_path / "away"
    folder.mkdir()
    return folder


async def audited(
    sandbox: Sandbox, told: Story, work: Path, away: Path, bounds: Bounds | None = None
) -> tuple[Leak, ...]:
    return await audit_checkout(
        sandbox, str(work), told.base, instance=told.instance, roots=(str(away),), network=False, bounds=bounds
    )


@pytest.mark.parametrize("name", PLANTS)
async def test_each_planted_leak_is_found(name: str, sandbox: Sandbox, told: Story, work: Path, away: Path) -> None:
    kind, plant = PLANTS[name]
    plant(told, work, away)
    found = await audited(sandbox, told, work, away)
    assert kind in {leak.kind for leak in found}, [str(leak) for leak in found]
    assert all(leak.use for leak in found)


async def test_nothing_is_found_where_nothing_leaks(sandbox: Sandbox, told: Story, work: Path, away: Path) -> None:
    assert await audited(sandbox, told, work, away) == ()
    harmless(told, work, away)
    assert await audited(sandbox, told, work, away) == ()


async def test_what_the_base_commit_holds_is_no_gold(sandbox: Sandbox, told: Story, work: Path, away: Path) -> None:
    """As where the solution moves lines from one file to another."""
    moved = "--- a/x.py\n+++ b/x.py\n@@ -0,0 +1 @@\n+setup(name='calc-tools', packages=['calc'])\n"
    write(away, {"x.py": "setup(name='calc-tools', packages=['calc'])\n"})
    only = replace(told.instance, patch=moved, test_patch="", fail_to_pass=())
    assert await audit_checkout(sandbox, str(work), told.base, instance=only, roots=(str(away),), network=False) == ()
    write(work, {"setup.py": "nothing\n"})
    found = await audit_checkout(sandbox, str(work), told.base, instance=only, roots=(str(away),), network=False)
    assert [leak.kind for leak in found] == [LeakKind.WORK_TREE, LeakKind.GOLD]


async def test_what_the_base_commit_holds_is_no_leak(sandbox: Sandbox, told: Story, tmp_path: Path) -> None:
    patch = told.instance.patch
    files: dict[str, str | bytes] = {"calc/ops.py": "a\n", "debian/fix.patch": patch, "calc/ops.py.orig": "b\n"}
    files |= {"tests/row.json": '{"FAIL_TO_PASS": [], "test_patch": ""}', "calc-tools-9.0.tar.gz": b"\x1f\x8b"}
    files |= {"setup.py": "setup(name='calc-tools', version='1.2')\n"}
    work = make_repo(tmp_path / "work", files)
    shutil.rmtree(work / ".git/logs")
    base = git(work, "rev-parse", "HEAD")
    assert await audit_checkout(sandbox, str(work), base, network=False) == ()
    write(work, {name: b"\n" + (content if isinstance(content, bytes) else content.encode())
                 for name, content in files.items()})  # fmt: skip
    found = {leak.kind for leak in await audit_checkout(sandbox, str(work), base, network=False)}
    assert found == {LeakKind.WORK_TREE, LeakKind.PATCH, LeakKind.CACHE, LeakKind.GOLD_FIELDS}


async def test_a_variable_with_gold_is_found(told: Story, work: Path, away: Path) -> None:
    for env in ({"FAIL_TO_PASS": "[]"}, {"HINT": "    return sum(counted) / float(len(counted))"}):
        sandbox = await open_local(SandboxSpec(env=env))
        try:
            found = await audited(sandbox, told, work, away)
        finally:
            await sandbox.close()
        assert [leak.kind for leak in found] == [LeakKind.ENVIRONMENT] * len(found) and found


async def test_what_was_not_looked_at_is_said(sandbox: Sandbox, told: Story, work: Path, away: Path) -> None:
    write(away, {f"{number}.txt": "x" for number in range(50)})
    for bounds in (Bounds(files=20), Bounds(content=30), Bounds(seconds=-5)):
        found = await audited(sandbox, told, work, away, bounds=bounds)
        assert {leak.kind for leak in found} == {LeakKind.UNSEEN}


async def test_output_is_bounded(sandbox: Sandbox, told: Story, work: Path, away: Path) -> None:
    write(work, {f"{number}.orig": "x" for number in range(300)})
    for number in range(40):
        git(work, "update-ref", f"refs/heads/{number}{'long' * 40}", "HEAD")
        write(work, {f".git/refs/tags/{number}": told.fix})
    found = await audited(sandbox, told, work, away)
    assert len(found) < 40
    assert any(leak.what == "and 288 more of this kind" for leak in found)


async def test_a_folder_that_is_no_such_checkout_is_no_clean_one(sandbox: Sandbox, told: Story, tmp_path: Path) -> None:
    with pytest.raises(AuditFailed, match=r"there is no \.git"):
        await audit_checkout(sandbox, str(tmp_path), told.base)
    work = checkout(told, tmp_path / "work")
    with pytest.raises(AuditFailed, match="doesn't hold the commit"):
        await audit_checkout(sandbox, str(work), told.fix)


async def test_what_a_repository_says_is_made_printable(sandbox: Sandbox, told: Story, work: Path, away: Path) -> None:
    write(work, {"calc/evil\x1b]0;x\x07.orig": "x"})
    (leak,) = await audited(sandbox, told, work, away)
    assert "\x1b" not in str(leak) and "\\x1b]0;x\\x07" in leak.where


@pytest.mark.parametrize("says", ["nonsense", "[]", '{"findings": [{"kind": "?"}], "more": {}}', '{"findings": 3}'])
async def test_an_answer_that_is_none_is_a_failure(says: str, told: Story, work: Path, tmp_path: Path) -> None:
    """As from an image whose python3 isn't one."""
    program = tmp_path / "bin/python3"
    write(tmp_path, {"bin/python3": f"#!/bin/sh\necho '{says}'\n"})
    program.chmod(0o755)
    sandbox = await open_local(SandboxSpec(env={"PATH": f"{program.parent}:/usr/bin:/bin"}))
    try:
        with pytest.raises(AuditFailed, match="answered what no audit answers"):
            await audit_checkout(sandbox, str(work), told.base)
    finally:
        await sandbox.close()


async def test_gold_stays_outside(sandbox: Sandbox, told: Story, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes into the sandbox holds no line of the solution or of the tests."""
    sent: list[bytes] = []
    run = type(sandbox).run

    async def watched(self: Sandbox, command: object, **options: object) -> object:
        sent.append(repr(command).encode() + bytes(options["stdin"]))  # type: ignore[call-overload]
        return await run(self, command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(sandbox), "run", watched)
    await audit_checkout(sandbox, str(work), told.base, instance=told.instance)
    (given,) = sent
    for secret in (b"counted", b"no values at all", b"left out'"):
        assert secret not in given


async def test_a_fix_that_takes_lines_away_is_known_again(
    sandbox: Sandbox, told: Story, work: Path, away: Path
) -> None:
    """SWE-smith's patch makes the bug: what it takes away is the solution."""
    bug = "--- a/calc/ops.py\n+++ b/calc/ops.py\n@@ -1 +1 @@\n" + "".join(
        f"-{line}\n" for line in (away / "x", "    return the_mean_of(values, weighted_by=weights)")[1:]
    )
    write(away, {"copy.py": "    return the_mean_of(values, weighted_by=weights)\n"})
    smith = replace(told.instance, schema=type(told.instance.schema).SWE_SMITH, patch=bug, test_patch="")
    smith = replace(smith, fail_to_pass=())
    found = await audit_checkout(sandbox, str(work), told.base, instance=smith, roots=(str(away),), network=False)
    assert [leak.kind for leak in found] == [LeakKind.GOLD]


def test_the_part_that_runs_inside_is_python_3_6() -> None:
    for name, source in auditing._sources():
        ast.parse(source, name, feature_version=(3, 6))
