"""`agent eval` from the outside: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import cli
from tests.evals.cases import framed, row


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = [row(), row(instance_id="pallets__flask-2", difficulty="hard", patch="GOLD"), row("astropy/astropy")]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def save(folder: Path, name: str, body: str, after: str = "") -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "test_output.txt").write_text(framed(body, after))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs" / "org__m"
    save(folder, "pallets__flask-1", "PASSED f\nPASSED p")
    save(folder, "pallets__flask-2", "PASSED f\nPASSED p", ">>>>> Test Exit Code: 1")
    return folder.parent


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, arguments)])


def objects(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_has_an_object_per_log(data: Path, logs: Path) -> None:
    done = run("regrade", logs, "--dataset", data, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    first, second = objects(done)
    assert (first["instance_id"], first["model"], first["resolved"], first["swebench"]) == (
        "pallets__flask-1",
        "org__m",
        True,
        "4.1.0",
    )
    assert first["tests_status"]["FAIL_TO_PASS"] == {"success": ["f"], "failure": []}
    assert (second["resolved"], second["swebench"], second["patch_successfully_applied"]) == (False, "5.0.2", False)


def test_rules_can_be_chosen(data: Path, logs: Path) -> None:
    done = run("regrade", logs, "--dataset", data, "--json", "--semantics", "4.1")
    assert [one["resolved"] for one in objects(done)] == [True, True]
    assert run("regrade", logs, "--dataset", data, "--semantics", "3").exit_code == 2


def test_a_table(data: Path, logs: Path) -> None:
    done = run("regrade", logs, "--dataset", data)
    assert done.exit_code == 0
    head, one, two, total = done.stdout.splitlines()
    assert head.split()[:3] == ["instance", "model", "resolved"]
    assert one.split() == ["pallets__flask-1", "org__m", "yes", "1/1", "1/1"]
    assert two.endswith("the log shows no valid run")
    assert total == "1 of 2 resolved by the rules of swebench 4.1.0 and 5.0.2"


def test_what_gets_no_verdict_is_named(data: Path, logs: Path) -> None:
    save(logs / "org__m", "unknown__x-1", "PASSED f")
    save(logs / "\x1b[31mred", "pallets__flask-1", "PASSED f\nPASSED p")
    done = run("regrade", logs, "--dataset", data, "--json")
    assert done.exit_code == 3
    (bad,) = [one for one in objects(done) if one["resolved"] is None]
    assert bad["instance_id"] == "unknown__x-1"
    assert "no usable row" in bad["error"]
    assert done.stderr == "org__m/unknown__x-1: not graded: the data set has no usable row with this id\n"
    shown = run("regrade", logs, "--dataset", data)
    assert "\x1b" not in shown.output
    assert "\\x1b[31mred" in shown.output
    assert shown.stdout.splitlines()[-1].endswith("; 1 not graded")


def test_choices(data: Path, logs: Path) -> None:
    for choice in (
        ["--instance", "*-2"],
        ["--difficulty", "hard"],
        ["--slice", "1:2"],
        ["--slice=-2:", "--repo=pallets/*"],
    ):
        done = run("regrade", logs, "--dataset", data, "--json", *choice)
        assert "pallets__flask-2" in {one["instance_id"] for one in objects(done)}, choice
    assert run("regrade", logs, "--dataset", data, "--slice", "x").exit_code == 2


def test_nothing_to_grade(data: Path, logs: Path, tmp_path: Path) -> None:
    for arguments in (
        [tmp_path / "none", "--dataset", data],
        [logs, "--dataset", tmp_path / "none.jsonl"],
        [logs, "--dataset", "nonsense"],
        [logs, "--dataset", data, "--instance", "zzz"],
    ):
        done = run("regrade", *arguments, "--json")
        assert (done.exit_code, done.stdout) == (6, "")
        assert done.stderr.count("\n") == 1


def test_reports_are_written(data: Path, logs: Path, tmp_path: Path) -> None:
    done = run("regrade", logs, "--dataset", data, "--json", "--out", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "org__m" / "pallets__flask-1" / "report.json").read_text())
    assert written["pallets__flask-1"]["tests_status"] == objects(done)[0]["tests_status"]


def test_instances(data: Path) -> None:
    done = run("instances", data)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "3 of 3 instances"
    as_json = run("instances", data, "--json", "--difficulty", "hard")
    assert [one["instance_id"] for one in objects(as_json)] == ["pallets__flask-2"]
    assert "GOLD" not in as_json.output
    with data.open("a") as file:
        file.write("{\n")
    broken = run("instances", data)
    assert broken.exit_code == 3
    assert "row 4: not JSON" in broken.stderr
    assert run("instances", "nonsense").exit_code == 6
