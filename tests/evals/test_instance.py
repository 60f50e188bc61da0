"""Rows of every schema, and rows that are broken or hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.instance import RowBroken, Schema, check_id, read_instance
from tests.evals.cases import row


def test_a_row_of_the_old_schema() -> None:
    one = read_instance(
        row(FAIL_TO_PASS='["a[x y]", "b"]', difficulty="<15 min fix", hints_text="none", extra={"a": 1})
    )
    assert one.fail_to_pass == ("a[x y]", "b")
    assert one.pass_to_pass == ("p",)
    assert (one.schema, one.difficulty, one.image) == (Schema.SWE_BENCH_4, "<15 min fix", "")
    assert one.rest == {"hints_text": "none", "extra": {"a": 1}}


def test_a_row_of_the_new_schema() -> None:
    five = {"image": "i:1", "eval_script": "#!/bin/bash\n", "log_parser": "parse_log_pytest", "eval_type": "fail_only"}
    one = read_instance(row(**five))
    assert (one.schema, one.image, one.log_parser, one.eval_type) == (
        Schema.SWE_BENCH_5,
        "i:1",
        "parse_log_pytest",
        "fail_only",
    )


def test_rows_of_swe_smith_hold_the_bug_as_their_patch() -> None:
    smith = row(image_name="swesmith/x", patch="diff", instance_id="oauthlib__oauthlib.1fd52536.combine_file__09vl")
    del smith["base_commit"]
    one = read_instance(smith)
    assert (one.schema, one.image, one.patch_breaks) == (Schema.SWE_SMITH, "swesmith/x", True)
    assert not read_instance(row()).patch_breaks


def test_rows_of_swe_bench_pro_hold_python_literals() -> None:
    pro = row(instance_id="instance_a__b-0123-vnan", dockerhub_tag="t", selected_test_files_to_run="['x']")
    del pro["FAIL_TO_PASS"], pro["PASS_TO_PASS"]
    one = read_instance(pro | {"fail_to_pass": "['it''s', \"b'c\"]", "pass_to_pass": "[]"})
    assert one.schema is Schema.SWE_BENCH_PRO
    assert one.fail_to_pass == ("its", "b'c")


def test_a_parser_that_is_source_code_is_kept_as_text(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    one = read_instance(row(docker_image="i", log_parser=code, FAIL_TO_PASS=[], test_cmds=["pytest"]))
    assert (one.schema, one.log_parser) == (Schema.SWE_BENCH_LIVE, code)
    with pytest.raises(RowBroken, match="neither JSON nor a Python list"):
        read_instance(row(FAIL_TO_PASS=f"[{code}]"))
    assert not list(tmp_path.iterdir())


def test_values_that_parquet_leaves_out() -> None:
    one = read_instance(row(difficulty=None, image=float("nan"), version=2.0))
    assert (one.difficulty, one.image, one.version) == ("", "", "2.0")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        ".",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0b",
        "-rf",
        ".hidden",
        "a\nb",
        "a b",
        "x" * 201,
        "ä",
        "a;b",
    ],
)
def test_ids_that_are_no_file_names(name: str) -> None:
    with pytest.raises(RowBroken, match="instance_id"):
        check_id(name)


@pytest.mark.parametrize("name", ["django__django-11066", "x.1fd52536.combine__0", "instance_NodeBB__NodeBB-04-vf2c+1"])
def test_ids_that_are(name: str, tmp_path: Path) -> None:
    (tmp_path / check_id(name)).mkdir()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instance_id": None}, "it has no instance_id"),
        ({"instance_id": ["a"]}, "it has no instance_id"),
        ({"repo": "a/../b"}, "repo is no owner/name"),
        ({"repo": None}, "repo is no owner/name"),
        ({"base_commit": "--upload-pack=x"}, "base_commit is no commit"),
        ({"FAIL_TO_PASS": None}, "it has no FAIL_TO_PASS"),
        ({"FAIL_TO_PASS": "nonsense"}, "neither JSON nor"),
        ({"FAIL_TO_PASS": "[" * 100_000}, "neither JSON nor"),
        ({"FAIL_TO_PASS": {"a": 1}}, "FAIL_TO_PASS is an object, not a list"),
        ({"PASS_TO_PASS": "3"}, "PASS_TO_PASS is a number, not a list"),
        ({"PASS_TO_PASS": ["a", 3]}, "PASS_TO_PASS holds a number"),
        ({"patch": ["a"]}, "patch is a list, not text"),
        ({"eval_type": "pass"}, "eval_type is 'pass'"),
    ],
)
def test_broken_rows_say_why(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(RowBroken, match=reason):
        read_instance(row() | fields)


@pytest.mark.parametrize("value", [None, 3, "text", ["a"], True])
def test_what_is_no_row(value: object) -> None:
    with pytest.raises(RowBroken, match="a row is a JSON object"):
        read_instance(value)


def test_gold_is_not_shown() -> None:
    one = read_instance(row(patch="GOLD", test_patch="GOLD", eval_script="GOLD", hints_text="GOLD"))
    assert "GOLD" not in repr(one)
