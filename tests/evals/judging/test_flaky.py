"""Known tests: written, read back, and what they say of a verdict."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judging.flaky import InstanceTests, KnownTests, KnownTestsBroken, doubt_about, read_known, write_known

NAMES = st.frozensets(st.text(max_size=8), max_size=4)
TESTS = st.builds(InstanceTests, NAMES, NAMES, st.text(max_size=5))


@given(st.dictionaries(st.sampled_from(["a__b-1", "a__b-2", "c"]), TESTS))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, instances: dict[str, InstanceTests]) -> None:
    path = tmp_path_factory.mktemp("known") / "known.json"
    write_known(path, KnownTests(instances), {"times": 3})
    known = read_known(path)
    for name in ("a__b-1", "a__b-2", "c"):
        assert known.of(name) == instances.get(name, InstanceTests())
    assert json.loads(path.read_text())["facts"] == {"times": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no list of known tests"),
        ("[]", "is no list of known tests"),
        ('{"format": 2, "instances": {}}', "has format 2; this release reads 1"),
        ('{"format": 1, "instances": {"a": {"failing": "x", "flaky": [], "broken": ""}}}', "something else than names"),
        ('{"format": 1, "instances": {"a": {"failing": []}}}', "is no list of known tests"),
        ("[" * 100_000, "is no list of known tests"),
    ],
)
def test_a_file_that_cant_be_used(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_text(text)
    with pytest.raises(KnownTestsBroken, match=said):
        read_known(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(KnownTestsBroken, match="can't be read"):
        read_known(tmp_path / "known.json")


def report(*failed: str, resolved: bool = False) -> dict[str, Any]:
    lists = {
        "FAIL_TO_PASS": {"success": ["s"], "failure": list(failed)},
        "PASS_TO_PASS": {"success": [], "failure": []},
    }
    return {"resolved": resolved, "tests_status": lists}


@pytest.mark.parametrize(
    ("known", "failed", "said"),
    [
        (InstanceTests(failing=frozenset("ab")), "a", "only tests failed that fail with the gold patch too: a"),
        (InstanceTests(failing=frozenset("a"), flaky=frozenset("b")), "ab", "only tests failed that are flaky or"),
        (InstanceTests(failing=frozenset("a")), "ac", ""),
        (InstanceTests(failing=frozenset("a")), "", ""),
        (InstanceTests(broken="why"), "", "the environment is broken with the gold patch too: why"),
        (InstanceTests(flaky=frozenset("abcde")), "edcba", "only tests failed that are .*: a, b, c and 2 more"),
    ],
)
def test_a_doubt_only_where_nothing_else_failed(known: InstanceTests, failed: str, said: str) -> None:
    found = doubt_about(known, report(*failed))
    assert re.match(said, found) if said else not found
    assert doubt_about(known, report(*failed, resolved=True)) == ""
    assert doubt_about(InstanceTests(), report(*failed)) == ""
