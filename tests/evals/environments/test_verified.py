"""Instances of SWE-bench Verified in environments that our recipes make: every verdict is the known one.

Source distributions stand for base commits. The last test wants neither them nor the shared rows.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evals.instance import read_instance
from tests.evals.environments.stand_ins import stand_in
from tests.replay.prepare import SourceUnavailable
from tests.sandbox.kinds import need
from tests.shared_data import SHARED, needs_shared

SCRIPT = Path(__file__).parents[3] / "scripts/verified.py"
ROWS = SHARED / "data/verified_runnable.jsonl"
# Each has another project, way of testing or known verdict, and they are the quickest to make.
CHOSEN = (
    "pallets__flask-5014",
    "psf__requests-5414",
    "psf__requests-6028",
    "pytest-dev__pytest-10051",
    "sphinx-doc__sphinx-11445",
)


@pytest.fixture
def verified() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("verified", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verified"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["verified"]


def rows() -> dict[str, dict[str, Any]]:
    read = (json.loads(line) for line in ROWS.read_text("utf-8").splitlines())
    return {row["instance"]["instance_id"]: row for row in read}


def run(rows: Path, repositories: Path, out: Path, *options: str) -> tuple[int, str, dict[str, dict[str, Any]]]:
    """The script's status, what it said, and its lines by instance."""
    command = [sys.executable, str(SCRIPT), str(rows), "--repositories", str(repositories), "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in (out / "verdicts.jsonl").read_text("utf-8").splitlines()]
    return done.returncode, done.stdout + done.stderr, {line["instance_id"]: line for line in lines}


@needs_shared
@pytest.mark.bubblewrap
@pytest.mark.heavy
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_instances_get_their_known_verdicts(tmp_path: Path) -> None:
    need("bubblewrap")
    known = {name: read_instance(row["instance"]) for name, row in rows().items()}
    try:
        for name in CHOSEN:
            stand_in(known[name], known, tmp_path / "code")
    except SourceUnavailable as error:
        if "pip can't download" in str(error):
            pytest.skip(str(error))
        raise
    only = [word for name in CHOSEN for word in ("--only", name)]
    status, said, found = run(ROWS, tmp_path / "code", tmp_path / "out", "--sandbox", "bubblewrap", *only)
    assert set(found) == set(CHOSEN), said
    verdicts = {name: [one["verdict"] for one in line["runs"].values()] for name, line in found.items()}
    right = ["unresolved", "resolved", "resolved"]
    assert verdicts == {
        "pallets__flask-5014": right,
        "psf__requests-5414": ["unresolved", "environment", "environment"],
        "psf__requests-6028": ["unresolved", "resolved", "unresolved"],
        "pytest-dev__pytest-10051": right,
        "sphinx-doc__sphinx-11445": right,
    }
    assert all(line["code"] == "stand-in" for line in found.values())
    assert (status, said.count("| yes |")) == (0, len(CHOSEN)), said


@needs_shared
def test_what_is_known_of_the_fourteen(verified: ModuleType) -> None:
    known = {one.instance.instance_id: one for one in verified.read_known(ROWS)}
    assert len(known) == 14
    assert all(one.verdicts["unpatched"] == "unresolved" for one in known.values())
    assert {name for name, one in known.items() if one.verdicts["gold"] != "resolved"} == {"psf__requests-5414"}
    unresolved = {name for name, one in known.items() if one.verdicts["model"] == "unresolved"}
    assert unresolved == {
        "django__django-16667", "django__django-16950", "psf__requests-6028", "pylint-dev__pylint-8898",
    }  # fmt: skip
    assert all(one.patches["gold"] and one.patches["model"] and not one.patches["unpatched"] for one in known.values())
    assert known["psf__requests-5414"].tests["gold"] == {"FAIL_TO_PASS": [1, 0], "PASS_TO_PASS": [126, 4]}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gold", {"verdict": "unresolved"}),
        ("model", {"verdict": "environment"}),
        ("unpatched", {"tests": {"FAIL_TO_PASS": [1, 0], "PASS_TO_PASS": [3, 0]}}),
    ],
)
def test_what_differs_from_what_is_known_is_seen(verified: ModuleType, name: str, change: dict[str, Any]) -> None:
    tests = {"FAIL_TO_PASS": [0, 1], "PASS_TO_PASS": [3, 0]}
    runs: dict[str, dict[str, Any]] = {
        run: {"verdict": word, "known": word, "tests": tests, "known_tests": tests, "seconds": 1.0}
        for run, word in (("unpatched", "unresolved"), ("gold", "resolved"), ("model", "resolved"))
    }
    runs["model"]["known_tests"] = None
    row = {
        "instance_id": "acme__lib-1", "sandbox": "none", "code": "stand-in", "recipe": "lib", "python": "3.11.2",
        "packages": 2, "packages_sha256": "0" * 64, "made": 1.0, "runs": runs,
    }  # fmt: skip
    assert verified.as_known(row)
    assert "| unresolved (0/1, 3/3) | resolved (0/1, 3/3) | resolved (0/1, 3/3) | resolved | yes |" in (
        verified.line_of(row)
    )
    runs[name] |= change
    assert not verified.as_known(row)
    assert "| NO |" in verified.line_of(row)
    assert "none, stand-in: 0 of 1 as known" in verified.tables([row])


def test_the_page_is_what_was_kept(verified: ModuleType) -> None:
    kept = verified.kept()
    assert verified.PAGE.read_text("utf-8") == verified.page(kept)
    assert all(verified.as_known(row) for row in kept)
    assert {row["instance_id"] for row in kept if (row["sandbox"], row["code"]) == ("bubblewrap", "base commit")} == {
        row["instance_id"] for row in kept
    }
