"""A step of a build says and takes as much as it likes; neither costs this machine more than a bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.base import ImageProblem
from sandbox.images import bounds
from sandbox.images.base_image import base_tree
from sandbox.images.detect.base import Setup, Step
from sandbox.images.progress import TAIL_BYTES, run_step, silent
from sandbox.images.recipe import recipe
from sandbox.images.setup_tree import setup_tree
from tests.sandbox.kinds import need

ENV = {"PATH": os.environ["PATH"]}


def test_the_end_of_endless_output_is_kept() -> None:
    ended = run_step(["sh", "-c", "head -c 30M /dev/zero; echo the last line; exit 3"], env=ENV)
    assert ended.status == 3 and ended.output.endswith("the last line\n") and len(ended.output) <= TAIL_BYTES


def test_a_step_that_does_not_end_is_ended() -> None:
    ended = run_step(["sh", "-c", "echo waiting; exec sleep 471"], env=ENV, seconds=0.5)
    assert (ended.status, ended.output) == (None, "waiting\n") and "took over" in ended.why


def test_a_step_that_is_objected_to_is_ended() -> None:
    ended = run_step(["sleep", "471"], env=ENV, watch=lambda: "which is too much")
    assert (ended.status, ended.why) == (None, "which is too much")


def test_standard_input_is_closed() -> None:
    ended = run_step(["sh", "-c", "cat; echo read"], env=ENV)
    assert (ended.status, ended.output, ended.why) == (0, "read\n", "")


def test_a_disk_that_fills_is_objected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = bounds.disk_watch(tmp_path)
    monkeypatch.setattr(bounds, "LEAST_FREE_SHARE", 1)  # all of it is to be left
    monkeypatch.setattr(bounds, "LEAST_FREE", 1 << 60)
    assert "GiB free" in look()
    monkeypatch.setattr(bounds, "LEAST_FREE", 0)
    assert look() == ""


def _set_up(command: str) -> None:
    setup_tree(base_tree(recipe()), Setup(steps=(Step("greedy", command),)), None, "/workspace", report=silent)


@pytest.mark.bubblewrap
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    need("bubblewrap")
    with bounds.bounds() as bound:
        if bound.group is None:
            pytest.skip("no control group can be made here")
    monkeypatch.setattr(bounds, "build_memory", lambda: 64 << 20)
    with pytest.raises(ImageProblem, match=r"more than the 0\.1 GiB of memory"):
        _set_up("python3 -c 'x = b\"1\" * (1 << 30); print(len(x))'")


@pytest.mark.bubblewrap
def test_processes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    need("bubblewrap")
    with bounds.bounds() as bound:
        if bound.group is None:
            pytest.skip("no control group can be made here")
    monkeypatch.setattr(bounds, "PROCESSES", 40)
    with pytest.raises(ImageProblem, match=r"(?i)fork|resource"):
        _set_up("for i in $(seq 100); do sleep 471 & done")
