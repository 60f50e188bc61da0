"""What killed processes left: found by name, said with its bytes, removed once; what isn't ours or lives stays."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox import leftovers
from sandbox.images.cache import images_dir, locked, unfinished
from sandbox.leftovers import Leftover, Sweeper, find, sweep
from sandbox.owner import owner
from sandbox.scratch import scratch_folder
from tests.sandbox.kinds import need

GONE = "999999999-1-" + owner().rpartition("-")[2]
HALF = """
import sys, time
from sandbox.images.cache import images_dir, locked, unfinished
with locked(images_dir(), "x", lambda _: None), unfinished(images_dir(), "x") as scratch:
    (scratch / "half").write_bytes(b"x" * 100_000)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files and a cache of the test's own, and no engine."""
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        monkeypatch.setenv(name, "unix:///nonexistent")
    return tmp_path


def folders_found() -> set[str]:
    return {Path(one.name).name for one in find() if one.what in ("folders", "unfinished images")}


def swept(*, dry_run: bool = False) -> list[Leftover]:
    """What went from the test's own place: control groups are the machine's, where other tests kill runs meanwhile."""
    return [one for one in sweep(dry_run=dry_run) if one.what in ("folders", "unfinished images")]


def half_made() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HALF], stdout=-1, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_only_what_is_ours_and_without_an_owner_goes(place: Path) -> None:
    dead = place / f"patchwright-work-{GONE}-abc"
    (dead / "sub").mkdir(parents=True)
    (dead / "sub/file").write_bytes(b"x" * 200_000)
    (dead / "sub/again").hardlink_to(dead / "sub/file")
    mine = scratch_folder("work")
    others = [place / "patchwright-llama-server", place / "patchwright-places-0", images_dir() / ".whole-abc"]
    for path in others:
        path.mkdir()
    assert folders_found() == {dead.name}
    assert swept(dry_run=True)[0].name == str(dead) and dead.exists()
    (gone,) = swept()
    assert 200_000 <= gone.bytes < 300_000, "a file with two names counts once"
    assert not dead.exists() and mine.exists() and all(path.exists() for path in others)


def test_a_half_made_image_goes_once_its_builder_is_dead(place: Path) -> None:
    with half_made() as build:
        assert folders_found() == set()
        build.kill()
    (found,) = folders_found()
    assert found.startswith(".unfinished-x-")
    with locked(images_dir(), "x", lambda _: None):  # somebody builds the same thing by now
        assert swept() == []
    assert [one.what for one in swept()] == ["unfinished images"]
    assert not list(images_dir().glob(".unfinished-*"))


def test_a_new_build_is_not_taken_for_a_leftover(place: Path) -> None:
    with locked(images_dir(), "x", lambda _: None), unfinished(images_dir(), "x") as scratch:
        assert swept() == [] and scratch.exists()


def test_several_sweeps_at_once_remove_each_thing_once(place: Path) -> None:
    for number in range(40):
        (place / f"patchwright-work-{GONE}-{number}" / "a/b").mkdir(parents=True)
    program = "from sandbox.leftovers import sweep; print(len(sweep()))"
    sweeps = [subprocess.Popen([sys.executable, "-c", program], stdout=-1, text=True) for _ in range(3)]
    assert [(process.communicate(timeout=60), process.returncode)[1] for process in sweeps] == [0, 0, 0]
    assert not list(place.glob("patchwright-work-*"))


def test_a_run_does_not_wait_for_the_sweep(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr(leftovers, "sweep", lambda: held.wait(20))
    sweeper = Sweeper()
    assert not sweeper.wait(0.05)
    held.set()
    assert sweeper.wait(10)


def test_the_command_says_what_went(place: Path) -> None:
    from cli.main import cli

    dead = place / f"patchwright-clone-{GONE}-abc"
    dead.mkdir()
    (dead / "file").write_bytes(b"x" * 3_000_000)
    would = CliRunner().invoke(cli, ["sandbox", "prune", "--dry-run"])
    assert "folders: 1 would go, 3 MiB" in would.output and str(dead) in would.output and dead.exists()
    done = json.loads(CliRunner().invoke(cli, ["sandbox", "prune", "--json"]).stdout)
    (removed,) = (one for one in done["removed"] if one["what"] == "folders")
    assert removed["name"] == str(dead) and 3_000_000 <= removed["bytes"] == done["bytes"] < 3_100_000
    assert not dead.exists() and not done["dry_run"]
    assert "nothing was left behind" in CliRunner().invoke(cli, ["sandbox", "prune"]).output


@pytest.mark.docker
def test_volumes_of_dead_owners() -> None:
    need("docker")
    from sandbox import docker_engine

    client = docker_engine.connect()
    dead = client.volumes.create(labels={docker_engine.OWNER_LABEL: GONE})
    mine = client.volumes.create(labels={docker_engine.OWNER_LABEL: owner()})
    others = client.volumes.create()
    try:
        sweep()
        left = {volume.name for volume in client.volumes.list()}
        assert dead.name not in left and {mine.name, others.name} <= left
    finally:
        for volume in (mine, others):
            volume.remove(force=True)
        client.close()
