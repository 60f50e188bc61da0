"""Whole runs on images that have neither Python nor git of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.harness import FIX, Place, call, fixing_turns, served
from tests.sandbox import no_python
from tests.sandbox.kinds import need

pytestmark = [pytest.mark.docker, pytest.mark.heavy]


def test_a_run_on_busybox_alone(tmp_path: Path) -> None:
    """No bash, no C library, no git, no Python, no GNU grep: from the checkout to a patch that is proven to apply."""
    need("docker")
    place = Place(tmp_path, "docker")
    place.make_repo()
    (edit,) = (turn for turn in fixing_turns() if turn["calls"][0]["name"] == "str_replace_editor")
    submit = call("submit", summary="mean() divided by one too many.", reproduction="grep -q '/ len(v' calc/ops.py")
    turns = [
        call("bash", "I look around.", command="ls; cat calc/ops.py; git log; python3 -V; env"),
        call("search", "Where is it?", pattern=r"len\(values\)", glob="*.py"),
        edit,
        call("bash", "Again.", command="grep -n 'len(values)' calc/ops.py && echo new > calc/new.txt"),
        submit,
        submit,
    ]
    with served(turns) as model:
        done = place.fix(model.url, "--image", no_python.with_busybox())
    assert done.code == 0, done.err + done.out[-3000:]
    assert FIX in place.patch()
    assert "calc/new.txt" in place.patch()
    first, found, *_ = (event["text"] for event in done.of_type("observation"))
    assert "git: not found" in first
    assert "python3: not found" in first
    assert "patchwright-guest" not in first
    assert "calc/ops.py\n3:    return sum(values) / (len(values) + 1)" in found
