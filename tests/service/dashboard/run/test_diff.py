"""Diffs as git makes them, read and coloured; and texts that were made to break either."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pygments", reason="needs the extra `service`")

from agent.runs import RunFolder
from agent.step_diffs import MAX_DIFF
from service.dashboard.run import highlight
from service.dashboard.run.changes import Diffs
from service.dashboard.run.diff import MOST_LINES, DiffView, LineKind, coloured, read_diff
from service.dashboard.run.highlight import Budget, Highlighter
from tests.service.dashboard.run.acting import Acting


@pytest.fixture(scope="module")
def highlighter() -> Iterator[Highlighter]:
    one = Highlighter()
    yield one
    one.close()


def changed(folder: Path, before: dict[str, str], after: dict[str, str], most: int = MOST_LINES) -> DiffView:
    """What the page shows of a change, by way of git."""
    acting = Acting(folder / "run")
    trees = acting.tree(before), acting.tree(after)
    acting.close()
    diffs = Diffs()
    try:
        found = asyncio.run(diffs.of(RunFolder(acting.folder), trees, Budget(), most))
    finally:
        diffs.close()
    assert found is not None
    return found


def texts(view: DiffView) -> list[list[tuple[LineKind, int | None, str]]]:
    return [
        [(line.kind, line.number, "".join(text for _, text in line.tokens)) for line in file.lines]
        for file in view.files
    ]


def test_files_lines_and_numbers(tmp_path: Path) -> None:
    before = {"a.py": "one\ntwo\nthree\n", "gone.txt": "x", "bin": "\0\1"}
    after = {"a.py": "one\n2\nthree\nfour\n", "new.py": "x = 1\n", "bin": "\0\2"}
    view = changed(tmp_path, before, after)
    assert [(file.path, file.what, file.added, file.removed, file.binary) for file in view.files] == [
        ("a.py", "changed", 2, 1, False), ("bin", "changed", 0, 0, True), ("gone.txt", "removed", 0, 1, False),
        ("new.py", "added", 1, 0, False),
    ]  # fmt: skip
    assert texts(view)[0] == [
        (LineKind.SAME, 1, "one"), (LineKind.MINUS, 2, "two"), (LineKind.PLUS, 2, "2"), (LineKind.SAME, 3, "three"),
        (LineKind.PLUS, 4, "four"),
    ]  # fmt: skip
    assert texts(view)[2] == [(LineKind.MINUS, 1, "x"), (LineKind.SAID, None, "No newline at end of file")]
    assert (view.added, view.removed) == (3, 2)


def test_a_files_text_is_no_part_of_the_diff(tmp_path: Path) -> None:
    evil = "- a/x\n-- a/y\n++ b/z\n@@ -1 +1 @@\ndiff --git a/q b/q\nnew file mode 100644\n\\ No newline\n"
    view = changed(tmp_path, {"a.txt": evil}, {"a.txt": evil.replace("\n", "!\n")})
    (file,) = view.files
    assert (file.path, file.what, file.added, file.removed) == ("a.txt", "changed", 7, 7)
    assert [text for kind, _, text in texts(view)[0] if kind is LineKind.MINUS] == evil.splitlines()


@pytest.mark.parametrize("name", ["with space", "é‮.py", 'quo"te\\', "a\tb", "x b/x", "<img src=x>"])
def test_strange_names(tmp_path: Path, name: str) -> None:
    view = changed(tmp_path, {"other": "1"}, {"other": "1", name: "new\n"})
    assert [file.path for file in view.files] == [name]


def test_code_is_coloured_and_no_character_is_lost(tmp_path: Path) -> None:
    code = 'def mean(values):\n    """Of numbers.\n\n    Two lines."""\n    return sum(values) / 2  # half\n'
    view = changed(tmp_path, {"a.py": "z\n"}, {"a.py": code})
    plus = [line for line in view.files[0].lines if line.kind is LineKind.PLUS]
    assert "\n".join("".join(text for _, text in line.tokens) for line in plus) + "\n" == code
    kinds = {text.strip(): kind for line in plus for kind, text in line.tokens}
    assert (kinds["def"], kinds["mean"], kinds["sum"], kinds["2"], kinds["# half"]) == ("kw", "fn", "bi", "num", "com")
    assert kinds['Two lines."""'] == "str"  # a string goes on over lines


def test_what_steers_the_line_is_written_out(tmp_path: Path) -> None:
    view = changed(tmp_path, {"a.py": ""}, {"a.py": "x = '\u202egnp.exe\x1b[31m\x00'"})
    said = str(texts(view))
    assert not any(char in said for char in "\u202e\x1b\x00")


@pytest.mark.heavy
def test_long_diffs_and_lines_are_cut(tmp_path: Path) -> None:
    view = changed(tmp_path, {"a.py": ""}, {"a.py": "x = 1  # a line\n" * 10_000})
    assert sum(len(file.lines) for file in view.files) == MOST_LINES
    assert view.cut and 3000 < view.more + MOST_LINES < MAX_DIFF / 16
    wide = changed(tmp_path / "wide", {"a.py": ""}, {"a.py": "y" * 50_000 + "\n"})
    (line,) = [text for kind, _, text in texts(wide)[0] if kind is LineKind.PLUS]
    assert len(line) < 1_100 and "49000 more characters" in line
    many = read_diff("".join(f"diff --git a/{i} b/{i}\n@@ -0,0 +1 @@\n+x\n" for i in range(300)))
    assert len(many.files) == 100 and many.more == 200


def test_a_diff_is_made_once(tmp_path: Path) -> None:
    acting = Acting(tmp_path / "run")
    trees = acting.now, acting.tree({"calc/ops.py": "def mean(values):\n    return 1\n"})
    acting.close()
    folder = RunFolder(acting.folder)

    async def both() -> tuple[DiffView | None, DiffView | None, DiffView | None]:
        first, other = Diffs(), Diffs()
        made = await first.of(folder, trees, Budget())
        subprocess.run(["rm", "-r", folder.repository], check=True)
        kept = await other.of(folder, trees, Budget())
        gone = await other.of(folder, (trees[1], trees[0]), Budget())
        first.close()
        other.close()
        return made, kept, gone

    made, kept, gone = asyncio.run(both())
    assert made is not None and made == kept and gone is None
    (file,) = (folder.path / "diffs").iterdir()
    file.write_text("[[]]")  # a damaged one counts as none
    diffs = Diffs()
    assert asyncio.run(diffs.of(folder, trees, Budget())) is None
    diffs.close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "x" * 60_001),
        ("a.py", "y" * 1_001),
        ("a.py", "\n" * 3_001),
        ("a.none", "x = 1"),
        ("", "x"),
        ("a.py", ""),
    ],
)
def test_what_is_too_much_or_unknown_is_shown_plain(highlighter: Highlighter, name: str, text: str) -> None:
    budget = Budget()
    assert highlighter.lines(name, text, budget) is None
    assert budget.failures == 3


@pytest.mark.heavy
def test_a_text_that_is_too_hard_is_shown_plain_and_ends_with_its_process(
    highlighter: Highlighter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The worker as it is, but with a language that never ends: only its own clock stops it."""
    worker = highlight._WORKER.read_text()
    slow = worker.replace("    lexer_name = LEXERS", "    while 'hard' in text:\n        pass\n    lexer_name = LEXERS")
    assert slow != worker
    (tmp_path / "worker.py").write_text(slow)
    monkeypatch.setattr(highlight, "_WORKER", tmp_path / "worker.py")
    one, budget = Highlighter(), Budget()
    try:
        diff = read_diff("diff --git a/a.py b/a.py\n@@ -1 +1 @@\n-x = 'easy'\n+x = 'hard'\n")
        shown = coloured(diff, one, budget)
        assert budget.failures == 2
        minus, plus = shown.files[0].lines
        assert [kind for kind, _ in plus.tokens] == [""] and "str" in [kind for kind, _ in minus.tokens]
        while budget.failures:
            assert one.lines("a.py", "hard", budget) is None
        assert one.lines("a.py", "easy", budget) is None  # the page has had its share
        assert one.lines("a.py", "easy", Budget()) is not None
    finally:
        one.close()


def test_the_process_ends_with_its_highlighter() -> None:
    one = Highlighter()
    assert one.lines("a.py", "x = 1")
    process = one._process
    assert process is not None and process.poll() is None
    del one
    assert process.poll() is not None
    other = Highlighter()
    assert other.lines("a.py", "x = 1")
    other.close()
    assert other.lines("a.py", "x = 1")
    other.close()


@pytest.mark.heavy
def test_the_process_ends_with_the_one_that_began_it() -> None:
    code = (
        "from service.dashboard.run.highlight import Highlighter\n"
        "one = Highlighter()\nassert one.lines('a.py', 'x = 1')\nprint(one._process.pid)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid = int(done.stdout)
    deadline = 600
    while Path(f"/proc/{pid}/stat").exists() and deadline:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        subprocess.run(["sleep", "0.1"], check=True)
        deadline -= 1
    assert deadline
