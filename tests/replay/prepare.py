"""From a source distribution to a repository in the very state that a recorded trajectory began with.

    replay = FLASK_5014
    checkout(replay, tmp_path / "flask")            # a git repository with one commit, clean
    image = await image_for(replay, tmp_path / "flask")   # a Docker tag; seconds the second time

The distribution comes through pip (nothing else is fetched) and is kept in the cache with its digest checked.
`image_for` goes through the product's own `resolve_image`: the checkout carries a `.patchwright.toml` and a
Dockerfile, committed, that install the pinned packages. Left out: turning a trajectory into a script, and runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sandbox.images import ImageConfig, resolve_image
from sandbox.images.cache import cache_dir, locked
from sandbox.images.progress import silent

WORKDIR = "/workspace"
TESTBED = "/testbed"  # what recorded commands call the repository; a link to WORKDIR in the images made here
CONFIG_FOLDER = ".patchwright"
_IDENTITY = {
    "GIT_AUTHOR_NAME": "Base",
    "GIT_AUTHOR_EMAIL": "base@example.invalid",
    "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "Base",
    "GIT_COMMITTER_EMAIL": "base@example.invalid",
    "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


class SourceUnavailable(Exception):
    """The distribution can't be had here: no package index, or another file than the one that was checked."""


@dataclass(frozen=True, slots=True)
class Replay:
    """One instance with its real source and environment."""

    instance_id: str
    distribution: str  # name on the package index
    version: str
    sha256: str  # of the source distribution
    requirements: tuple[str, ...]  # the whole environment, pinned; pip installs it without dependencies
    import_folder: str  # what goes on Python's path, relative to the repository
    test_command: str  # run at the root of the repository; prints one line per test
    touched: dict[str, str]  # file that the trajectory edits -> git blob id that it began with
    to_base: Callable[[Path], None] = lambda tree: None  # turns the distribution's files into the base commit's
    recorded_paths: dict[str, str] = field(default_factory=dict)  # path in the recording -> path in our sandbox


class Released(Protocol):
    """What names a source distribution: a `Replay`, or code that stands for an instance of an evaluation."""

    @property
    def distribution(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def source(of: Released) -> Path:
    """The source distribution's archive, downloaded once with pip. Raises SourceUnavailable."""
    folder = cache_dir() / "test-sources"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{of.distribution}-{of.version}.tar.gz"
    with locked(folder, name, silent):
        if not (folder / name).is_file():
            _download(of, folder / name)
    found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    if found != of.sha256:
        raise SourceUnavailable(f"{folder / name} isn't the file that was checked (sha256 {found}); remove it")
    return folder / name


def _download(of: Released, target: Path) -> None:
    scratch = target.with_name(f".{target.name}.download")
    shutil.rmtree(scratch, ignore_errors=True)
    wanted = f"{of.distribution}=={of.version}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", wanted]
    done = subprocess.run([*command, "-d", str(scratch)], capture_output=True, text=True, check=False)
    files = list(scratch.glob("*.tar.gz")) if scratch.is_dir() else []
    if done.returncode or len(files) != 1:
        raise SourceUnavailable(f"pip can't download {wanted}: {done.stderr.strip()[-800:]}")
    files[0].rename(target)
    shutil.rmtree(scratch)


def checkout(replay: Replay, folder: Path) -> Path:
    """Make `folder` (new) a git repository whose only commit is the base that the trajectory began with.

    Raises SourceUnavailable, also when a touched file isn't what the recording began with. The commit's id is the
    same every time. Returns the folder.
    """
    unpack(replay, folder)
    replay.to_base(folder)
    _add_configuration(replay, folder)
    commit(folder, f"{replay.distribution} before the fix")
    for path, wanted in replay.touched.items():
        found = git(folder, "rev-parse", f"HEAD:{path}").strip()
        if found != wanted:
            raise SourceUnavailable(f"{path} is blob {found}, but the recording began with {wanted}")
    return folder


def unpack(of: Released, folder: Path) -> None:
    """The distribution's files in `folder` (made if need be), without what was built for the package index."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(source(of)) as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        for member in members:
            member.name = member.name.partition("/")[2]
        tar.extractall(folder, [member for member in members if member.name], filter="data")
    for built in folder.rglob("*.egg-info"):
        shutil.rmtree(built)


def commit(folder: Path, message: str) -> None:
    """Put all files of a folder into a new repository's only commit, which has the same id every time."""
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


async def image_for(replay: Replay, repository: Path) -> str:
    """The Docker image with the instance's environment, built when it isn't there (under a minute)."""
    config = ImageConfig(dockerfile=f"{CONFIG_FOLDER}/Dockerfile")
    return await resolve_image("docker", config=config, context=repository)


def rewrite(replay: Replay, recorded: str) -> str:
    """Recorded text (a command, a path, a file's text) with the recording's paths replaced by the sandbox's."""
    for path in sorted(replay.recorded_paths, key=len, reverse=True):
        recorded = recorded.replace(path, replay.recorded_paths[path])
    return recorded


def git(folder: Path, *arguments: str) -> str:
    """Run git with a neutral identity and without the machine's configuration; its output."""
    env = {**os.environ, **_IDENTITY}
    return subprocess.run(["git", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=True).stdout


def _add_configuration(replay: Replay, folder: Path) -> None:
    """What a repository's owner would add to use the product, and what a source distribution lacks."""
    own = folder / CONFIG_FOLDER
    own.mkdir()
    (own / "requirements.txt").write_text("".join(f"{line}\n" for line in replay.requirements))
    path_file = "/usr/local/lib/python3.11/dist-packages/repository.pth"
    (own / "Dockerfile").write_text(
        "FROM patchwright/base\n"
        f"COPY {CONFIG_FOLDER}/requirements.txt /opt/requirements.txt\n"
        "RUN python3 -m pip install -q --no-cache-dir --no-deps -r /opt/requirements.txt\n"
        f"RUN echo {WORKDIR}/{replay.import_folder} > {path_file} && ln -s {WORKDIR} {TESTBED}\n"
    )
    (folder / ".dockerignore").write_text(f"*\n!{CONFIG_FOLDER}\n")
    (folder / ".patchwright.toml").write_text(
        f'[sandbox]\ndockerfile = "{CONFIG_FOLDER}/Dockerfile"\n\n[test]\ncommand = "{replay.test_command}"\n'
    )
    (folder / ".gitignore").write_text("__pycache__/\n*.py[cod]\n.pytest_cache/\n*.egg-info/\n")


def _flask_to_base(tree: Path) -> None:
    """Flask 2.3.0 is the first release after the base commit; two of its changes are taken back."""
    module = tree / "src/flask/blueprints.py"
    text = module.read_text()
    text = text.replace("        if not name:\n            raise ValueError(\"'name' may not be empty.\")\n\n", "")
    text = text.replace("from __future__ import annotations\n\n", "", 1)
    text = text.replace("str | os.PathLike | None", "t.Optional[t.Union[str, os.PathLike]]")
    text = text.replace("type[Exception] | int", "t.Union[t.Type[Exception], int]")
    text = re.sub(r": ([\w.]+) \| None", r": t.Optional[\1]", text)
    text = text.replace("list[tuple[Blueprint, dict]]", 't.List[t.Tuple["Blueprint", dict]]')
    text = text.replace("list[DeferredSetupFunction]", "t.List[DeferredSetupFunction]")
    module.write_text(re.sub(r"(app|blueprint): (Flask|Blueprint)\b", r'\1: "\2"', text))
    tests = tree / "tests/test_blueprints.py"
    head, _, rest = tests.read_text().partition("def test_empty_name_not_allowed(")
    tests.write_text(head + rest[rest.index("\n\n\n") + 3 :])


FLASK_5014 = Replay(
    instance_id="pallets__flask-5014",
    distribution="Flask",
    version="2.3.0",
    sha256="4088b4986f13cae23e02081e67df7e4e434ec6f85a5238bce5e6db6d1de61e06",
    requirements=(
        "asgiref==3.13.0",
        "blinker==1.9.0",
        "click==8.1.3",
        "iniconfig==2.3.1",
        "itsdangerous==2.1.2",
        "Jinja2==3.1.2",
        "MarkupSafe==2.1.1",
        "packaging==26.3",
        "pluggy==1.7.0",
        "pytest==7.3.1",
        "python-dotenv==1.2.4",
        "Werkzeug==2.3.7",
    ),
    import_folder="src",
    test_command="pytest -rA tests/test_blueprints.py",
    touched={"src/flask/blueprints.py": "eb50585d2274b124289c3ce84196a9e847373c7c"},
    to_base=_flask_to_base,
    recorded_paths={TESTBED: WORKDIR},
)

# The first alpha of 2.2 still has the defect, so nothing is taken back: the whole tree is as it was released.
DJANGO_10880 = Replay(
    instance_id="django__django-10880",
    distribution="Django",
    version="2.2a1",
    sha256="146aa583364553c9ecbed55613a6c27bc23226048f86ed183350c80df3f2a844",
    requirements=("pytz==2026.6", "sqlparse==0.6.1"),
    import_folder="",
    test_command="python tests/runtests.py --verbosity 2 --parallel 1 aggregation",
    touched={"django/db/models/aggregates.py": "ac0b62d0bf854e0294b80a660018d4c2c580a2a6"},
    recorded_paths={
        "/workspace/django__django__3.0": WORKDIR,
        "/workspace/reproduce_issue.py": "/tmp/reproduce_issue.py",
    },
)
REPLAYS = (FLASK_5014, DJANGO_10880)
