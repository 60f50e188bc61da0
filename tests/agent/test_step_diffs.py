"""What each step changed, from a real repository of kept trees."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from agent.events import EventLog, EventType
from agent.step_diffs import MAX_DIFF, keep_steps, kept_steps, step_diffs


class Kept:
    """A run folder whose repository keeps trees as a run does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.log = EventLog(folder / "events.jsonl")
        self.git("init", "--quiet", "--bare", str(folder / "repository.git"))

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        env = {**os.environ, "GIT_DIR": str(self.folder / "repository.git"), "GIT_CONFIG_GLOBAL": "/dev/null"}
        return subprocess.run(
            ["git", *arguments], input=stdin, env=env, check=True, capture_output=True
        ).stdout.decode()

    def tree(self, **files: str | bytes) -> str:
        entries = []
        for name, text in sorted(files.items()):
            content = text if isinstance(text, bytes) else text.encode()
            blob = self.git("hash-object", "-w", "--stdin", stdin=content).strip()
            entries.append(f"100644 blob {blob}\t{name}")
        return self.git("mktree", stdin="\n".join([*entries, ""]).encode()).strip()

    def start(self, tree: str) -> None:
        self.log.append(EventType.RUN_STARTED, run="x", base={"commit": "c", "tree": tree, "notes": []})

    def answer(self, turn: int, call: int, tree: object) -> None:
        self.log.append(EventType.OBSERVATION, turn=turn, call=call, text="", tree=tree)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "run")


async def test_each_change_is_told_with_its_call(kept: Kept) -> None:
    base, first = kept.tree(a="one\n", b="x\n"), kept.tree(a="two\n", b="x\n")
    second, late = kept.tree(a="two\n", c="new\n"), kept.tree(a="three\n", c="new\n")
    kept.start(base)
    kept.answer(0, 0, base)
    kept.answer(0, 1, first)
    kept.answer(1, 0, first)
    kept.answer(2, 0, second)
    kept.log.append(EventType.LOOP_ENDED, end="time limit", message="", tree=late)
    steps = await step_diffs(kept.folder)
    assert [(step["turn"], step["call"], step["cut"]) for step in steps] == [
        (0, 1, False),
        (2, 0, False),
        (None, None, False),
    ]
    assert steps[0]["diff"].endswith("@@ -1 +1 @@\n-one\n+two\n") and "diff --git a/a b/a" in steps[0]["diff"]
    assert "deleted file mode 100644" in steps[1]["diff"] and "+new\n" in steps[1]["diff"]
    assert "+three" in steps[2]["diff"]


async def test_what_others_pushed_before_a_follow_up_is_no_step_of_the_run(kept: Kept) -> None:
    base, ours = kept.tree(a="one\n"), kept.tree(a="two\n")
    theirs, then = kept.tree(a="two\n", b="others\n"), kept.tree(a="three\n", b="others\n")
    kept.start(base)
    kept.answer(0, 0, ours)
    kept.log.append(EventType.FOLLOW_UP, text="more", tree=theirs, source="x")
    kept.answer(1, 0, then)
    steps = await step_diffs(kept.folder)
    assert [step["turn"] for step in steps] == [0, 1]
    assert "+three" in steps[1]["diff"] and "others" not in steps[1]["diff"]
    kept.log.append(EventType.FOLLOW_UP, text="more", tree="", source="x")  # on the tree that the run left
    assert len(await step_diffs(kept.folder)) == 2


async def test_long_and_strange_changes_are_cut_not_fatal(kept: Kept) -> None:
    base = kept.tree(a="", b=b"\0\1")
    long = kept.tree(a="line of text\n" * 50_000, b=b"\0\2")
    kept.start(base)
    kept.answer(0, 0, long)
    kept.answer(1, 0, "f" * 40)  # a tree that isn't there
    kept.answer(2, 0, base)
    kept.answer(3, 0, "--output=/tmp/x")
    kept.answer(4, 0, None)
    kept.answer(5, 0, kept.tree(a="é\n", b=b"\xff\xfe ok\n"))
    steps = await step_diffs(kept.folder)
    assert [(step["turn"], step["cut"]) for step in steps] == [(0, True), (1, True), (2, True), (5, False)]
    assert MAX_DIFF - 40 < len(steps[0]["diff"]) <= MAX_DIFF and steps[0]["diff"].endswith("+line of text\n")
    assert steps[1]["diff"] == ""
    assert "Binary files" in steps[3]["diff"] or "ok" in steps[3]["diff"]


async def test_a_repository_runs_nothing_while_it_is_shown(kept: Kept, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    kept.git("config", "diff.external", f"touch {mark}")
    kept.git("config", "diff.evil.textconv", f"touch {mark}")
    kept.git("config", "diff.evil.command", f"touch {mark}")
    (kept.folder / "repository.git" / "info" / "attributes").write_text("a diff=evil\n")
    base, after = kept.tree(a="1\n"), kept.tree(a="2\n", **{".gitattributes": "* diff=evil\n"})
    kept.start(base)
    kept.answer(0, 0, after)
    assert len(await step_diffs(kept.folder)) == 1
    assert not mark.exists()


async def test_they_are_kept_beside_the_log(kept: Kept) -> None:
    base, after = kept.tree(a="1\n"), kept.tree(a="2\n")
    kept.start(base)
    kept.answer(0, 0, after)
    path = await keep_steps(kept.folder)
    assert path == kept.folder / "steps.json" and kept_steps(kept.folder) == await step_diffs(kept.folder)
    subprocess.run(["rm", "-r", kept.folder / "repository.git"], check=True)
    assert await step_diffs(kept.folder) == [] and await keep_steps(kept.folder) is None
    for wrong in ("", "3", "{}", '{"format": 1, "steps": 3}', json.dumps({"format": 9, "steps": []}), "[" * 100_000):
        path.write_text(wrong)
        assert kept_steps(kept.folder) is None


async def test_a_damaged_log_gives_what_stands_before(kept: Kept) -> None:
    base, after = kept.tree(a="1\n"), kept.tree(a="2\n")
    kept.start(base)
    kept.answer(0, 0, after)
    with (kept.folder / "events.jsonl").open("a") as file:
        file.write("{torn\n")
    assert len(await step_diffs(kept.folder)) == 1
