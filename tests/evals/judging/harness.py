"""The official harness's own `run_instance`, run on a folder in the place of a container.

Its modules come from the wheels that `scripts/swebench.sh` fetches. What needs Docker, Modal or a hub is replaced by
stand-ins; the order of the tries, the words, the files and the report are the release's own.
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from evals.grading.official import cached_wheel
from evals.grading.semantics import Semantics


class Anything(types.ModuleType):
    """A module that has every name, each of them harmless."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name)

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self


class Stopped(Exception):
    """The harness's EvaluationError."""

    def __init__(self, instance_id: str, message: str, logger: Any) -> None:
        super().__init__(message)


class Container:
    """A folder that answers as a container does. `id` is what the harness logs."""

    id = "folder"

    def __init__(self, folder: Path) -> None:
        self.work = folder / "testbed"
        # The evaluation script sets `git config --global`: into a file of ours, never through a link or a device.
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
            "LANG": "C.UTF-8",
        }
        self.places = {
            "/testbed": str(self.work),
            "/tmp/patch.diff": str(folder / "patch.diff"),
            "/eval.sh": str(folder / "eval.sh"),
        }

    def start(self) -> None:
        pass

    def inside(self, text: str) -> str:
        for theirs, ours in self.places.items():
            text = text.replace(theirs, ours)
        return text

    def exec_run(self, command: str | list[str], workdir: str = "/testbed", user: str = "") -> types.SimpleNamespace:
        argv = shlex.split(command) if isinstance(command, str) else command
        done = subprocess.run(
            [self.inside(one) for one in argv], cwd=self.inside(workdir), env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return types.SimpleNamespace(exit_code=done.returncode, output=done.stdout)


def _copy(container: Container, source: Path, target: Any) -> None:
    shutil.copyfile(source, container.inside(str(target)))


def _timed(container: Container, command: str, timeout: int) -> tuple[str, bool, float]:
    started = time.monotonic()
    argv = [container.inside(one) for one in shlex.split(command)]
    with subprocess.Popen(
        argv,
        cwd=container.work,
        env=container.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            output, timed_out = process.communicate(timeout=timeout)[0], False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, timed_out = process.communicate()[0], True
    return output.decode(), timed_out, time.monotonic() - started


@cache
def _modules(semantics: Semantics) -> tuple[types.ModuleType, types.ModuleType, types.ModuleType]:
    """`run_evaluation`, what it logs with, and `test_spec.python` (4.1 only) of the release."""
    with _stand_ins(semantics):
        runner = importlib.import_module("swebench.harness.run_evaluation")
        logger = (
            importlib.import_module("swebench.logger")
            if semantics is Semantics.V5
            else importlib.import_module("swebench.harness.docker_build")
        )
        return runner, logger, sys.modules["swebench.harness.grading"]


@contextmanager
def _stand_ins(semantics: Semantics) -> Iterator[None]:
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "swebench"}
    outside = {}
    home = cached_wheel(semantics)
    for name in ("swebench", "swebench.harness"):
        package = types.ModuleType(name)
        package.__path__ = [str(home.joinpath(*name.split(".")))]
        sys.modules[name] = package
    utils = Anything("swebench.harness.utils")
    vars(utils)["EvaluationError"] = Stopped
    vars(utils)["ansi_escape"] = lambda text: text
    tools = Anything("swebench.harness.docker_utils")
    vars(tools).update(copy_to_container=_copy, exec_run_with_timeout=_timed)
    spec = Anything("swebench.harness.test_spec.test_spec")
    vars(spec)["TestSpec"] = types.SimpleNamespace
    stands = [
        utils, tools, spec, Anything("swebench.harness.test_spec"), Anything("swebench.harness.modal_eval"),
        Anything("swebench.harness.reporting"), Anything("swebench.task"), Anything("swebench.task.repo"),
        Anything("swebench.image_builder"), Anything("swebench.image_builder.constants"),
        Anything("docker"), Anything("docker.errors"), Anything("tqdm"), Anything("tqdm.auto"), Anything("git"),
        Anything("unidiff"), Anything("requests"), Anything("dotenv"),
    ]  # fmt: skip
    types_of_5 = types.ModuleType("swebench.types")
    vars(types_of_5)["TestSpec"] = types.SimpleNamespace
    plain = types.ModuleType("swebench.utils")
    vars(plain)["ansi_escape"] = lambda text: text
    for module in [*stands, types_of_5, plain]:
        if module.__name__ in sys.modules:
            outside[module.__name__] = sys.modules[module.__name__]
        sys.modules[module.__name__] = module
    constants = sys.modules["swebench.image_builder.constants"]
    vars(constants).update(CONTAINER_USER="root", CONTAINER_WORKDIR="/testbed")
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "swebench"]:
            del sys.modules[name]
        for module in stands:
            sys.modules.pop(module.__name__, None)
        sys.modules.update(before | outside)


def run_official(
    semantics: Semantics, spec: Any, patch: str, folder: Path, repository: Path, commit: str, seconds: int
) -> Path:
    """Let the release judge the patch in a fresh clone; gives the folder with the files that it left."""
    folder.mkdir(parents=True)
    container = Container(folder)
    for line in (
        ["clone", "-q", str(repository), str(container.work)],
        ["-C", str(container.work), "checkout", "-q", "-B", "main", commit],
    ):
        subprocess.run(["git", *line], env=container.env, check=True, capture_output=True)
    runner, _, _ = _modules(semantics)
    prediction = {"instance_id": spec.instance_id, "model_name_or_path": "m", "model_patch": patch}
    names = {"RUN_EVALUATION_LOG_DIR": folder / "logs", "cleanup_container": lambda *_: None}
    names["build_container" if semantics is Semantics.V4 else "create_container"] = lambda *_: container
    with _changed(runner, names):
        if semantics is Semantics.V4:
            runner.run_instance(spec, prediction, False, False, None, "run", seconds)
        else:
            runner.run_instance(spec, prediction, None, "run", seconds)
    return folder / "logs" / "run" / "m" / spec.instance_id


@contextmanager
def _changed(module: types.ModuleType, names: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(module, name) for name in names}
    vars(module).update(names)
    try:
        yield
    finally:
        vars(module).update(before)
