"""Walking over folders that go deeper than Python can call itself."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.images.detect.tree import Tree
from sandbox.leftovers import folder_bytes
from sandbox.scratch import remove_folder
from sandbox.walk import walk

LEVELS = 1500


def test_it_is_os_walk(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/d", "e"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("x")
    (tmp_path / "a/link").symlink_to(tmp_path / "e")
    (tmp_path / "a/loop").symlink_to("..")
    (tmp_path / "a/none").symlink_to("nowhere")

    def all_of(found: object) -> set[tuple[str, frozenset[str], frozenset[str]]]:
        return {(where, frozenset(folders), frozenset(files)) for where, folders, files in found}  # type: ignore[attr-defined]

    assert all_of(walk(tmp_path)) == all_of(os.walk(tmp_path))
    seen = []
    for where, folders, _ in walk(tmp_path):
        seen.append(Path(where).name)
        if "b" in folders:
            folders.remove("b")
    assert "b" not in seen and "d" in seen


def test_deep_folders(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    (tmp_path / "go.mod").write_text("module x\n")
    assert folder_bytes(tmp_path) > LEVELS
    assert Tree(tmp_path).has("go.mod")
    remove_folder(tmp_path / "d")
    assert not (tmp_path / "d").exists()
