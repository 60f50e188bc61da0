"""Gold checks: sound, broken, flickering and solved environments, and the command that lists them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.eval_gold import gold
from evals.judging.flaky import read_known, write_known
from evals.judging.gold import GoldCheck, GoldOptions, Soundness, check_gold, gold_patch, known_of
from tests.agent.repos import commit, write
from tests.evals.judging.subject import F2P, FIXED, P2P, TESTED, Subject, make_subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("subject") / "repo")


async def check(subject: Subject, folder: Path, *, times: int = 1, command: str = "", **fields: Any) -> GoldCheck:
    environment = subject.environment(**({"test_command": command} if command else {}))
    options = GoldOptions(folder, times, 120, parser=fields.pop("parser", ""))
    return await check_gold(subject.instance(**fields), environment, options)


def says(*results: tuple[str, list[str]]) -> str:
    return "; ".join(f"printf '{word} %s\\n' {' '.join(tests)}" for word, tests in results if tests) + "; : "


def by_tree(fixed: str, unfixed: str) -> str:
    """A command that does the one with the gold patch, the other without."""
    return f"if grep -q 'len(values)$' calc/ops.py; then {fixed.removesuffix('; : ')}; else {unfixed} 0; fi; : "


FAILS = says(("FAILED", F2P), ("PASSED", P2P))
PASSES = says(("PASSED", F2P + P2P))


async def test_a_sound_environment(subject: Subject, tmp_path: Path) -> None:
    found = await check(subject, tmp_path)
    assert (found.soundness, found.reason) == (Soundness.SOUND, "")
    assert (found.gold, found.unpatched, found.failing, found.flaky) == ((True,), (False,), (), ())
    assert found.seconds > 0
    assert found.environment == {"source": "bundled"}
    for run in ("gold-1/gold", "unpatched-1/unpatched"):
        assert (tmp_path / "logs" / "run_evaluation" / run / "pallets__flask-1" / "report.json").is_file()
    assert known_of([found]).instances == {}


async def test_a_broken_environment(subject: Subject, tmp_path: Path) -> None:
    half = says(("PASSED", F2P), ("FAILED", P2P))
    found = await check(subject, tmp_path, times=2, command=by_tree(half, half))
    assert found.soundness is Soundness.BROKEN
    assert found.reason == f"1 tests fail with the gold patch: {P2P[0]}"
    assert found.failing == tuple(P2P)
    assert found.gold == (False, False)
    assert known_of([found]).of("pallets__flask-1").failing == frozenset(P2P)
    assert known_of([found]).of("pallets__flask-1").broken == ""


async def test_a_broken_environment_that_wants_a_network(subject: Subject, tmp_path: Path) -> None:
    half = says(("PASSED", F2P), ("FAILED", P2P))
    environment = subject.environment(test_command=by_tree(half, half), facts={"wants_network": ["*::test_total"]})
    found = await check_gold(subject.instance(), environment, GoldOptions(tmp_path, 1, 120))
    assert found.soundness is Soundness.BROKEN
    assert found.reason.endswith(f"; only tests failed that want a network, and there is none: {P2P[0]}")


async def test_an_environment_without_a_valid_run(subject: Subject, tmp_path: Path) -> None:
    found = await check(subject, tmp_path, command="exit 3; : ")
    assert found.soundness is Soundness.BROKEN
    assert found.reason.startswith("the gold patch's log shows no valid run: + exit 3")
    assert known_of([found]).of("pallets__flask-1").broken == found.reason


async def test_a_test_that_flickers(subject: Subject, tmp_path: Path) -> None:
    """It fails in the first run with gold, and passes in the second."""
    count = tmp_path / "count"
    first, second = says(("FAILED", P2P)), says(("PASSED", P2P))
    sometimes = f"echo >>{count}; if [ $(wc -l <{count}) = 1 ]; then {first} 0; else {second} 0; fi"
    command = by_tree(f"{says(('PASSED', F2P))} 0; {sometimes}", FAILS)
    found = await check(subject, tmp_path / "out", times=2, command=command)
    assert found.soundness is Soundness.FLAKY
    assert found.reason == f"1 tests differ between runs: {P2P[0]}"
    assert (found.gold, found.flaky, found.failing) == ((False, True), tuple(P2P), ())
    assert known_of([found]).of("pallets__flask-1").flaky == frozenset(P2P)


async def test_an_instance_that_is_solved_before(subject: Subject, tmp_path: Path) -> None:
    found = await check(subject, tmp_path, command=PASSES)
    assert (found.soundness, found.reason) == (Soundness.SOLVED, "the tests pass without a patch")


async def test_where_no_patch_is_right_both_are_the_same(subject: Subject, tmp_path: Path) -> None:
    found = await check(subject, tmp_path, command=PASSES, patch="", grade_empty_patch=True)
    assert found.soundness is Soundness.SOUND


async def test_no_gold_patch_and_no_sandbox(subject: Subject, tmp_path: Path) -> None:
    assert (await check(subject, tmp_path, patch="")).reason == "the row has no gold patch"
    environment = subject.environment(repository=str(tmp_path / "gone"))
    found = await check_gold(subject.instance(), environment, GoldOptions(tmp_path))
    assert found.soundness is Soundness.UNKNOWN
    assert "the base commit can't be had" in found.reason
    assert known_of([found]).instances == {}


async def test_smith(tmp_path: Path) -> None:
    """The rows' patch is the bug: without a patch it is there, and its reverse is gold."""
    subject = make_subject(tmp_path / "repo")
    write(subject.repository, {**FIXED, **TESTED})
    sound = Subject(subject.repository, commit(subject.repository, "Good"))
    bug = sound.diff({"calc/ops.py": str(FIXED["calc/ops.py"]).replace("len(values)", "(len(values) + 1)")})
    fields: dict[str, Any] = {"base_commit": None, "image_name": "i", "patch": bug, "test_patch": ""}
    assert "+    return sum(values) / len(values)\n" in gold_patch(sound.instance(**fields))
    found = await check(sound, tmp_path / "out", parser="parse_log_pytest", **fields)
    assert found.soundness is Soundness.SOUND
    picture = await check(
        sound, tmp_path / "out", parser="parse_log_pytest", **fields | {"patch": "GIT binary patch\n"}
    )
    assert (picture.soundness, picture.reason) == (Soundness.UNKNOWN, "a binary change can't be reversed from its text")


def test_rows_are_json() -> None:
    found = GoldCheck("a", Soundness.FLAKY, "why", (True, False), (False,), (), ("t",), 1.5, {"python": "3.11"})
    assert json.loads(json.dumps(found.row())) == {
        "instance_id": "a", "soundness": "flaky", "reason": "why", "gold": [True, False], "unpatched": [False],
        "failing": [], "flaky": ["t"], "seconds": 1.5, "environment": {"python": "3.11"},
    }  # fmt: skip


# -- the command


@pytest.mark.heavy
def test_the_command_on_tasks_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    out = tmp_path / "out"
    arguments = ["mini", "--sandbox", "none", "--instance", "mini__tally-7", "--out", str(out)]
    done = CliRunner().invoke(gold, arguments)
    assert done.exit_code == 0, done.output
    assert "mini__tally-7  sound  0/1" in done.stdout
    assert f"1 of 1 sound; {out}/known-tests.json holds the tests to be doubted" in done.stdout
    assert "1 of 1: mini__tally-7 is sound" in done.stderr
    row = json.loads((out / "gold.jsonl").read_text())
    assert (row["instance_id"], row["soundness"]) == ("mini__tally-7", "sound")
    assert read_known(out / "known-tests.json").instances == {}
    as_json = CliRunner().invoke(gold, [*arguments, "--json"])
    assert json.loads(as_json.stdout)["gold"] == [True]


def rows(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_environment_that_cant_be_had_is_listed(subject: Subject, tmp_path: Path) -> None:
    data = rows(tmp_path / "data.jsonl", subject.row(repo="nobody/nothing", instance_id="nobody__nothing-1"))
    done = CliRunner().invoke(
        gold, [str(data), "--sandbox", "none", "--repositories", str(tmp_path), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 3
    assert "nobody__nothing-1  unknown" in done.stdout
    assert "0 of 1 sound" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing.jsonl"], 6, "there is no file"),
        (["mini", "--instance", "x"], 6, "no instance of mini is left to check"),
        (["mini", "--semantics", "7"], 2, "there are no semantics '7'"),
        (["mini", "--recipes", "/nowhere.toml"], 6, "nowhere.toml"),
        (["mini", "--out", "/dev/full/x", "--sandbox", "none"], 9, "/dev/full/x can't be written"),
    ],
)
def test_what_cant_be_done_is_said(arguments: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(gold, arguments)
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_the_file_is_read_by_runs(tmp_path: Path) -> None:
    found = GoldCheck("a__b-1", Soundness.FLAKY, flaky=("t",), failing=("u",))
    write_known(tmp_path / "known.json", known_of([found]), {})
    known = read_known(tmp_path / "known.json").of("a__b-1")
    assert (known.flaky, known.failing) == (frozenset("t"), frozenset("u"))
