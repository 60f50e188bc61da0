"""Instances as rows again, and what names their content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.instance import read_instance
from evals.runs.rows import row_line, row_of, rows_sha256

BASE: dict[str, Any] = {
    "instance_id": "owner__name-1",
    "repo": "owner/name",
    "base_commit": "0123456789abcdef0123456789abcdef01234567",
    "problem_statement": "It breaks.\n",
    "patch": "diff --git a/a b/a\n",
    "test_patch": "",
    "FAIL_TO_PASS": '["test_a", "test b"]',
    "PASS_TO_PASS": [],
    "hints_text": None,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "4": {"version": 1.1, "difficulty": "<15 min fix"},
    "5": {"image": "x/y:1", "eval_script": "", "log_parser": "parse_log_pytest", "eval_type": "pass_and_fail"},
    "5 without an image": {"eval_script": "true\n", "log_parser": "", "eval_type": ""},
    "live": {"test_cmds": ["pytest"], "docker_image": "live:1", "log_parser": "pytest"},
    "live without an image": {"test_cmd": "pytest"},
    "pro": {"dockerhub_tag": "tag-1", "fail_to_pass": "['a']", "pass_to_pass": "[]", "FAIL_TO_PASS": None},
    "pro without an image": {"selected_test_files_to_run": "[]", "dockerhub_tag": ""},
    "smith": {"image_name": "swesmith/x", "base_commit": None},
    "an odd one": {"image": "x", "image_name": "y", "log_parser": "def parse(log): ..."},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_row_of_an_instance_reads_as_that_instance(name: str) -> None:
    row = {key: value for key, value in (BASE | SCHEMAS[name]).items() if value is not None or key == "hints_text"}
    instance = read_instance(row)
    assert read_instance(json.loads(row_line(instance))) == instance


texts = st.text(max_size=20)
tests = st.lists(texts, max_size=3)


@given(
    schema=st.sampled_from(sorted(SCHEMAS)),
    told=st.fixed_dictionaries({"problem_statement": texts, "patch": texts, "test_patch": texts, "difficulty": texts}),
    fail=tests,
    kept=tests,
    rest=st.dictionaries(st.sampled_from(["hints_text", "created_at", "kind"]), st.none() | texts | tests),
)
def test_any_row_comes_back(schema: str, told: dict[str, str], fail: list[str], kept: list[str], rest: Any) -> None:
    names = ("fail_to_pass", "pass_to_pass") if schema.startswith("pro") else ("FAIL_TO_PASS", "PASS_TO_PASS")
    row = {
        key: value for key, value in (BASE | SCHEMAS[schema]).items() if value is not None and "PASS" not in key.upper()
    }
    instance = read_instance({**row, **told, **dict(zip(names, (fail, kept), strict=True)), **rest})
    assert read_instance(row_of(instance)) == instance


def test_the_hash_names_the_content_and_not_where_it_came_from() -> None:
    one, two = (read_instance(BASE | {"instance_id": f"a__b-{n}"}) for n in (1, 2))
    assert rows_sha256([one, two]) == rows_sha256([two, one])
    assert rows_sha256([one]) != rows_sha256([two])
    changed = read_instance(BASE | {"instance_id": "a__b-1", "test_patch": "other"})
    assert rows_sha256([changed]) != rows_sha256([one])
    here, there = (read_instance(BASE | {"bundled": f"/{place}/tasks/x"}) for place in ("here", "there"))
    assert rows_sha256([here]) == rows_sha256([there])
