"""Two sides: what is paired, what is left out, and when they can't be told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.eval_compare import compare as command
from cli.eval_power import power
from cli.eval_report import report
from evals.report import NoRun
from evals.report.comparison import compare, power_words, verdict
from evals.report.sides import Result, Side, read_side
from evals.reports import write_report
from evals.statistics import instances_needed, mcnemar_exact
from tests.evals.report.sample import manifest, records, write_folder


def side(results: dict[str, Result], name: str = "a", **more: Any) -> Side:
    return Side(name, ("m",), "made up", results, **more)


def singles(text: str) -> dict[str, Result]:
    """`1` resolved, `0` not, `-` no verdict, `.` isn't there."""
    kinds = {"1": Result(1, 1), "0": Result(0, 1), "-": Result(0, 0, 1)}
    return {f"i{at:03}": kinds[char] for at, char in enumerate(text) if char in kinds}


def test_pairs_flips_and_what_is_left_out() -> None:
    found = compare(side(singles("1100-1.1")), side(singles("10110-1.")))
    assert (found["pairs"], found["table"]) == (4, {"both": 1, "only_a": 1, "only_b": 2, "neither": 0})
    assert found["left_out"] == {"no_verdict": ["i004", "i005"], "only_a": ["i007"], "only_b": ["i006"]}
    assert [one["instance_id"] for one in found["flips"]["gained"]] == ["i002", "i003"]
    assert [one["instance_id"] for one in found["flips"]["lost"]] == ["i001"]
    assert found["difference"] == 0.25 and found["a"]["rate"] == 0.5 and found["b"]["failed"] == 1
    assert found["test"].startswith("McNemar") and found["p"] == mcnemar_exact(2, 1)


def test_the_words_where_it_may_be_chance() -> None:
    found = compare(side(singles("1" * 50 + "0" * 50)), side(singles("1" * 47 + "000" + "1" * 8 + "0" * 42)))
    assert found["difference"] == 0.05 and not found["told_apart"]
    assert verdict(found).startswith("A and B cannot be told apart: a difference of +5.0 points over 100 instances")
    assert found["instances_needed"] == instances_needed(0.5, 0.55, discordant=0.11)
    assert f"{found['instances_needed']:,} instances would be needed; these are 100" in power_words(found)[0]


def test_the_words_where_it_is_not() -> None:
    worse, better = singles("1" * 50 + "0" * 50), singles("1" * 48 + "00" + "1" * 20 + "0" * 30)
    found = compare(side(worse), side(better))
    assert found["told_apart"] and verdict(found).startswith("B resolves more than A: a difference of +18.0 points")
    assert verdict(compare(side(better), side(worse))).startswith("A resolves more than B:")


def test_the_exact_test_and_the_interval_have_to_agree() -> None:
    """Five flips one way: the interval leaves zero out, and chance would do as much once in 16."""
    found = compare(side(singles("0" * 20)), side(singles("1" * 5 + "0" * 15)))
    assert found["interval"][0] > 0 and found["p"] == 0.0625
    assert "cannot be told apart" in verdict(found)


@pytest.mark.parametrize("text", ["1111", "0000", "10"])
def test_the_same_twice(text: str) -> None:
    found = compare(side(singles(text)), side(singles(text)))
    assert (found["difference"], found["p"], found["told_apart"], found["instances_needed"]) == (0, 1, False, None)
    assert "cannot be told apart" in verdict(found) and not power_words(found)


def test_attempts_count_as_shares_of_their_instance() -> None:
    a = {"x": Result(1, 4, causes=("ran out", "no edit")), "y": Result(2, 4), "z": Result(0, 2, 2)}
    b = {"x": Result(3, 4, causes=("wrong file",)), "y": Result(1, 2), "z": Result(1, 1)}
    found = compare(side(a), side(b))
    assert found["table"] is None and "sign flips" in found["test"]
    assert found["difference"] == pytest.approx((0.5 + 0 + 1) / 3, abs=1e-6) and found["p"] == 0.5
    assert found["flips"]["gained"] == [
        {"instance_id": "x", "a": [1, 4], "b": [3, 4], "causes": ["ran out", "no edit"]},
        {"instance_id": "z", "a": [0, 2], "b": [1, 1], "causes": []},
    ]


def test_nothing_in_common_is_no_comparison() -> None:
    for other in ({"j": Result(1, 1)}, singles("-")):
        with pytest.raises(NoRun, match="no instance in common"):
            compare(side(singles("1")), side(other))


def test_runs_with_what_they_took_and_how_they_were_made(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", trajectories=0)
    write_folder(tmp_path / "b", trajectories=0, run="nightly-8", skill=0.3)
    other = manifest() | {"run": "nightly-8", "created": 1.0, "sampling": {"temperature": 1.0}}
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(other))
    found = compare(read_side(tmp_path / "a"), read_side(tmp_path / "b"))
    assert found["pairs"] + len(found["left_out"]["no_verdict"]) == 60
    steps = [one.predicted.usage.steps for one in records() if one.predicted and not one.infrastructure]
    assert found["usage"]["steps"]["pairs"] == found["pairs"]
    assert min(steps) <= found["usage"]["steps"]["a"] <= max(steps)
    low, high = found["usage"]["seconds"]["interval"]
    assert low <= found["usage"]["seconds"]["difference"] <= high
    assert ["sampling.temperature", "0.6", "1.0"] in found["settings"]
    assert all(one["causes"] for one in found["flips"]["gained"] + found["flips"]["lost"])
    assert not [one for one in found["settings"] if one[0] in ("run", "created")]


def official(path: Path, resolved: list[str], unresolved: list[str], **more: list[str]) -> Path:
    said = {"resolved_ids": resolved, "unresolved_ids": unresolved, "completed_ids": [*resolved, *unresolved], **more}
    path.write_text(json.dumps(said))
    return path


def test_official_summaries(tmp_path: Path) -> None:
    one = official(
        tmp_path / "org__model.v1.run.json", ["a"], ["b"], empty_patch_ids=["c"], error_ids=["d"], incomplete_ids=["e"]
    )
    found = read_side(one)
    assert found.results == {"a": Result(1, 1), "b": Result(0, 1), "c": Result(0, 1), "d": Result(0, 0, 1)}
    assert found.models == ("org/model.v1",) and found.manifest is None and found.name == "org__model.v1.run"
    official(tmp_path / "org__model.v1.run.attempt-2.json", ["a", "b"], [])
    assert read_side(tmp_path).results["b"] == Result(1, 2) and read_side(tmp_path).models == ("org/model.v1",)
    official(tmp_path / "other.run.json", ["a"], [])
    with pytest.raises(NoRun, match="2 models"):
        read_side(tmp_path)


def test_official_report_files(tmp_path: Path) -> None:
    for name, resolved in (("a__b-1", True), ("a__b-2", False)):
        write_report(tmp_path / "run", "org/model", name, {"resolved": resolved})
    (tmp_path / "run" / "org__model" / "a__b-3").mkdir()
    (tmp_path / "run" / "org__model" / "a__b-3" / "report.json").write_text("{}")
    found = read_side(tmp_path)
    assert found.results == {"a__b-1": Result(1, 1), "a__b-2": Result(0, 1), "a__b-3": Result(0, 0, 1)}
    assert found.models == ("org/model",)
    write_report(tmp_path / "run", "other", "a__b-1", {"resolved": True})
    with pytest.raises(NoRun, match="2 models"):
        read_side(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"resolved_ids": 3}', '{"resolved_ids": []}', "[" * 100_000])
def test_what_is_no_side_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    for path in (tmp_path / "x.json", tmp_path / "none", tmp_path):
        with pytest.raises(NoRun):
            read_side(path)


# -- the commands -----------------------------------------------------------------------------------------------


def test_compare_prints_and_writes(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", trajectories=0)
    ids = [one.instance_id for one in records()]
    theirs = official(tmp_path / "org__model.run.json", ids[:50], ids[50:])
    done = CliRunner().invoke(command, [str(tmp_path / "a"), str(theirs), "--html", str(tmp_path / "c.html")])
    assert done.exit_code == 0, done.output
    for said in ("B resolves more than A", "org/model", "95 % interval", "one of them has no manifest"):
        assert said in done.output
    assert "cannot be told apart" not in done.output
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")
    as_json = CliRunner().invoke(command, [str(tmp_path / "a"), str(tmp_path / "a"), "--json"])
    assert json.loads(as_json.output)["told_apart"] is False
    bad = CliRunner().invoke(command, [str(tmp_path / "a"), str(tmp_path / "none")])
    assert bad.exit_code == 6 and "there is no" in bad.stderr
    full = CliRunner().invoke(command, [str(tmp_path / "a"), str(theirs), "--html", str(theirs / "x.html")])
    assert full.exit_code == 9 and "can't be written" in full.stderr


def test_report_writes_and_says_where(tmp_path: Path) -> None:
    write_folder(tmp_path, 2, trajectories=1)
    done = CliRunner().invoke(report, [str(tmp_path)])
    assert done.exit_code == 0, done.output
    for said in ("of 120 attempts", "pass@2, pass^2", "cause: ran out", str(tmp_path / "report.html")):
        assert said in done.output
    found = json.loads(CliRunner().invoke(report, [str(tmp_path), "--json"]).output)
    assert found == json.loads((tmp_path / "report.json").read_text())
    assert CliRunner().invoke(report, [str(tmp_path / "none")]).exit_code == 6
    (tmp_path / "records" / "django__django-11000" / "1.json").write_text("{}")
    broken = CliRunner().invoke(report, [str(tmp_path)])
    assert broken.exit_code == 6 and "django__django-11000/1.json" in broken.stderr


def test_power_says_how_many() -> None:
    done = CliRunner().invoke(power, ["--rate", "0.5", "--difference", "0.03", "--discordant", "0.15", "--json"])
    lines = {line["design"]: line["instances"] for line in json.loads(done.output)["lines"]}
    assert lines == {"different instances": 4356, "same instances": 1306}
    table = CliRunner().invoke(power, ["--rate", "0.5", "--instances", "500"]).output
    assert "8.8 points" in table and "correlation 0.7" in table
    for wrong in (["--rate", "0.5"], ["--rate", "0.5", "--difference", "0.6"], ["--rate", "0.5", "--difference", "0"]):
        assert CliRunner().invoke(power, wrong).exit_code == 2
