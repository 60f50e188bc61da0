"""Control groups beside those of other processes: what those take away meanwhile costs no sandbox its limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import cgroups
from sandbox.policy import Limits

ROOT = Path(__file__).resolve().parents[2]
UNNAMED = """import sys
from pathlib import Path
from sandbox.cgroups import Group
Group((Path(sys.argv[1]),)).remove(0.1)
print("alive")
"""


@pytest.mark.parametrize("version", [1, 2])
def test_the_folder_above_goes_with_another_processs_last_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """It was taken for a machine without control groups, and the sandbox ran without the kernel's bounds, unsaid."""
    for hierarchy in (tmp_path,) if version == 2 else [tmp_path / name for name in ("memory", "pids", "cpu")]:
        hierarchy.mkdir(exist_ok=True)
        (hierarchy / "cgroup.procs").touch()
    if version == 2:
        (tmp_path / "cgroup.controllers").touch()
    make, taken = Path.mkdir, set[Path]()

    def mkdir(self: Path, *args: object, **kwargs: object) -> None:
        make(self, *args, **kwargs)  # type: ignore[arg-type]
        if self.name == cgroups.PARENT and self not in taken:
            taken.add(self)
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    group = cgroups.make_group(Limits(processes=7), root=tmp_path)
    assert group is not None and len(taken) == len(group.folders)
    assert "7" in [(folder / "pids.max").read_text() for folder in group.folders if (folder / "pids.max").exists()]


def test_a_process_that_cant_be_named_from_here_is_not_ourselves(tmp_path: Path) -> None:
    """The kernel writes 0 for one of another pid namespace, and a signal to 0 goes to the sender's whole group."""
    (tmp_path / "cgroup.procs").write_text("0\n")
    command = [sys.executable, "-c", UNNAMED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, start_new_session=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
