"""The prepared repositories are what the recordings saw."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path
from typing import Any

import pytest

from tests.replay.prepare import DJANGO_10880, FLASK_5014, Replay, SourceUnavailable, checkout, git, rewrite
from tests.shared_data import SHARED, needs_shared

pytestmark = [pytest.mark.slow, pytest.mark.heavy]
_VIEW = re.compile(r"`cat -n` on (?:a snippet of )?(\S+?):\n(.*)", re.DOTALL)


def repository(replay: Replay, folder: Path) -> Path:
    try:
        return checkout(replay, folder)
    except SourceUnavailable as error:
        if "pip can't download" in str(error):
            pytest.skip(str(error))
        raise


def trajectory(name: str, replay: Replay) -> dict[str, Any]:
    with lzma.open(SHARED / f"data/trajectories_{name}.jsonl.xz", "rt") as lines:
        rows = (json.loads(line) for line in lines)
        return next(row for row in rows if row["instance_id"] == replay.instance_id)


def test_a_checkout_is_one_clean_commit_and_always_the_same(tmp_path: Path) -> None:
    first = repository(FLASK_5014, tmp_path / "a")
    assert git(first, "status", "--porcelain", "--ignored") == ""
    assert git(first, "log", "--format=%an %s").splitlines() == ["Base Flask before the fix"]
    second = repository(FLASK_5014, tmp_path / "b")
    assert git(first, "rev-parse", "HEAD") == git(second, "rev-parse", "HEAD")


@needs_shared
def test_flask_is_what_the_submission_was_made_against(tmp_path: Path) -> None:
    folder = repository(FLASK_5014, tmp_path / "flask")
    submission = trajectory("bash", FLASK_5014)["submission"]
    (tmp_path / "patch").write_text(submission)
    git(folder, "apply", str(tmp_path / "patch"))
    assert git(folder, "diff", "--abbrev=8").strip() == submission.strip()


@needs_shared
def test_django_is_what_the_recorded_views_show(tmp_path: Path) -> None:
    folder = repository(DJANGO_10880, tmp_path / "django")
    path = "django/db/models/aggregates.py"
    messages = trajectory("str_replace_editor", DJANGO_10880)["messages"]
    views = [match for message in messages if (match := _VIEW.search(str(message["content"])))]
    view = next(match[2] for match in views if rewrite(DJANGO_10880, match[1]) == f"/workspace/{path}")
    seen = dict(re.findall(r"^ *(\d+)\t(.*)$", view, re.MULTILINE))
    lines = (folder / path).read_text().split("\n")
    assert len(seen) > 150
    assert {int(number): line for number, line in seen.items()} == {int(n): lines[int(n) - 1] for n in seen}
