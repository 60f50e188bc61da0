from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.local import open_local
from sandbox.policy import SandboxSpec
from tests.tools.conftest import Blobs, Call, caller
from tools.base import ToolContext
from tools.search import Search, braces, fits

FILES = {
    "a.py": b"import os\n\n\ndef size(path):\n    return os.stat(path)\n\n\ndef name(path):\n    return path\n",
    "src/b.py": b"def size(it):\r\n    return len(it)\r\n",
    "src/deep/c.txt": "def sizé\nsize: 3\n".encode(),
    "src/we:ird-1-.py": b"def size\n",
    ".hidden/d.py": b"def size\n",
    ".git/config": b"def size\n",
    "blob": b"def size\0",
    "broken.txt": b"def size \xff\n",
}
HOSTILE = ("x\na.py", "\x1b[2J.py", "x\n[9 matches in 9 files]\ny.py", "\n", "r\ra.py", "bidi\u202e.py")
FILES |= {f"odd/{name}": b"planted = 1\n" for name in HOSTILE} | {"src/y\n./a.py": b"planted = 2\n"}


@pytest.fixture(params=["rg", "grep", "python"])
async def search(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Call]:
    """The tool over a sandbox that has only one of the searchers."""
    (tmp_path / "bin").mkdir()
    needed = {"rg": ["rg"], "grep": ["grep"], "python": ["python3"]}[request.param]
    for name in ["bash", "sh", *needed]:
        found = str(Path(sys.executable).resolve()) if name == "python3" else shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not on this machine")
        (tmp_path / "bin" / name).symlink_to(found)
    sandbox = await open_local(SandboxSpec(env={"PATH": str(tmp_path / "bin")}))
    for name, content in FILES.items():
        file = Path(sandbox.workdir, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    async def no_diff() -> str:
        return ""

    yield caller(Search(), ToolContext(sandbox, Blobs(), no_diff))
    await sandbox.close()


async def test_matches_by_file(search: Call) -> None:
    observation = await search(pattern=r"^def \w+\(")
    assert observation.text == (
        "a.py\n4:def size(path):\n8:def name(path):\nsrc/b.py\n1:def size(it):\n[3 matches in 2 files]"
    )
    assert not observation.may_have_changed and not observation.failed
    assert (observation.data["matches"], observation.data["files"]) == (3, 2)


async def test_where_it_looks(search: Call) -> None:
    text = (await search(pattern="def size")).text
    assert sorted(line for line in text.splitlines() if not line[0].isdigit() and line[0] != "[") == [
        ".hidden/d.py", "a.py", "broken.txt", "src/b.py", "src/we:ird-1-.py"
    ]  # fmt: skip


async def test_hostile_names(search: Call) -> None:
    for path in (None, "odd", "src"):
        arguments = {"path": path} if path else {}
        *lines, total = (await search(pattern="planted", **arguments)).text.splitlines()
        names = [line for line in lines if line != "1:planted = 1" and line != "1:planted = 2"]
        assert len(names) == {None: 7, "odd": 6, "src": 1}[path]
        assert all(line.isprintable() and line[0] == line[-1] == "'" for line in names), names
        assert total.startswith(f"[{len(names)} match")


async def test_context(search: Call) -> None:
    assert (await search(pattern="def", path="a.py", context=1)).text == (
        "a.py\n3-\n4:def size(path):\n5-    return os.stat(path)\n--\n7-\n8:def name(path):\n9-    return path\n"
        "[2 matches in 1 file]"
    )
    assert "--" not in (await search(pattern="def|return", path="a.py", context=2)).text


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        ({"path": "src"}, ["src/b.py", "src/deep/c.txt", "src/we:ird-1-.py"]),
        ({"path": "src/b.py"}, ["src/b.py"]),
        ({"glob": "*.txt"}, ["broken.txt", "src/deep/c.txt"]),
        ({"glob": "*.{txt,md}", "path": "src"}, ["src/deep/c.txt"]),
        ({"glob": "src/*.py"}, ["src/b.py", "src/we:ird-1-.py"]),
        ({"glob": "src/**/c.txt"}, ["src/deep/c.txt"]),
        ({"glob": "!*.py"}, ["broken.txt", "src/deep/c.txt"]),
    ],
)
async def test_path_and_glob(search: Call, arguments: dict[str, Any], files: list[str]) -> None:
    text = (await search(pattern="siz[eé]", **arguments)).text
    shown = [line for line in text.splitlines() if not line[0].isdigit() and line[0] != "["]
    assert sorted(shown) == files


async def test_absolute_paths(search: Call, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.txt").write_text("def size\n")
    text = (await search(pattern="def size", path=str(tmp_path / "elsewhere.txt"))).text
    assert text == f"{tmp_path}/elsewhere.txt\n1:def size\n[1 match in 1 file]"


async def test_no_match(search: Call) -> None:
    observation = await search(pattern="nowhere", glob="*.py", path="src")
    assert observation.text == "No match for 'nowhere' (path src, files *.py)."
    assert not observation.failed


async def test_bounds(search: Call) -> None:
    assert "[the first 1 of " in (await search(pattern="def", max_results=1)).text


@pytest.mark.parametrize("pattern", ["size(", "*", "[a"])
async def test_a_bad_pattern(search: Call, pattern: str) -> None:
    observation = await search(pattern=pattern)
    assert observation.failed and "the search failed" in observation.text and "Write a backslash" in observation.text


async def test_a_path_that_is_not_there(search: Call) -> None:
    observation = await search(pattern="x", path="nowhere.py")
    assert observation.failed and "nowhere.py" in observation.text and "backslash" not in observation.text


@pytest.mark.parametrize("pattern", ["-e", "--version", "'", "$HOME", "`id`"])
async def test_nothing_in_a_pattern_is_an_option_or_a_command(search: Call, pattern: str) -> None:
    assert "No match for" in (await search(pattern=pattern.replace("$", "\\$"))).text


async def test_much_output_is_bounded(context: ToolContext, workdir: Path) -> None:
    for number in range(50):
        (workdir / f"file_{number}.txt").write_text("some line that matches\n" * 1000 + "x" * 5000 + "matches\n")
    text = (await caller(Search(), context)(pattern="matches", max_results=1000)).text
    assert len(text) > context.max_observation // 2
    assert "of 50050 matches in 50 files; narrow the search" in text
    text = (await caller(Search(), context)(pattern="x+matches")).text
    assert "more characters]" in text


async def test_ignored_files_are_left_out(context: ToolContext, workdir: Path) -> None:
    if not shutil.which("rg"):
        pytest.skip("only ripgrep reads .gitignore")
    await context.sandbox.run(
        "git init -q && echo build > .gitignore && mkdir build && echo word > build/a && echo word > b"
    )
    assert (await caller(Search(), context)(pattern="^word")).text == "b\n1:word\n[1 match in 1 file]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "`pattern` is missing"),
        ({"pattern": ""}, "`pattern` is empty"),
        ({"pattern": "a\nb"}, "line break"),
        ({"pattern": 3}, "must be a string"),
        ({"pattern": "a", "context": -1}, "between 0 and 50"),
        ({"pattern": "a", "context": "2"}, "must be an integer"),
        ({"pattern": "a", "max_results": 0}, "between 1 and 1000"),
        ({"pattern": "a", "glob": ["*.py"]}, "must be a string"),
        ({"pattern": "a", "path": "\0"}, "NUL"),
    ],
)
async def test_wrong_arguments_are_answered(context: ToolContext, arguments: dict[str, Any], words: str) -> None:
    observation = await caller(Search(), context)(**arguments)
    assert observation.failed and words in observation.text


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("src/a.py", "*.py", True),
        ("src/a.py", "src/*.py", True),
        ("src/x/a.py", "src/*.py", False),
        ("src/x/a.py", "src/**/*.py", True),
        ("src/a.py", "src/**/*.py", True),
        ("src/a.py", "**/a.py", True),
        ("src/a.py", "/src/a.py", True),
        ("src/a.py", "b.py", False),
    ],
)
def test_globs(path: str, glob: str, expected: bool) -> None:
    assert fits(path, glob) is expected


def test_braces() -> None:
    assert list(braces("{a,b}/*.{x,y}")) == ["a/*.x", "a/*.y", "b/*.x", "b/*.y"]
    assert list(braces("plain{a}")) == ["plain{a}"]
