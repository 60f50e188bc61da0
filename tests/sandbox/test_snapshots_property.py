"""Random edits, snapshots, forks and ways back, against a dict that stands for the tree."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sandbox.machine import GuestSandbox
from tests.sandbox.kinds import SPEC, opener

pytestmark = pytest.mark.heavy

Entry = tuple[str, int, str]  # kind, mode, content or target
Tree = dict[str, Entry]
Edit = tuple[Any, ...]

NAMES = ("a", "d", "new\nline", "\udcff", "-r", ".git")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)

EDITS = st.one_of(
    st.tuples(st.just("file"), PATHS, st.sampled_from([0o644, 0o600, 0o755, 0o444]), st.text("xy\n", max_size=4)),
    st.tuples(st.just("append"), PATHS, st.text("z", max_size=3)),
    st.tuples(st.just("folder"), PATHS, st.sampled_from([0o755, 0o700, 0o711])),
    st.tuples(st.just("link"), PATHS, st.sampled_from(["a", "/etc/passwd", "../..", "nowhere"])),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("move"), PATHS, PATHS),
    st.tuples(st.just("mode"), PATHS, st.sampled_from([0o700, 0o755, 0o640])),
)
STEPS = st.one_of(
    st.tuples(st.just("edit"), st.integers(0, 2), st.lists(EDITS, min_size=1, max_size=6)),
    st.tuples(st.just("snapshot"), st.integers(0, 2)),
    st.tuples(st.just("restore"), st.integers(0, 2), st.integers(0, 5)),
    st.tuples(st.just("fork"), st.integers(0, 2), st.integers(0, 5)),
    st.tuples(st.just("drop"), st.integers(0, 2), st.integers(0, 5)),
)

# Runs inside: applies edits, then says what the tree looks like. The model below does the same to a dict.
INSIDE = r"""
import json, os, shutil, stat, sys
def clear(path):
    if os.path.islink(path) or os.path.isfile(path): os.unlink(path)
    elif os.path.isdir(path): shutil.rmtree(path)
def parents(path):
    folder = os.path.dirname(path)
    if folder and not (os.path.isdir(folder) and not os.path.islink(folder)):
        parents(folder)
        clear(folder)
        os.mkdir(folder, 0o755)
def real(path):
    return not any(os.path.islink(path[:i]) for i, c in enumerate(path) if c == "/")
for kind, path, *more in json.load(sys.stdin):
    there = os.path.lexists(path) and real(path)
    plain = there and os.path.isfile(path) and not os.path.islink(path)
    if kind in ("file", "folder", "link"):
        parents(path); clear(path)
        if kind == "link": os.symlink(more[0], path); continue
        if kind == "folder": os.mkdir(path)
        else:
            with open(path, "w") as file: file.write(more[1])
        os.chmod(path, more[0])
    elif kind == "append" and plain and os.stat(path).st_mode & 0o200:
        with open(path, "a") as file: file.write(more[0])
    elif kind == "remove" and there: clear(path)
    elif kind == "mode" and there and not os.path.islink(path) and (plain or more[0] & 0o100): os.chmod(path, more[0])
    elif kind == "move" and there and more[0] != path and not (more[0] + "/").startswith(path + "/") \
            and not (path + "/").startswith(more[0] + "/"):
        parents(more[0])
        if os.path.lexists(path):
            clear(more[0]); shutil.move(path, more[0])
found = {}
for folder, folders, files in os.walk("."):
    for name in folders + files:
        path = os.path.join(folder, name)
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode): found[path[2:]] = ["link", 0, os.readlink(path)]
        elif stat.S_ISDIR(mode): found[path[2:]] = ["folder", stat.S_IMODE(mode), ""]
        else: found[path[2:]] = ["file", stat.S_IMODE(mode), open(path).read()]
json.dump(found, sys.stdout)
"""


def below(tree: Tree, path: str) -> list[str]:
    return [name for name in tree if name == path or name.startswith(path + "/")]


def clear(tree: Tree, path: str) -> None:
    for name in below(tree, path):
        del tree[name]


def make_parents(tree: Tree, path: str) -> None:
    folder = path.rpartition("/")[0]
    if folder and tree.get(folder, ("",))[0] != "folder":
        make_parents(tree, folder)
        clear(tree, folder)
        tree[folder] = ("folder", 0o755, "")


def edit(tree: Tree, one: Edit) -> None:
    """What INSIDE does."""
    kind, path, *more = one
    there = tree.get(path)
    if kind in ("file", "folder", "link"):
        make_parents(tree, path)
        clear(tree, path)
        tree[path] = ("link", 0, more[0]) if kind == "link" else (kind, more[0], more[1] if kind == "file" else "")
    elif there is None:
        return
    elif kind == "append" and there[0] == "file" and there[1] & 0o200:
        tree[path] = (*there[:2], there[2] + more[0])
    elif kind == "remove":
        clear(tree, path)
    elif kind == "mode" and (there[0] == "file" or (there[0] == "folder" and more[0] & 0o100)):
        tree[path] = (there[0], more[0], there[2])
    elif kind == "move":
        move(tree, path, more[0])


def move(tree: Tree, path: str, to: str) -> None:
    if path == to or to.startswith(path + "/") or path.startswith(to + "/"):
        return
    make_parents(tree, to)
    if path not in tree:  # a parent of the new place replaced it
        return
    clear(tree, to)
    for name in below(tree, path):
        tree[to + name.removeprefix(path)] = tree.pop(name)


@dataclass
class Twin:
    """A sandbox and what it should hold."""

    box: GuestSandbox
    tree: Tree = field(default_factory=dict)
    kept: list[tuple[str, Tree]] = field(default_factory=list)

    async def apply(self, edits: list[Edit]) -> None:
        for one in edits:
            edit(self.tree, one)
        done = await self.box.run(
            ["python3", "-c", INSIDE], stdin=json.dumps(edits).encode(), env={"LC_ALL": "C.UTF-8"}
        )
        assert done.exit_code == 0, done.output.decode()
        assert {path: tuple(entry) for path, entry in json.loads(done.output).items()} == self.tree


async def play(kind: str, steps: list[Any]) -> None:
    async with AsyncExitStack() as opened:
        twins = [Twin(await opened.enter_async_context(await opener(kind)(SPEC)))]
        for name, which, *more in steps:
            twin = twins[which % len(twins)]
            if name == "edit":
                await twin.apply(more[0])
            elif name == "snapshot":
                twin.kept.append((await twin.box.snapshot(), dict(twin.tree)))
            elif name == "fork" and len(twins) < 3:
                kept = twin.kept[more[0] % len(twin.kept)] if twin.kept else (None, twin.tree)
                twins.append(Twin(await opened.enter_async_context(await twin.box.fork(kept[0])), dict(kept[1])))
            elif name == "restore" and twin.kept:
                kept_name, tree = twin.kept[more[0] % len(twin.kept)]
                await twin.box.restore(kept_name)
                twin.tree = dict(tree)
            elif name == "drop" and twin.kept:
                await twin.box.drop(twin.kept.pop(more[0] % len(twin.kept))[0])
            if name != "edit":
                await twins[-1].apply([])
        for twin in twins:
            await twin.apply([])
            for kept_name, tree in twin.kept:
                await twin.box.restore(kept_name)
                twin.tree = dict(tree)
                await twin.apply([])


@pytest.mark.parametrize(
    ("kind", "examples"), [pytest.param("bubblewrap", 25, marks=pytest.mark.bubblewrap), ("none", 10)]
)
def test_states_are_what_they_were(kind: str, examples: int) -> None:
    opener(kind)  # skips here, not in an example

    # not made smaller when it fails: each try takes a second
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(st.lists(STEPS, min_size=3, max_size=14))
    def check(steps: list[Any]) -> None:
        asyncio.run(play(kind, steps))

    check()
