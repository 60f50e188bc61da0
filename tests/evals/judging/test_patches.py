"""What is read from a patch's text: files, directives, remarks, and its reverse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evals.judging.patches import Touched, directives_of, edited_files, files_added, files_before, remarks, touched
from evals.judging.reversing import reversed_patch
from tests.agent.repos import ENV, commit, git, make_repo, write
from tests.evals.cases import instance
from tests.evals.judging.subject import raw_diff


def head(old: str, new: str, *more: str) -> str:
    return "\n".join([f"diff --git a/{old} b/{new}", *more]) + "\n"


CHANGED = head("a.py", "a.py", "index 1..2 100644", "--- a/a.py", "+++ b/a.py", "@@ -1 +1 @@", "-x", "+y")
ADDED = head("n.py", "n.py", "new file mode 100644", "--- /dev/null", "+++ b/n.py", "@@ -0,0 +1 @@", "+x")
EMPTY = head("e.py", "e.py", "new file mode 100644", "index 0..e")
REMOVED = head("r.py", "r.py", "deleted file mode 100644", "--- a/r.py", "+++ /dev/null", "@@ -1 +0,0 @@", "-x")
RENAMED = head("o.py", "p.py", "similarity index 100%", "rename from o.py", "rename to p.py")
PICTURE = head("i.png", "i.png", "new file mode 100644", "GIT binary patch", "literal 1", "Ic$`", "")
PLAIN = "--- a/b.py\t2020-01-01\n+++ b/b.py\t2020-01-01\n@@ -1 +1 @@\n-x\n+y\n"
U = "\\303\\274.py"
QUOTED = f'diff --git "a/{U}" "b/{U}"\n--- "a/{U}"\n+++ "b/{U}"\n@@ -1 +1 @@\n-x\n+y\n'


@pytest.mark.parametrize(
    ("patch", "old", "new"),
    [
        (CHANGED, "a.py", "a.py"),
        (ADDED, None, "n.py"),
        (EMPTY, None, "e.py"),
        (REMOVED, "r.py", None),
        (RENAMED, "o.py", "p.py"),
        (PICTURE, None, "i.png"),
        (PLAIN, "b.py", "b.py"),
        (QUOTED, "ü.py", "ü.py"),
    ],
)
def test_a_file_of_each_kind(patch: str, old: str | None, new: str | None) -> None:
    assert touched(patch) == (Touched(old, new),)
    assert touched(CHANGED + patch + ADDED) == (Touched("a.py", "a.py"), Touched(old, new), Touched(None, "n.py"))


def test_names_of_all_that_is_changed() -> None:
    assert edited_files(RENAMED + CHANGED + ADDED + REMOVED + EMPTY + CHANGED + QUOTED) == (
        "p.py", "a.py", "n.py", "r.py", "e.py", "ü.py",
    )  # fmt: skip
    assert edited_files("") == ()


def test_a_line_within_a_hunk_is_no_header() -> None:
    """Removed and added lines may look like headers once their first character is read as part of them."""
    body = [
        "--- a/s.sql",
        "+++ b/s.sql",
        "@@ -1,3 +1,3 @@",
        " diff --git a/x b/x",
        "--- a/evil.py",
        "+++ b/evil.py",
        " e",
    ]
    assert touched(head("s.sql", "s.sql", *body) + CHANGED) == (Touched("s.sql", "s.sql"), Touched("a.py", "a.py"))


def test_no_newline_marks_arent_counted() -> None:
    body = [
        "--- a/x",
        "+++ b/x",
        "@@ -1 +1 @@",
        "-a",
        "\\ No newline at end of file",
        "+b",
        "\\ No newline at end of file",
    ]
    assert touched(head("x", "x", *body) + ADDED) == (Touched("x", "x"), Touched(None, "n.py"))


def test_files_before_and_added() -> None:
    patch = CHANGED + ADDED + REMOVED + RENAMED + EMPTY
    assert files_before(patch) == ("a.py", "r.py", "o.py")
    assert files_added(patch) == ("n.py", "p.py", "e.py")


def test_directives() -> None:
    names = ["tests/a/test_x.py", "tests/a/data.json", "docs/x.md", "tests/ustcsv", "tests/b.py", "conf.toml", "t.cfg"]
    patch = "".join(head(name, name) for name in names)
    assert directives_of(instance(test_patch=patch)) == ("tests/a/test_x.py", "tests/b.py", "t.cfg")
    assert directives_of(instance("django/django", test_patch=patch)) == ("a.test_x", "b", "t.cfg")


def test_directives_are_found_as_the_harness_finds_them() -> None:
    """By the text alone: what stands in a hunk counts, and a renamed file goes by its new name."""
    patch = RENAMED + head("a.py", "a.py", "--- a/a.py", "+++ b/a.py", "@@ -1 +1 @@", "-x", "+diff --git a/in b/in.py")
    assert directives_of(instance(test_patch=patch)) == ("p.py", "a.py", "in.py")


def test_remarks() -> None:
    steering = head("pkg/conftest.py", "pkg/conftest.py") + head("sitecustomize.py", "sitecustomize.py")
    said = remarks(CHANGED + steering + head("x.pth", "x.pth"), CHANGED + ADDED)
    assert said == (
        "the patch touches files of the tests, which are put back: a.py",
        "the patch touches files that steer how tests run: pkg/conftest.py, sitecustomize.py, x.pth",
    )
    assert remarks(CHANGED.replace("+y", "+>>>>> Start Test Output"), "") == (
        "the patch holds the harness's own marks (>>>>> ), which its log is cut at",
    )
    assert remarks(PLAIN, CHANGED) == ()


LINES = st.lists(
    st.sampled_from(["a", "b", "--- a/x", "+++ b/x", "", "@@ -1 +1 @@", "\\ x", "diff --git a/q b/q"]), max_size=12
)
NAMES = st.sampled_from(["one.py", "two words.py", "d/three.py"])
TREES = st.dictionaries(NAMES, st.tuples(LINES, st.booleans()), max_size=3)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repo(tmp_path_factory.mktemp("reversing") / "repo", {})


def put(repository: Path, tree: dict[str, tuple[list[str], bool]]) -> None:
    git(repository, "rm", "-rfq", "--ignore-unmatch", ".")
    write(repository, {name: "\n".join(lines) + "\n" * ended for name, (lines, ended) in tree.items()})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TREES, after=TREES)
def test_what_git_writes_is_read_and_reversed(
    repository: Path, before: dict[str, tuple[list[str], bool]], after: dict[str, tuple[list[str], bool]]
) -> None:
    put(repository, before)
    base = commit(repository)
    put(repository, after)
    there = commit(repository)
    patch = raw_diff(repository, base, "--no-renames")
    assert {file.new or file.old for file in touched(patch)} == set(
        git(repository, "-c", "core.quotePath=off", "diff", "--name-only", "--no-renames", base, there).splitlines()
    )
    if patch:
        apply(repository, reversed_patch(patch))
        assert git(repository, "write-tree") == git(repository, "rev-parse", f"{base}^{{tree}}")


def apply(repository: Path, patch: str) -> None:
    subprocess.run(
        ["git", "-C", str(repository), "apply", "--index", "--whitespace=nowarn", "-"],
        env=ENV, input=patch.encode(), check=True, capture_output=True,
    )  # fmt: skip


def test_renames_and_modes_are_reversed(repository: Path) -> None:
    put(repository, {"one.py": (["1", "2", "3", "4"], True), "two": (["x"], True)})
    base = commit(repository)
    git(repository, "mv", "one.py", "moved.py")
    (repository / "two").chmod(0o755)
    write(repository, {"moved.py": "1\n2\n3\n5\n"})
    commit(repository)
    patch = raw_diff(repository, base, "-M")
    assert "rename from" in patch
    assert "new mode" in patch
    apply(repository, reversed_patch(patch))
    assert git(repository, "write-tree") == git(repository, "rev-parse", f"{base}^{{tree}}")


def test_a_binary_change_has_no_reverse() -> None:
    with pytest.raises(ValueError, match="binary"):
        reversed_patch(PICTURE)
