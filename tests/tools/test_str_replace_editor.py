from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.base import Sandbox
from tests.tools.conftest import Call, caller
from tools.base import ToolContext
from tools.str_replace_editor import MAX_BYTES, StrReplaceEditor

SOURCE = "import os\n\n\ndef size(path):\n    return os.stat(path).st_size\n\n\ndef name(path):\n    return path\n"


@pytest.fixture
def edit(context: ToolContext) -> Call:
    return caller(StrReplaceEditor(), context)


@pytest.fixture
def source(workdir: Path) -> Path:
    file = workdir / "a.py"
    file.write_text(SOURCE)
    return file


# -- view


async def test_view(edit: Call, source: Path) -> None:
    observation = await edit(command="view", path="a.py")
    assert observation.text == (
        f"The file {source} with line numbers:\n     1\timport os\n     2\t\n     3\t\n     4\tdef size(path):\n"
        "     5\t    return os.stat(path).st_size\n     6\t\n     7\t\n     8\tdef name(path):\n"
        "     9\t    return path\n[lines 1-9 of 9]"
    )
    assert not observation.may_have_changed
    assert observation.data == {"command": "view", "path": str(source)}


@pytest.mark.parametrize(
    ("view_range", "words"),
    [
        ([4, 5], "     4\tdef size(path):\n     5\t    return os.stat(path).st_size\n[lines 4-5 of 9]"),
        ([8, -1], "     8\tdef name(path):\n     9\t    return path\n[lines 8-9 of 9]"),
        ([9, 900], "     9\t    return path\n[lines 9-9 of 9]"),
        ([1.0, 1], "     1\timport os\n[lines 1-1 of 9]"),
    ],
)
async def test_view_range(edit: Call, source: Path, view_range: list[Any], words: str) -> None:
    text = (await edit(command="view", path=str(source), view_range=view_range)).text
    assert text.endswith("numbers:\n" + words)


@pytest.mark.parametrize(
    ("view_range", "words"),
    [
        ([0, 5], "must begin between 1 and 9"),
        ([10, 12], "must begin between 1 and 9"),
        ([5, 4], "must end at 5 or later"),
        ([5, -2], "must end at 5 or later"),
        ([5], "two line numbers"),
        ("5-7", "two line numbers"),
        ([True, 3], "two line numbers"),
        ([None, 3], "two line numbers"),
        ({}, "two line numbers"),
    ],
)
async def test_wrong_view_range(edit: Call, source: Path, view_range: Any, words: str) -> None:
    observation = await edit(command="view", path="a.py", view_range=view_range)
    assert observation.failed and words in observation.text


async def test_a_long_file_is_shown_from_the_top(edit: Call, workdir: Path, context: ToolContext) -> None:
    (workdir / "long.txt").write_text("".join(f"line {number}\n" for number in range(1, 5001)))
    text = (await edit(command="view", path="long.txt")).text
    assert "     1\tline 1\n" in text and "view_range, for example [" in text
    last = int(text.rsplit("[lines 1-", 1)[1].split()[0])
    assert f"{last:6d}\tline {last}\n[lines" in text and last > 500
    (workdir / "wide.txt").write_text("x" * 100_000 + "\nend\n")
    text = (await edit(command="view", path="wide.txt")).text
    assert "98000 more characters in this line" in text and text.endswith("     2\tend\n[lines 1-2 of 2]")


async def test_an_empty_file(edit: Call, workdir: Path) -> None:
    (workdir / "empty").touch()
    assert (await edit(command="view", path="empty")).text == f"The file {workdir}/empty is empty.\n[0 lines]"


async def test_a_folder(edit: Call, workdir: Path) -> None:
    for name in ("src/pkg/deep", ".git/objects", "src/.cache"):
        (workdir / name).mkdir(parents=True)
    for name in ("src/a.py", "src/pkg/b.py", "README.md", ".env"):
        (workdir / name).touch()
    (workdir / "link").symlink_to("README.md")
    text = (await edit(command="view", path=".")).text
    assert text == (
        f"The folder {workdir}, two levels deep:\nREADME.md\nlink@\nsrc/\n  a.py\n  pkg/\n[3 hidden entries left out]"
    )


async def test_a_huge_folder_is_bounded(edit: Call, workdir: Path) -> None:
    for folder in range(90):
        (workdir / f"folder_{folder:03d}").mkdir()
        for file in range(90 if folder < 3 else 12):
            (workdir / f"folder_{folder:03d}" / f"a_rather_long_file_name_{file}.py").touch()
    text = (await edit(command="view", path=".")).text
    assert "[... 10 more ...]" in text and "more lines; view a folder" in text


@pytest.mark.parametrize(
    ("data", "words"), [(b"\x89PNG\r\n\x1a\n\0\0", "is a PNG image"), (b"\x7fELF\0", "ELF"), (b"a\0", "binary")]
)
async def test_what_is_no_text(edit: Call, workdir: Path, data: bytes, words: str) -> None:
    (workdir / "blob").write_bytes(data)
    for command, more in (("view", {}), ("str_replace", {"old_str": "a", "new_str": "b"})):
        observation = await edit(command=command, path="blob", **more)
        assert observation.failed and words in observation.text


async def test_a_file_that_is_too_large(edit: Call, workdir: Path) -> None:
    with (workdir / "huge").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "larger than 8 MiB" in (await edit(command="view", path="huge")).text


async def test_a_path_that_is_not_there(edit: Call, source: Path, workdir: Path) -> None:
    (workdir / "src").mkdir()
    (workdir / "src" / "reader.py").touch()
    assert f"Is one of these meant? {source}" in (await edit(command="view", path="b.py")).text
    text = (await edit(command="view", path="/testbed/src/reader.py")).text
    assert text == f"Error: there is no file /testbed/src/reader.py. Is one of these meant? {workdir}/src/reader.py"
    assert "Look with `view` of a folder" in (await edit(command="view", path="zzz/qqq")).text
    assert "there is no file" in (await edit(command="view", path="a.py/x")).text


# -- edits


async def test_str_replace(edit: Call, source: Path) -> None:
    observation = await edit(command="str_replace", path="a.py", old_str="os.stat(path)", new_str="os.lstat(path)")
    assert source.read_text() == SOURCE.replace("stat", "lstat")
    assert observation.text == (
        f"The file {source} has been edited. The place with line numbers:\n     1\timport os\n     2\t\n     3\t\n"
        "     4\tdef size(path):\n     5\t    return os.lstat(path).st_size\n     6\t\n     7\t\n"
        "     8\tdef name(path):\n     9\t    return path\n[lines 1-9 of 9]"
    )
    assert observation.may_have_changed and not observation.failed
    assert observation.data == {"command": "str_replace", "path": str(source), "first": 5, "last": 5}


async def test_deleting_by_leaving_new_str_out(edit: Call, source: Path) -> None:
    await edit(command="str_replace", path="a.py", old_str="\n\ndef name(path):\n    return path\n")
    assert source.read_text() == SOURCE.split("\n\ndef name")[0]
    await edit(command="str_replace", path="a.py", old_str=source.read_text(), new_str="")
    assert source.read_text() == ""


async def test_a_large_edit_is_shown_in_part(edit: Call, source: Path) -> None:
    new = "".join(f"value_{number} = {number}\n" for number in range(3000))
    text = (await edit(command="str_replace", path="a.py", old_str="import os\n", new_str=new)).text
    assert "value_0" in text and "the edit goes on to line 3000]" in text


async def test_not_found(edit: Call, source: Path) -> None:
    observation = await edit(command="str_replace", path="a.py", old_str="def nome(path):", new_str="")
    assert observation.failed and not observation.may_have_changed
    assert f"`old_str` is not in {source}. Nothing was changed.\nNearest in the file:\nLines 8-8" in observation.text
    assert source.read_text() == SOURCE


async def test_several(edit: Call, source: Path) -> None:
    text = (await edit(command="str_replace", path="a.py", old_str="(path)", new_str="(p)")).text
    assert "more than once: at the lines 4, 5, 8. Nothing was changed." in text
    assert source.read_text() == SOURCE


async def test_the_same_failure_again_gets_a_hint(edit: Call, source: Path) -> None:
    wrong: dict[str, Any] = {"command": "str_replace", "path": "a.py", "old_str": "(path)", "new_str": "(p)"}
    assert "in a row" not in (await edit(**wrong)).text
    assert "has failed 2 times in a row" in (await edit(**wrong)).text
    await edit(command="create", path="b.py", file_text="# something else was changed\n")
    assert "in a row" not in (await edit(**wrong)).text


async def test_insert(edit: Call, source: Path) -> None:
    observation = await edit(command="insert", path="a.py", insert_line=1, new_str="import re")
    assert source.read_text() == SOURCE.replace("import os\n", "import os\nimport re\n")
    assert "     2\timport re\n" in observation.text
    await edit(command="insert", path="a.py", insert_line=0, insert_text="# top\n")
    assert source.read_text().startswith("# top\nimport os\n")


async def test_create(edit: Call, workdir: Path) -> None:
    observation = await edit(command="create", path="new/deep/b.py", file_text="x = 1\ny = 'é'")
    assert observation.text == f"The file {workdir}/new/deep/b.py has been created (2 lines)."
    assert (workdir / "new/deep/b.py").read_bytes() == "x = 1\ny = 'é'".encode()
    (workdir / "empty.txt").touch()
    assert not (await edit(command="create", path="empty.txt", file_text="")).failed
    assert not (await edit(command="create", path="empty.txt", file_text="now full\n")).failed


async def test_create_overwrites_nothing(edit: Call, source: Path, workdir: Path) -> None:
    text = (await edit(command="create", path="a.py", file_text="x")).text
    assert "is there already, and `create` does not overwrite" in text
    assert "exactly this text" in (await edit(command="create", path="a.py", file_text=SOURCE)).text
    (workdir / "folder").mkdir()
    assert "is a folder" in (await edit(command="create", path="folder", file_text="x")).text
    assert (await edit(command="create", path="a.py/b.py", file_text="x")).failed
    assert source.read_text() == SOURCE


async def test_a_new_syntax_error_is_told_at_once(edit: Call, source: Path) -> None:
    observation = await edit(command="str_replace", path="a.py", old_str="def size(path):", new_str="def size(path:")
    assert observation.text.endswith(
        "Warning: with this edit the file has a new syntax error.\n  line 4: '(' was never closed\n"
        "Correct it before you go on."
    )
    assert not observation.failed
    observation = await edit(command="str_replace", path="a.py", old_str="return path", new_str="return  path")
    assert "Warning" not in observation.text
    assert "line 1: invalid syntax" in (await edit(command="create", path="c.py", file_text="x = = 1\n")).text


# -- what an edit must not touch


async def test_windows_line_breaks(edit: Call, source: Path) -> None:
    source.write_bytes(SOURCE.replace("\n", "\r\n").encode())
    old, new = "def size(path):\n    return os", "def size(path):\n    path = str(path)\n    return os"
    assert "\r" not in (await edit(command="str_replace", path="a.py", old_str=old, new_str=new)).text
    assert source.read_bytes() == SOURCE.replace(old, new).replace("\n", "\r\n").encode()


async def test_encodings(edit: Call, source: Path) -> None:
    for before, codec in (("\ufeffé = 1\n", "utf-8"), ("é = 1\n", "latin-1"), ("# coding: gbk\n中é = 1\n", "gbk")):
        source.write_bytes(before.encode(codec))
        await edit(command="str_replace", path="a.py", old_str="é = 1", new_str="é = 2")
        assert source.read_bytes() == before.replace("1", "2").encode(codec)
    observation = await edit(command="str_replace", path="a.py", old_str="2", new_str="'🦊'")
    assert observation.failed and "encoded in gbk, which has no '🦊'" in observation.text


async def test_mode_and_links(edit: Call, source: Path, workdir: Path) -> None:
    source.chmod(0o755)
    (workdir / "link.py").symlink_to("a.py")
    await edit(command="str_replace", path="link.py", old_str="import os", new_str="import re")
    assert (workdir / "link.py").is_symlink()
    assert source.read_text().startswith("import re")
    assert source.stat().st_mode & 0o777 == 0o755
    await edit(command="undo_edit", path="link.py")
    assert source.read_text() == SOURCE and source.stat().st_mode & 0o777 == 0o755


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    before=st.binary(max_size=60) | st.sampled_from([b"", b"a\r\nb\n", b"\xef\xbb\xbfx\r\n", b"\xff\xfa\r"]),
    after=st.binary(max_size=60) | st.sampled_from([b"", b"\r\n", b"\n\n", b"\xe9"]),
    old=st.text(alphabet="abc \t(", min_size=1, max_size=12),
    new=st.text(alphabet="abc \n\t(é", max_size=12),
)
async def test_an_edit_and_its_undoing(
    context: ToolContext, workdir: Path, before: bytes, after: bytes, old: str, new: str
) -> None:
    call = caller(StrReplaceEditor(), context)
    original = before + b"<<" + old.encode() + b">>" + after
    (workdir / "any.txt").write_bytes(original)
    observation = await call(command="str_replace", path="any.txt", old_str=f"<<{old}>>", new_str=f"<<{new}>>")
    changed = (workdir / "any.txt").read_bytes()
    if observation.failed:
        assert changed == original
        return
    assert changed.startswith(before + b"<<") and changed.endswith(b">>" + after)
    assert not (await call(command="undo_edit", path="any.txt")).failed
    assert (workdir / "any.txt").read_bytes() == original


# -- undo


async def test_undo_steps_back_edit_by_edit_also_after_a_resume(
    edit: Call, source: Path, workdir: Path, context: ToolContext
) -> None:
    await edit(command="str_replace", path="a.py", old_str="import os", new_str="import re")
    await edit(command="create", path="b.py", file_text="x = 1\n")
    await edit(command="insert", path="a.py", insert_line=0, new_str="# top")
    context.state = json.loads(json.dumps(context.state))
    edit = caller(StrReplaceEditor(), context)
    assert "was undone" in (await edit(command="undo_edit", path="a.py")).text
    assert source.read_text() == SOURCE.replace("os\n", "re\n", 1)
    await edit(command="undo_edit", path="a.py")
    assert source.read_text() == SOURCE
    assert "no edit of" in (await edit(command="undo_edit", path="a.py")).text
    assert "the file is gone again" in (await edit(command="undo_edit", path="b.py")).text
    assert not (workdir / "b.py").exists()


async def test_undo_loses_nothing_that_others_did(edit: Call, source: Path) -> None:
    await edit(command="str_replace", path="a.py", old_str="import os", new_str="import re")
    source.write_text("changed by a command\n")
    assert "changed by something else" in (await edit(command="undo_edit", path="a.py")).text
    assert source.read_text() == "changed by a command\n"


async def test_the_history_stays_short(edit: Call, source: Path, context: ToolContext) -> None:
    for number in range(60):
        await edit(command="insert", path="a.py", insert_line=0, new_str=f"# {number}")
    assert len(context.state["edits"]) == 40
    assert not (await edit(command="undo_edit", path="a.py")).failed


# -- wrong arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "`command` is missing"),
        ({"command": "view"}, "`path` is missing"),
        ({"command": "view", "path": " "}, "`path` is empty"),
        ({"command": "view", "path": "a\0"}, "NUL"),
        ({"command": "delete", "path": "a.py"}, "there is no command 'delete'"),
        ({"command": ["view"], "path": "a.py"}, "must be a string"),
        ({"command": "view", "path": 7}, "must be a string"),
        ({"command": "create", "path": "b.py"}, "`file_text` is missing"),
        ({"command": "create", "path": "b.py", "file_text": {"a": 1}}, "must be a string, not an object"),
        ({"command": "create", "path": "b.py", "file_text": "\ud800"}, "surrogate"),
        ({"command": "str_replace", "path": "a.py", "new_str": "x"}, "`old_str` is missing"),
        ({"command": "str_replace", "path": "a.py", "old_str": "", "new_str": "x"}, "`old_str` is empty"),
        ({"command": "str_replace", "path": "a.py", "old_str": "os", "new_str": 1}, "must be a string"),
        ({"command": "str_replace", "path": "a.py", "old_str": "name", "new_str": "name"}, "are the same"),
        ({"command": "insert", "path": "a.py", "new_str": "x"}, "`insert_line` is missing"),
        ({"command": "insert", "path": "a.py", "insert_line": "1", "new_str": "x"}, "must be an integer"),
        ({"command": "insert", "path": "a.py", "insert_line": 10, "new_str": "x"}, "between 0 and 9"),
        ({"command": "insert", "path": "a.py", "insert_line": -1, "new_str": "x"}, "at least 0"),
        ({"command": "insert", "path": "a.py", "insert_line": 1}, "`new_str` is missing"),
        ({"command": "undo_edit", "path": "a.py"}, "no edit of"),
        ({"command": "str_replace", "path": ".", "old_str": "a", "new_str": "b"}, "directory"),
    ],
)
async def test_wrong_arguments_are_answered(
    edit: Call, source: Path, workdir: Path, arguments: dict[str, Any], words: str
) -> None:
    observation = await edit(**arguments)
    assert observation.failed and not observation.may_have_changed
    assert observation.text.startswith("Error: ") and words in observation.text
    assert source.read_text() == SOURCE and os.listdir(workdir) == ["a.py"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
async def test_a_file_that_may_not_be_written(edit: Call, source: Path, workdir: Path) -> None:
    workdir.chmod(0o555)
    observation = await edit(command="str_replace", path="a.py", old_str="os", new_str="re")
    workdir.chmod(0o755)
    assert observation.failed and "denied" in observation.text


async def test_a_write_that_fails_leaves_no_history(edit: Call, sandbox: Sandbox, context: ToolContext) -> None:
    observation = await edit(command="create", path="/proc/nothing/here", file_text="x")
    assert observation.failed
    assert not context.state.get("edits")
