"""Images over the disk budget: who goes, who stays, what is counted; with real folders, a real engine, real races."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox.images import recipe
from sandbox.images.budget import NOTHING, Budget, BudgetProblem, Outcome, budget_for, enforce
from sandbox.images.cache import images_dir
from sandbox.images.engine import LABEL
from sandbox.images.inventory import Store, stores
from sandbox.images.use import hold, last_use
from tests.sandbox.kinds import need

MB = 1_000_000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base with a tree, and three environments over it by hard links: a the oldest, c the newest."""
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        monkeypatch.setenv(name, "unix:///nonexistent")
    make_base("0123456789ab", age=4000)
    for letter, age in (("a", 3000), ("b", 2000), ("c", 1000)):
        make_environment(letter, "base-0123456789ab", age)
    return tmp_path / "cache"


def make_base(digest: str, age: float) -> None:
    folder = images_dir()
    (folder / f"base-{digest}" / "usr/bin").mkdir(parents=True)
    (folder / f"base-{digest}" / "usr/bin/shared").write_bytes(b"x" * 4 * MB)
    (folder / f"base-{digest}.tar").write_bytes(b"t" * MB)
    note = {"digest": digest, "suite": "bookworm", "packages": ["x"], "architecture": "x86_64"}
    (folder / f"base-{digest}.json").write_text(json.dumps(note))
    made = time.time() - age
    os.utime(folder / f"base-{digest}.tar", (made, made))


def make_environment(letter: str, base: str, age: float) -> None:
    folder = images_dir() / f"environment-{letter * 12}"
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin/shared").hardlink_to(images_dir() / base / "usr/bin/shared")
    (folder / "own").write_bytes(letter.encode() * 2 * MB)
    folder.with_suffix(".json").write_text(json.dumps({"base": base, "steps": [], "test": ""}))
    made = time.time() - age
    os.utime(folder, (made, made))


def names() -> str:
    """Letters of the environments that are there, `0` for the base."""
    return "".join(sorted(path.name[-1] if path.name.startswith("e") else "0" for path in trees()))


def trees() -> list[Path]:
    return [path for path in images_dir().iterdir() if path.is_dir() and not path.name.startswith(".")]


def bound(size: float, **options: object) -> Outcome:
    (outcome,) = enforce(Budget(size=int(size)), **{"recent": 0.0, **options})  # type: ignore[arg-type]
    return outcome


def test_shared_files_count_once_and_the_oldest_go_first(cache: Path) -> None:
    before = bound(1000 * MB)
    assert 11 * MB < before.before < 11.3 * MB and not before.evicted
    done = bound(10 * MB)
    assert names() == "0bc" and done.after == bound(1000 * MB).before
    (gone,) = done.evicted
    assert gone.name == "environment-aaaaaaaaaaaa" and 2 * MB <= gone.bytes < 2.1 * MB
    assert not (images_dir() / "environment-aaaaaaaaaaaa.json").exists()
    assert not list(images_dir().glob(".unfinished-*"))


def test_a_base_goes_only_after_all_that_was_made_from_it(cache: Path) -> None:
    bound(8 * MB)
    assert names() == "0c"
    bound(0)
    assert names() == "" and not list(images_dir().glob("base-*"))


def test_the_base_of_this_machines_recipe_stays(cache: Path) -> None:
    make_base(recipe().digest, age=9000)
    bound(0)
    assert [path.name for path in trees()] == [f"base-{recipe().digest}"]


def test_a_use_makes_young_and_a_sandbox_protects(cache: Path) -> None:
    hold("bubblewrap", str(images_dir() / "environment-aaaaaaaaaaaa")).release()
    bound(8 * MB)
    assert names() == "0a"
    use = hold("bubblewrap", str(images_dir() / "environment-aaaaaaaaaaaa"))
    bound(0)
    assert names() == "0a", "in use, and its base with it"
    use.release()
    bound(0, recent=600.0)
    assert names() == "0a", "chosen a moment ago"
    bound(0)
    assert names() == ""


def test_a_build_protects_its_base(cache: Path) -> None:
    for letter in "abc":
        (images_dir() / f"environment-{letter * 12}.json").write_text("{}")
    program = (
        "import sys, time\nfrom sandbox.images.cache import images_dir, locked\n"
        "with locked(images_dir(), 'environment-dddddddddddd', lambda _: None):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=-1, text=True) as build:
        assert build.stdout is not None and build.stdout.readline() == "held\n"
        bound(0)
        build.kill()
    assert names() == "0"
    bound(0)
    assert names() == ""


def test_a_dry_run_changes_nothing_and_says_what_would_go(cache: Path) -> None:
    done = bound(8 * MB, dry_run=True)
    assert [one.name[-1] for one in done.evicted] == ["a", "b"] and done.after < 8 * MB
    assert names() == "0abc"


EVICTOR = (
    "from sandbox.images.budget import NOTHING, enforce\nprint(sum(len(o.evicted) for o in enforce(NOTHING, recent=0)))"
)
OPENER = """
import sys, time
from pathlib import Path
from sandbox.images.cache import images_dir
from sandbox.images.use import hold
seen = 0
end = time.monotonic() + 4
while time.monotonic() < end:
    for letter in "abc":
        tree = images_dir() / f"environment-{letter * 12}"
        use = hold("bubblewrap", str(tree))
        if tree.is_dir():
            for _ in range(20):
                assert (tree / "usr/bin/shared").stat().st_size == 4_000_000, "half a tree"
                assert (tree / "own").stat().st_size == 2_000_000, "half a tree"
            seen += 1
        use.release()
print(seen)
"""


@pytest.mark.heavy
def test_openers_never_see_half_a_tree_and_each_image_goes_once(cache: Path) -> None:
    def start(program: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", program], stdout=-1, stderr=-1, text=True)

    openers = [start(OPENER) for _ in range(2)]
    time.sleep(1.0)
    evicted = 0
    while any(opener.poll() is None for opener in openers):
        for process in [start(EVICTOR) for _ in range(3)]:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            evicted += int(out)
    for opener in openers:
        out, err = opener.communicate()
        assert opener.returncode == 0, err
        assert int(out) > 0
    evicted += len(bound(0).evicted)
    assert evicted == 4 and names() == ""


def test_what_goes_while_the_cache_is_looked_at_is_no_error(cache: Path) -> None:
    """Each run that has made a new image looks at all of them; several did so, and failed after their build."""
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for number in range(5):
                for name, text in ((f"environment-{number:012d}/file", "x"), (f"environment-{number:012d}.json", "{}")):
                    path = images_dir() / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(text)
                base = images_dir() / f"base-{number:012d}.json"
                base.with_suffix(".tar").touch()
                (whole := images_dir() / ".note").write_text('{"digest": "x", "suite": "x", "packages": []}')
                whole.rename(base)
            for path in [*images_dir().glob("environment-0*"), *images_dir().glob("base-0*")]:
                path.rename(gone := images_dir() / ".gone")
                shutil.rmtree(gone) if gone.is_dir() else gone.unlink()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(300):
            stores()
    finally:
        ended.set()
        other.join()


def test_many_record_a_use_at_once(cache: Path) -> None:
    program = "from sandbox.images.use import touch\nfor _ in range(200): touch('docker', 'x:1')"
    before = time.time() - 1
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait(60) for process in both] == [0, 0, 0]
    assert last_use("docker", "x:1") >= before
    assert last_use("docker", "x") == 0.0 == last_use("podman", "x:1")


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("40G", Budget(size=40 << 30)),
        ("1.5 MiB", Budget(size=3 << 19)),
        ("500m", Budget(size=500 << 20)),
        ("0", Budget(size=0)),
        ("20%", Budget(share=0.2)),
        ("none", Budget()),
    ],
)
def test_sizes(text: str, budget: Budget) -> None:
    assert budget_for(text, {}) == budget == budget_for(None, {"PATCHWRIGHT_DISK_BUDGET": text})


def test_where_the_budget_comes_from(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert budget_for(None, env) == Budget(share=0.25)
    (tmp_path / "patchwright").mkdir()
    (tmp_path / "patchwright/config.toml").write_text('[sandbox]\ndisk_budget = "7G"\n')
    assert budget_for(None, env) == Budget(size=7 << 30)
    assert budget_for(None, {**env, "PATCHWRIGHT_DISK_BUDGET": "8G"}) == Budget(size=8 << 30)
    assert budget_for("9G", {**env, "PATCHWRIGHT_DISK_BUDGET": "8G"}) == Budget(size=9 << 30)
    (tmp_path / "patchwright/config.toml").write_text("[sandbox\n")
    for said, where in ((None, env), ("much", {})):
        with pytest.raises(BudgetProblem, match="Try: "):
            budget_for(said, where)


def test_the_command(cache: Path) -> None:
    from cli.main import cli

    would = CliRunner().invoke(cli, ["sandbox", "prune", "--budget", "10M", "--dry-run", "--json"])
    said = json.loads(would.stdout)
    assert said["dry_run"] and "environment-aaaaaaaaaaaa" in [one["name"] for one in said["removed"]]
    assert names() == "0abc"
    done = CliRunner().invoke(cli, ["sandbox", "prune", "--budget", "10M"])
    assert (done.exit_code, "image environment-aaaaaaaaaaaa (cache): removed, 2" in done.output) == (0, True), (
        done.output
    )
    assert names() == "0bc"
    wrong = CliRunner().invoke(cli, ["sandbox", "prune", "--budget", "much"])
    assert (wrong.exit_code, "no size of a disk budget" in wrong.stderr) == (1, True)


# -- an engine


@pytest.fixture
def tag() -> Iterator[str]:
    need("docker")
    from sandbox.images.engine import connect

    name = f"patchwright/budget-{uuid.uuid4().hex[:8]}"
    yield name
    client = connect()
    for image in client.images.list(name):
        for one in image.tags:
            client.images.remove(one, force=True)
    client.close()


def layer(client: object, tag: str, kind: str, source: str, size: int) -> None:
    """An image with a file of its own on top of another."""
    text = f"FROM {source}\nCOPY file /{uuid.uuid4().hex}\nLABEL {LABEL}={kind}\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("Dockerfile", text.encode()), ("file", os.urandom(size))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    client.images.build(fileobj=buffer, custom_context=True, tag=tag, rm=True)  # type: ignore[attr-defined]


@pytest.mark.heavy
@pytest.mark.docker
def test_an_engines_images(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sandbox.images.engine import connect

    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    client = connect()
    layer(client, f"{tag}:base", "base", "scratch", 3 * MB)
    for name in ("a", "b", "c"):
        layer(client, f"{tag}:{name}", "environment", f"{tag}:base", MB)
    hold("docker", f"{tag}:a").release()

    def ours() -> list[Store]:
        """Never the other images of an engine that others use."""
        (store,) = (store for store in stores() if store.name == "docker")
        return [Store("docker", [one for one in store.images if one.name.startswith(tag)], None)]

    def left() -> str:
        return "".join(sorted(one.name.rpartition(":")[2] + " " for one in ours()[0].images))

    (look,) = enforce(Budget(), look=ours)
    assert 6 * MB <= look.before < 6.1 * MB, "the base's layer counts once"
    container = client.containers.create(f"{tag}:b", ["x"], network_mode="none")
    try:
        (done,) = enforce(Budget(size=int(5.5 * MB)), recent=0.0, look=ours)
        assert left() == "a b base ", "b is older, and a container uses it"
        assert [one.bytes // MB for one in done.evicted] == [1]
        use = hold("docker", f"{tag}:a")
        (done,) = enforce(NOTHING, recent=0.0, look=ours)
        assert left() == "a b base " and not done.evicted
        use.release()
        enforce(NOTHING, recent=0.0, look=ours)
        assert left() == "b base "
    finally:
        container.remove(force=True)
    (done,) = enforce(NOTHING, recent=0.0, look=ours)
    assert left() == "" and done.after == 0
    client.close()
