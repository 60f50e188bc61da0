from __future__ import annotations

import json
from typing import Any

import pytest

from tests.tools.conftest import Blobs, Call, caller
from tools import standard_tools
from tools.base import ToolContext, tool_name
from tools.submit import Submit

DIFF = """\
diff --git a/src/a.py b/src/a.py
index 1..2 100644
--- a/src/a.py
+++ b/src/a.py
@@ -1 +1 @@
-return a
+return b
"""
NEW = "diff --git a/repro.py b/repro.py\nnew file mode 100644\n--- /dev/null\n+++ b/repro.py\n@@ -0,0 +1 @@\n+x\n"


class WorkTree:
    diff = DIFF

    async def __call__(self) -> str:
        return self.diff


@pytest.fixture
def tree() -> WorkTree:
    return WorkTree()


@pytest.fixture
def context(sandbox: Any, tree: WorkTree) -> ToolContext:
    return ToolContext(sandbox, Blobs(), tree)


@pytest.fixture
def submit(context: ToolContext) -> Call:
    return caller(Submit(), context)


async def test_the_first_call_shows_the_diff_and_the_second_ends(submit: Call) -> None:
    first = await submit(summary="Fixed.")
    assert not first.ends_run and not first.failed and not first.may_have_changed
    assert first.text.startswith("This is your change, in src/a.py:\n\n" + DIFF)
    assert "1. Does the diff" in first.text and first.text.endswith("which ends the work.")
    second = await submit(summary="Fixed it.", reproduction="pytest -q")
    assert second.ends_run and second.text == "Submitted. The work has ended."
    assert second.data == {"summary": "Fixed it.", "reproduction": "pytest -q", "empty": False}


async def test_the_second_call_after_a_resume(submit: Call, context: ToolContext) -> None:
    await submit(summary="Fixed.", reproduction="true")
    context.state = json.loads(json.dumps(context.state))
    ended = await caller(Submit(), context)()
    assert ended.ends_run
    assert ended.data["summary"] == "Fixed." and ended.data["reproduction"] == "true"


async def test_a_change_in_between_is_shown_once_more(submit: Call, tree: WorkTree) -> None:
    await submit(summary="Fixed.")
    tree.diff = DIFF + NEW
    again = await submit(summary="Fixed.")
    assert not again.ends_run
    assert again.text.startswith(
        "The change is another one than the one you have seen. This is your change, in src/a.py"
    )
    assert "New files: repro.py. Remove those that are not part of the solution." in again.text
    tree.diff = DIFF
    assert (await submit(summary="Fixed.")).ends_run


async def test_an_empty_diff(submit: Call, tree: WorkTree) -> None:
    tree.diff = ""
    first = await submit(summary="Nothing is wrong.")
    assert not first.ends_run and first.text.startswith("There is no change")
    second = await submit(summary="Nothing is wrong.")
    assert second.ends_run and second.data["empty"]


async def test_a_large_diff_is_cut(submit: Call, tree: WorkTree) -> None:
    tree.diff = DIFF + "+line\n" * 50_000
    text = (await submit(summary="Fixed.")).text
    assert "characters left out; see it with `git diff` ...]" in text
    assert "1. Does the diff" in text


async def test_remarks(submit: Call, tree: WorkTree) -> None:
    tree.diff = DIFF + "+<<<<<<< HEAD\n" + "diff --git a/b.png b/b.png\nGIT binary patch\nliteral 3\n"
    text = (await submit(summary="Fixed.")).text
    assert "conflict markers" in text and "binary files" in text and "in src/a.py, b.png:" in text


async def test_quoted_names(submit: Call, tree: WorkTree) -> None:
    tree.diff = 'diff --git "a/\\303\\251.py" "b/\\303\\251.py"\nnew file mode 100644\n'
    assert "New files: \\303\\251.py." in (await submit(summary="Fixed.")).text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "`summary` is missing"),
        ({"summary": " "}, "`summary` is missing"),
        ({"summary": 3}, "must be a string"),
        ({"summary": "x", "reproduction": ["pytest"]}, "must be a string"),
    ],
)
async def test_wrong_arguments_end_nothing(submit: Call, arguments: dict[str, Any], words: str) -> None:
    observation = await submit(**arguments)
    assert observation.failed and not observation.ends_run
    assert words in observation.text and "has not ended" in observation.text


def test_the_standard_tools() -> None:
    tools = standard_tools()
    assert [tool_name(tool) for tool in tools] == ["bash", "str_replace_editor", "search", "submit"]
    for tool in tools:
        parameters = tool.spec["function"]["parameters"]
        assert set(parameters["required"]) <= set(parameters["properties"])
        assert json.loads(json.dumps(tool.spec)) == tool.spec
