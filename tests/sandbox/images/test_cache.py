"""Nothing half-made stays in the cache, whoever is killed when."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.base import ImageProblem
from sandbox.images.cache import cache_dir, locked, remove_tree, unfinished
from sandbox.images.progress import Progress, failure, run_tool, silent, step

HOLDER = """
import sys, time
from pathlib import Path
from sandbox.images.cache import locked, unfinished
from sandbox.images.progress import silent
folder = Path(sys.argv[1])
with locked(folder, "x", silent), unfinished(folder, "x") as scratch:
    (scratch / "half").mkdir()
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), str(seconds)], stdout=-1, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_where_the_cache_is() -> None:
    assert cache_dir({"PATCHWRIGHT_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}) == Path("/a/b")
    assert cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/patchwright")
    assert cache_dir({}) == Path.home() / ".cache/patchwright"


def test_a_second_build_waits_and_says_for_whom(tmp_path: Path) -> None:
    told: list[Progress] = []
    with hold(tmp_path, 3.0) as other:
        began = time.monotonic()
        with locked(tmp_path, "x", told.append):
            assert time.monotonic() - began > 1.5
    assert any(f"process {other.pid}" in progress.step for progress in told)


def test_a_killed_build_leaves_no_lock_and_its_half_tree_goes_with_the_next(tmp_path: Path) -> None:
    with hold(tmp_path, 60) as other:
        other.send_signal(signal.SIGKILL)
    assert [path for path in tmp_path.iterdir() if path.is_dir()], "the test itself left nothing to clear"
    with locked(tmp_path, "x", silent), unfinished(tmp_path, "x") as scratch:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [scratch]
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_different_things_are_built_side_by_side(tmp_path: Path) -> None:
    with locked(tmp_path, "a", silent), locked(tmp_path, "b", silent):
        pass


def test_a_tree_with_closed_folders_is_removed(tmp_path: Path) -> None:
    closed = tmp_path / "tree/a"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0o500)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_short_steps_say_nothing_and_long_ones_say_when_they_are_done(fails: bool) -> None:
    told: list[Progress] = []
    with step("short", told.append):
        pass
    assert told == []
    with contextlib.suppress(KeyError), step("long", told.append):
        time.sleep(2.3)
        if fails:
            raise KeyError
    done = [] if fails else [("long", True)]
    assert [(progress.step, progress.done) for progress in told] == [("long", False), *done]
    assert 2.0 <= told[0].seconds <= told[-1].seconds < 60


def test_a_failing_tool_is_quoted_with_advice() -> None:
    with pytest.raises(ImageProblem) as caught:
        run_tool(["sh", "-c", "seq 50; echo last >&2; exit 3"], what="counting", hint="count less.")
    text = str(caught.value)
    assert text.startswith("counting failed (sh ended with 3).") and text.endswith("| last\nTry: count less.")
    assert "| 50\n" in text and "| 10\n" not in text


def test_a_missing_tool_is_named() -> None:
    with pytest.raises(ImageProblem, match="`no-such-tool` isn't on this machine"):
        run_tool(["no-such-tool"], what="x", hint="y")


def test_long_lines_are_cut() -> None:
    assert len(failure("x", "a" * 10_000, "y")) < 400
