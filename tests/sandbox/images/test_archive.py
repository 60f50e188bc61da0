"""Images in one file: what was saved on one machine is built on and run on another that reaches no registry at all."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox.base import ImageProblem
from sandbox.images import ImageConfig, base_tar, base_tree, environment_for, run_tests
from sandbox.images.archive import load, save
from sandbox.images.cache import images_dir
from sandbox.policy import BASE_IMAGE
from tests.sandbox.kinds import need

CLOSED = "http://127.0.0.1:9"
# In the build: no interface but the loopback one, and no registry behind the settings.
BLOCKED = """
test "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ')" = lo
refuse() { if "$@" 2> /dev/null; then echo "worked: $*"; exit 9; fi; }
refuse python3 -m pip --isolated --retries 0 download --no-deps six
refuse git ls-remote https://example.org/x
mkdir -p /opt/tool
cp tool.py /opt/tool/
"""


@pytest.fixture
def other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """From its call on: an empty cache, no mirror, no index, no network in builds. Gives the cache's folder."""

    def switch() -> Path:
        nothing = tmp_path / "apt.conf"
        nothing.write_text('Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "/dev/null";\n')
        monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "other-machine"))
        monkeypatch.setenv("PATCHWRIGHT_BUILD_NETWORK", "none")
        monkeypatch.setenv("APT_CONFIG", str(nothing))
        for name in ("PIP_INDEX_URL", "npm_config_registry", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, CLOSED)
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        return tmp_path / "other-machine"

    return switch


def repository(folder: Path) -> Path:
    """One whose environment has a command of its own, and one test that needs what it installed."""
    (folder / "tests").mkdir(parents=True)
    (folder / "tool.py").write_text(f"WHERE = {str(folder)!r}\n")
    test = "import sys\nsys.path.insert(0, '/opt/tool')\nimport tool\n\n\ndef test():\n    assert tool.WHERE\n"
    (folder / "tests/test_tool.py").write_text(test)
    return folder


@pytest.mark.heavy
@pytest.mark.bubblewrap
@pytest.mark.slow
def test_building_and_running_needs_no_registry_in_bubblewrap(
    tmp_path: Path, other_machine: Callable[[], Path]
) -> None:
    need("bubblewrap")
    file = tmp_path / "images.tar"
    name = base_tree().name
    assert save(file, [name]).trees == (name,)
    cache = other_machine()
    context = repository(tmp_path / "repository")
    with pytest.raises(ImageProblem):  # without the saved base there is nothing to build from
        asyncio.run(environment_for("bubblewrap", context=context))
    assert load(file).trees == (name,)
    assert base_tree() == cache / "images" / name
    made = asyncio.run(environment_for("bubblewrap", context=context, config=ImageConfig(setup=BLOCKED)))
    made = replace(made, detection=replace(made.detection, test="python -m pytest -q"))
    result = asyncio.run(run_tests("bubblewrap", made, context))
    assert result.exit_code == 0 and b"1 passed" in result.output, result.output.decode()


@pytest.mark.heavy
@pytest.mark.docker
@pytest.mark.slow
def test_building_and_running_needs_no_registry_in_docker(tmp_path: Path, other_machine: Callable[[], Path]) -> None:
    need("docker")
    from sandbox.images.engine import connect

    client = connect()
    file = tmp_path / "images.tar"
    own = f"patchwright-tests/base:{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    tags = [own]
    try:
        base = client.images.get(BASE_IMAGE)
        # an image that only the file has, once its tag is gone
        created = client.containers.create(base.id, ["true"])
        saved_id = created.commit(*own.split(":")).id
        created.remove()
        assert save(file, [own]).docker == (own,)
        client.images.remove(own)
        other_machine()
        assert load(file).docker == (own,)
        assert client.images.get(own).id == saved_id
        context = repository(tmp_path / "repository")
        (context / "Dockerfile").write_text(f"FROM {own}\nCOPY tool.py .\nRUN {json.dumps(['sh', '-ec', BLOCKED])}\n")
        made = asyncio.run(environment_for("docker", context=context, config=ImageConfig(dockerfile="Dockerfile")))
        tags.append(made.image)
        made = replace(made, detection=replace(made.detection, test="python -m pytest -q"))
        result = asyncio.run(run_tests("docker", made, context))
        assert result.exit_code == 0 and b"1 passed" in result.output, result.output.decode()
    finally:
        for tag in reversed(tags):
            client.images.remove(tag, force=True)
        client.close()


@pytest.fixture
def small_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two small root folders that share a file, as an environment and its base do."""
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    monkeypatch.setenv("CONTAINER_HOST", "unix:///nonexistent")
    for name in ("environment-aaaaaaaaaaaa", "environment-bbbbbbbbbbbb"):
        (images_dir() / name / "usr/bin").mkdir(parents=True)
        (images_dir() / f"{name}.json").write_text("{}")
    first, second = (images_dir() / f"environment-{letter * 12}" for letter in "ab")
    (first / "big").write_bytes(b"x" * 3_000_000)
    (second / "big").hardlink_to(first / "big")
    (first / "link").symlink_to("/etc/passwd")
    (first / "usr/bin/tool").write_text("#!/bin/sh\n")
    (first / "usr/bin/tool").chmod(0o755)
    return tmp_path


def test_folders_come_back_as_they_were_and_share_what_they_shared(
    small_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_cache / "images.tar"
    archived = save(file)
    assert archived.trees == ("environment-aaaaaaaaaaaa", "environment-bbbbbbbbbbbb")
    assert file.stat().st_size < 5_000_000
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(small_cache / "other"))
    assert load(file) == archived == load(file)  # a second time it replaces
    first, second = (images_dir() / name for name in archived.trees)
    assert (first / "big").samefile(second / "big") and (first / "big").stat().st_size == 3_000_000
    assert (first / "link").readlink() == Path("/etc/passwd") and (first / "usr/bin/tool").stat().st_mode & 0o111
    assert not [path for path in images_dir().iterdir() if "unfinished" in path.name or "replaced" in path.name]


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_a_damaged_file_changes_nothing(small_cache: Path, monkeypatch: pytest.MonkeyPatch, where: float) -> None:
    file = small_cache / "images.tar"
    save(file)
    data = bytearray(file.read_bytes())
    data[int(len(data) * where)] ^= 1
    file.write_bytes(data)
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(small_cache / "other"))
    with pytest.raises(ImageProblem, match=r"checksum|can't be read|doesn't know"):
        load(file)
    assert not list(images_dir().glob("environment-*"))


def test_a_cut_off_file_is_refused(small_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = small_cache / "images.tar"
    save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(small_cache / "other"))
    with pytest.raises(ImageProblem, match="copy the file again"):
        load(file)


def archive(members: dict[str, bytes], **manifest: object) -> bytes:
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    said = {"format": 1, "docker": [], "trees": [], "bases": [], "sha256": sums, **manifest}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in {"manifest.json": json.dumps(said).encode(), **members}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"not a tar",
        archive({}, format=2),
        archive({"../outside": b"x"}),
        archive({"a/b": b"x"}),
        archive({}, trees=["../../outside"]),
        archive({}, bases=["/etc"]),
        archive({"x": b"1"}, sha256={}),
    ],
)
def test_other_and_hostile_files_are_refused(small_cache: Path, data: bytes) -> None:
    before = sorted(path.name for path in small_cache.rglob("*"))
    (small_cache / "file").write_bytes(data)
    with pytest.raises(ImageProblem):
        load(small_cache / "file")
    after = sorted(path.name for path in small_cache.rglob("*"))
    assert [name for name in after if name not in before] in (["file"], [".archive.lock", "file"])


def test_an_unknown_image_is_named(small_cache: Path) -> None:
    with pytest.raises(ImageProblem, match="no image `nonsense`"):
        save(small_cache / "file", ["nonsense"])
    assert not (small_cache / "file").exists()


def test_the_commands(small_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.main import cli

    file = str(small_cache / "images.tar")
    done = CliRunner().invoke(cli, ["sandbox", "save", file, "environment-aaaaaaaaaaaa"])
    assert (done.exit_code, "bubblewrap: environment-aaaaaaaaaaaa" in done.output) == (0, True)
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(small_cache / "other"))
    done = CliRunner().invoke(cli, ["sandbox", "load", file, "--json"])
    assert json.loads(done.stdout)["bubblewrap"] == ["environment-aaaaaaaaaaaa"]
    done = CliRunner().invoke(cli, ["sandbox", "load", str(small_cache / "none")])
    assert (done.exit_code, "can't be read" in done.stderr) == (1, True)


def test_environments_are_listed_and_pruned(small_cache: Path) -> None:
    from cli.main import cli

    listed = CliRunner().invoke(cli, ["sandbox", "list", "--json"])
    assert [Path(path).name[-1] for path in sorted(json.loads(listed.stdout)["environments"])] == ["a", "b"]
    pruned = CliRunner().invoke(cli, ["sandbox", "prune", "--images", "--json"])
    assert [one["what"] for one in json.loads(pruned.stdout)["removed"]].count("cache image") == 2
    assert [path.name for path in images_dir().iterdir() if not path.name.startswith(".")] == []


def test_a_base_tar_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    monkeypatch.setenv("CONTAINER_HOST", "unix:///nonexistent")
    from sandbox.images import cached_bases, recipe

    digest = recipe().digest
    (images_dir() / f"base-{digest}.tar").write_bytes(b"tar")
    note = {"digest": digest, "suite": "bookworm", "packages": ["x"], "architecture": "x86_64"}
    (images_dir() / f"base-{digest}.json").write_text(json.dumps(note))
    save(tmp_path / "file")
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "other"))
    assert load(tmp_path / "file").bases == (f"base-{digest}",)
    assert base_tar().read_bytes() == b"tar" and [base.digest for base in cached_bases()] == [digest]


@pytest.mark.podman
def test_several_images_go_through_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers a load with all the names in one line, which is no name."""
    need("podman")
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    from sandbox.images.engine import connect

    client = connect("podman")
    mark = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
    tags = [f"docker.io/patchwright-tests/{name}:{mark}" for name in ("one", "two")]
    file = tmp_path / "images.tar"
    try:
        for tag in tags:
            assert client.images.get(BASE_IMAGE).tag(*tag.rsplit(":", 1))
        assert save(file, tags, kind="podman").docker == tuple(tags)
        for tag in tags:
            client.images.remove(tag)
        assert load(file, kind="podman").docker == tuple(tags)
        assert all(client.images.get(tag).id == client.images.get(BASE_IMAGE).id for tag in tags)
    finally:
        for tag in tags:
            client.images.remove(tag, force=True)
        client.close()
