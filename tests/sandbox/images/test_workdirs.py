"""A repository says where its checkout lies: never a way to write outside of the image that is made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import parse_config
from agent.ends import InputProblem
from sandbox.base import ImageProblem
from sandbox.images import ImageConfig, environment_for
from sandbox.images.detect import Setup, Step, Tree
from sandbox.images.setup_tree import setup_tree
from sandbox.policy import SandboxSpec
from tests.sandbox.kinds import need

UP = "/.." * 40


@pytest.mark.parametrize(
    "workdir", [f"{UP}/tmp/x", "/a/../../b", "/etc", "/usr/share", "/x/.", "//x", "/proc/self/cwd"]
)
def test_where_no_work_folder_may_be(workdir: str) -> None:
    with pytest.raises(InputProblem, match="workdir"):
        parse_config(f'[sandbox]\nworkdir = "{workdir}"\n')
    with pytest.raises(ValueError, match="workdir"):
        SandboxSpec(workdir=workdir)


async def test_an_environment_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """The repository's files were copied there by us, on this machine and as the user."""
    source, victim = tmp_path / "source", tmp_path / "victim"
    for folder, text in ((source, "theirs"), (victim, "mine")):
        folder.mkdir()
        (folder / "authorized_keys").write_text(text)
    config = ImageConfig(setup="true")
    with pytest.raises(ImageProblem, match=r"plain absolute path.*\nTry: "):
        await environment_for("bubblewrap", context=source, config=config, workdir=f"{UP}{victim}")
    assert [path.read_text() for path in victim.iterdir()] == ["mine"]


@pytest.mark.bubblewrap
def test_a_way_out_is_refused_by_the_one_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("bubblewrap")
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    source, base, victim = (tmp_path / name for name in ("source", "base", "victim"))
    for folder in (source, base / "usr/bin", victim):
        folder.mkdir(parents=True)
    (source / "file").write_text("theirs")
    setup = Setup(steps=(Step("nothing", "true"),), inputs=("file",))
    with pytest.raises(ImageProblem, match="leads out of the image"):
        setup_tree(base, setup, Tree(source), f"{UP}{victim}", report=lambda _: None)
    assert list(victim.iterdir()) == []
