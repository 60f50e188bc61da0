"""Work folders of bubblewrap's sandboxes as layers in memory: who uses which, and for how long.

A store is one sandbox's memory file system: the bound on all its layers together, snapshots included. A layer is
written to by one sandbox, then frozen; it stays as long as a snapshot or a sandbox lies above it, its own or a fork.
Left out: the mounting (`sandbox.bubblewrap_keeper`, which this starts once per process and talks to) and the
sandboxes themselves.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.base import SandboxError
from sandbox.policy import Limits

STAGES = ("/mnt", "/media", "/srv", "/opt")
_BYTES_PER_FILE = 4096
_PATIENCE = 300.0  # seconds for an answer; a layer is mounted in milliseconds
_ENDING = 10.0  # seconds until it is killed


class LayersUnavailable(SandboxError):
    """Layers can't be had, or not any more; snapshots are copies then. The text says why."""


@dataclass(slots=True, eq=False)
class Store:
    """Where a sandbox's layers lie."""

    keeper: Keeper
    name: str
    uid: int  # who owns its files, as the keeper sees it
    layers: int = 0  # how many lie in it


@dataclass(slots=True, eq=False)
class Layer:
    """One folder of changes. `users`: sandboxes and snapshots that have it in their stack."""

    store: Store
    name: str
    users: int = 0


Stack = tuple[Layer, ...]  # the newest first


class Keeper:
    """The other process, and the book of what it holds. Safe to use from several threads."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._trees: dict[str, str] = {}
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("bubblewrap_keeper.py")), stage]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", start_new_session=True
        )
        try:
            started = self._answer()
        except LayersUnavailable:
            self.end()
            raise
        self.pid: int = started["pid"]
        self.as_root: bool = started["as_root"]

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):  # it was killed
            self._process.stdin.close()
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # one answer for each request, so nothing of it lies in the reader's buffer already
        if not select.select([self._process.stdout], [], [], _PATIENCE)[0]:
            self._process.kill()
            raise LayersUnavailable(f"The process that holds the layers said nothing for {_PATIENCE:.0f} s.")
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process that holds the layers has ended"}
        if "error" in answer:
            raise LayersUnavailable(f"Layers can't be mounted here: {answer['error']}.")
        return answer

    def _ask(self, *request: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except (OSError, ValueError) as error:
                raise LayersUnavailable("The process that holds the layers has ended.") from error
            return self._answer()

    # -- stores and layers

    def store(self, limits: Limits, uid: int) -> Store:
        store = Store(self, f"s{next(self._numbers)}", 0 if not self.as_root else uid)
        inodes = min(limits.files, limits.workdir_bytes // _BYTES_PER_FILE + 1000)
        self._ask("store", store.name, limits.workdir_bytes, inodes, store.uid)
        return store

    def layer(self, store: Store, like: Layer | None = None) -> Layer:
        layer = self._named(store)
        with self._lock:
            try:
                self._ask("layer", layer.name, store.uid, like and like.name)
            except LayersUnavailable:
                if not store.layers:
                    self._ask("unstore", store.name)
                raise
            store.layers += 1
        return layer

    def _named(self, store: Store) -> Layer:
        return Layer(store, f"{store.name}/{next(self._numbers)}")

    def use(self, stack: Stack) -> Stack:
        with self._lock:
            for layer in stack:
                layer.users += 1
        return stack

    def leave(self, stack: Stack) -> None:
        """What nobody uses any more goes; a store goes with its last layer."""
        with self._lock:
            for layer in stack:
                layer.users -= 1
                if layer.users == 0 and self.lives:
                    self._drop(layer)

    def _drop(self, layer: Layer) -> None:
        layer.store.layers -= 1
        if layer.store.layers:
            self._ask("unlayer", layer.name)
        else:
            self._ask("unstore", layer.store.name)

    # -- what a sandbox sees

    def tree(self, path: Path) -> Path:
        """Where the tree can be reached by everybody inside."""
        with self._lock:
            name = self._trees.get(str(path))
            if name is None:
                name = f"t{next(self._numbers)}"
                self._ask("tree", name, str(path))
                self._trees[str(path)] = name
        return Path(self.stage, name)

    def anchor(self) -> str:
        name = f"m{next(self._numbers)}"
        self._ask("anchor", name)
        return name

    def attach(self, anchor: str, lower: Stack, upper: Layer) -> None:
        self._ask("attach", anchor, [layer.name for layer in lower], upper.name)

    def detach(self, anchor: str) -> None:
        self._ask("detach", anchor)

    def freeze(self, anchor: str, lower: Stack, upper: Layer) -> Layer | None:
        """The layer that is written to from now on, in use; None: nothing has changed since `lower`."""
        new = self._named(upper.store)
        with self._lock:
            answer = self._ask("freeze", anchor, [layer.name for layer in lower], upper.name, new.name, new.store.uid)
            if not answer["frozen"]:
                return None
            new.store.layers += 1
            self.use((new,))
        return new


@dataclass(slots=True)
class WorkFolder:
    """The work folder of one inside: an anchor that is bound in it, a stack of frozen layers and one to write to."""

    keeper: Keeper
    store: Store
    lower: Stack
    upper: Layer
    anchor: str
    closed: bool = field(default=False)

    @property
    def path(self) -> Path:
        return Path(self.keeper.stage, self.anchor)

    def appear(self) -> None:
        """Mount it; it shows up inside, where the anchor was bound."""
        self.keeper.attach(self.anchor, self.lower, self.upper)

    def freeze(self) -> Stack:
        """The present state as layers, in use for the caller. Nothing may run inside meanwhile."""
        new = self.keeper.freeze(self.anchor, self.lower, self.upper)
        if new is not None:
            self.lower, self.upper = (self.upper, *self.lower), new
        return self.keeper.use(self.lower)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self.keeper.lives:
            self.keeper.detach(self.anchor)
        self.keeper.leave((self.upper, *self.lower))


def work_folder(
    keeper: Keeper, limits: Limits, uid: int, *, lower: Stack = (), store: Store | None = None
) -> WorkFolder:
    """A folder as in a stack of layers (empty without any), in a store of its own unless one is given."""
    if any(layer.store.keeper is not keeper for layer in lower):
        raise LayersUnavailable("The snapshot is lost: the process that held its layers was ended.")
    if store is None or not store.layers or store.keeper is not keeper:
        store = keeper.store(limits, uid)
    upper = keeper.layer(store, lower[0] if lower else None)
    keeper.use((upper, *lower))
    try:
        anchor = keeper.anchor()
    except LayersUnavailable:
        keeper.leave((upper, *lower))
        raise
    return WorkFolder(keeper, store, lower, upper, anchor)


# -- one keeper per process

_kept: list[tuple[int, Keeper | LayersUnavailable]] = []
_starting = threading.Lock()


def keeper_for(paths: Sequence[Path]) -> Keeper:
    """This process's keeper, started when it is first asked for.

    Raises LayersUnavailable, also when the folder that it mounts over hides one of `paths`.
    """
    with _starting:
        if not _kept or _kept[0][0] != os.getpid() or (isinstance(_kept[0][1], Keeper) and not _kept[0][1].lives):
            _kept[:] = [(os.getpid(), _start(paths))]
        keeper = _kept[0][1]
    if isinstance(keeper, LayersUnavailable):
        raise LayersUnavailable(str(keeper))
    hidden = [path for path in paths if path.is_relative_to(keeper.stage)]
    if hidden:
        raise LayersUnavailable(f"Layers are mounted over {keeper.stage}, which hides {hidden[0]}.")
    return keeper


def _start(paths: Sequence[Path]) -> Keeper | LayersUnavailable:
    for stage in STAGES:
        folder = Path(stage)
        if folder.is_dir() and not folder.is_symlink() and not any(path.is_relative_to(folder) for path in paths):
            try:
                keeper = Keeper(stage)
            except (LayersUnavailable, OSError) as problem:
                return LayersUnavailable(str(problem))
            atexit.register(_end, os.getpid(), keeper)
            return keeper
    return LayersUnavailable(f"None of {', '.join(STAGES)} is there to mount layers over.")


def _end(pid: int, keeper: Keeper) -> None:
    if pid == os.getpid():
        keeper.end()
