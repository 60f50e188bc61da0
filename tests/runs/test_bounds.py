"""Whole runs on a hostile repository and on a busy machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sandbox.ledger import Ledger
from tests.agent.repos import git
from tests.agent.test_hygiene import PLANTS, Trap, stir
from tests.runs.harness import BUGGY, FIX, Place, call, fixing_turns, served
from tests.sandbox.kinds import ISOLATED, need

SAME_FILE = {"clean", "smudge", "process", "a name with =", "textconv", "merge", "include"}  # all write .gitattributes
APART = {"missing objects", "submodule", "hooks path"}


def test_a_run_on_a_repository_full_of_traps(tmp_path: Path) -> None:
    """Fetched, looked at, applied to and given a branch: no program of it runs, and the patch is right."""
    place = Place(tmp_path)
    repo = place.make_repo()
    trap = Trap(tmp_path / "trap")
    for name, plant in PLANTS.items():
        if name not in SAME_FILE | APART:
            plant(repo, trap)
    drivers = "".join(
        f'[{kind} "evil"]\n' + "".join(f" {variable} = {trap.program}\n" for variable in variables)
        for kind, variables in {
            "filter": ("clean", "smudge", "process"), "diff": ("textconv", "command"), "merge": ("driver",),
        }.items()
    )  # fmt: skip
    (repo / ".git/config").write_text((repo / ".git/config").read_text() + drivers)
    trap.mark.unlink(missing_ok=True)
    (repo / ".git/info/attributes").parent.mkdir(exist_ok=True)
    (repo / ".git/info/attributes").write_text("* filter=evil diff=evil merge=evil\n")
    stir(repo)
    inside = call(
        "bash", command=f"printf '* filter=evil\\n' >.gitattributes; git config filter.evil.clean {trap.program}"
    )
    away = call("bash", command="rm .gitattributes")
    with served([*fixing_turns()[:3], inside, away, *fixing_turns()[3:]]) as model:
        done = place.fix(model.url, "--branch", "fix/mean", "--apply")
    assert done.code == 0, done.err + done.out[-3000:]
    assert not trap.sprung(), trap.sprung()
    assert place.patch().endswith(FIX)
    assert "len(values)\n" in (repo / "calc/ops.py").read_text()


@pytest.mark.parametrize("kind", ISOLATED)
def test_repositories_that_tests_make_have_an_identity(tmp_path: Path, kind: str) -> None:
    need(kind)
    place = Place(tmp_path, kind)
    place.make_repo()
    script = "(cd /tmp && git init -q new && cd new && git commit -q --allow-empty -m x && git log --format=%an:%ae)"
    with served([call("bash", command=script), *fixing_turns()]) as model:
        done = place.fix(model.url)
    assert done.code == 0, done.err + done.out[-3000:]
    assert "Patchwright:patchwright@localhost" in done.of_type("observation")[0]["text"]


def test_what_is_missing_is_told_to_the_user_and_the_model(tmp_path: Path) -> None:
    place = Place(tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12345\n"
    repo = place.make_repo({**BUGGY, "data.bin": pointer, ".gitattributes": "*.bin filter=lfs diff=lfs -text\n"})
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{git(repo, 'rev-parse', 'HEAD')},vendor/lib")
    git(repo, "commit", "--quiet", "-m", "submodule")
    with served(fixing_turns()) as model:
        done = place.fix(model.url)
    assert done.code == 0, done.err + done.out[-3000:]
    notes = done.of_type("run_started")[0]["base"]["notes"]
    assert [note.rpartition(": ")[2] for note in notes] == ["vendor/lib", "data.bin"]
    task = done.of_type("prompt")[0]["messages"][1]["content"]
    assert all(note in task for note in notes)


def test_a_run_waits_for_memory_and_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    ledger = Ledger(tmp_path / f"patchwright-places-{os.getuid()}")
    holder = ledger.join(1 << 50)
    assert ledger.enter(holder, lambda _: True) is None
    with served(fixing_turns()) as model:
        process = place.start(*place.fix_arguments(model.url), TMPDIR=str(tmp_path))
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            event = json.loads(line)
            if event["type"] == "progress" and "memory for a sandbox" in event["data"]["text"]:
                told = event["data"]["text"]
                ledger.leave(holder)
                break
        _, err = process.communicate(timeout=120)
    assert told.endswith("0 MiB are free, 1 sandbox is open")
    assert process.returncode == 0, err
    assert place.patch().endswith(FIX)


def test_a_wait_for_memory_ends_with_the_runs_time(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    ledger = Ledger(tmp_path / f"patchwright-places-{os.getuid()}")
    holder = ledger.join(1 << 50)
    assert ledger.enter(holder, lambda _: True) is None
    try:
        with served(fixing_turns()) as model:
            done = place.fix(model.url, "--timeout", "2", TMPDIR=str(tmp_path))
    finally:
        ledger.leave(holder)
    assert done.code == 5, done.err + done.out[-3000:]
    assert "waited for a sandbox" in done.of_type("run_ended")[0]["message"]
    assert not done.of_type("turn_started") and not list(ledger.entries())
