"""The folders that a run without isolation works in: removed, whatever commands made of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.machine import Machine
from agent.runs import RunFolder


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine("none", "", "/workspace", RunFolder(tmp_path / "run"))


def make_deep(folder: Path) -> None:
    """More levels than Python's own removal can go down; commands get there step by step."""
    folder.mkdir(parents=True)
    at = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


async def test_a_deep_work_folder_ends_no_run_and_begins_none(machine: Machine) -> None:
    work = machine.run.path / "work"
    make_deep(work / "verify/left")
    make_deep(work / "work/left")
    async with await machine.open() as sandbox:  # type: ignore[attr-defined]
        assert await sandbox.list(".") == []
    machine.clear()
    assert not work.exists()
