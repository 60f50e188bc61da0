"""Dockerfile builds: what goes in, what is kept out, what is said when they fail."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.base import ImageProblem
from sandbox.images import ImageConfig, bounds, resolve_image
from sandbox.images.build_settings import BuildSettings, build_settings, declare, serving_wheels
from sandbox.images.dockerfile import _pack, advice, base_images
from sandbox.policy import BASE_IMAGE
from tests.sandbox.kinds import need

if TYPE_CHECKING:
    from docker import DockerClient


def test_settings_with_passwords_or_local_paths_stay_out() -> None:
    found = build_settings(
        {
            "PIP_INDEX_URL": "https://me:secret@index.example/simple",
            "PIP_EXTRA_INDEX_URL": "file:///srv/index",
            "PIP_DEFAULT_TIMEOUT": "180",
            "HTTPS_PROXY": "http://me:secret@proxy.example:3128",
            "SECRET_TOKEN": "x",
        }
    )
    assert found.arguments["PIP_DEFAULT_TIMEOUT"] == "180"
    assert "secret" not in str(found.arguments) and "PIP_EXTRA_INDEX_URL" not in found.arguments
    assert found.proxies == {"HTTPS_PROXY": "http://me:secret@proxy.example:3128"}
    assert len(found.left_out) == 2 and "secret" not in str(found.left_out)


def test_the_certificate_bundle_and_wheel_folders_are_found(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("x")
    links = f"{tmp_path} /nowhere https://wheels.example/"
    found = build_settings({"PIP_CERT": "/nowhere.pem", "SSL_CERT_FILE": str(bundle), "PIP_FIND_LINKS": links})
    assert found.ca_bundle == bundle and found.wheels == (tmp_path,)
    assert found.arguments["PIP_CERT"] == found.arguments["REQUESTS_CA_BUNDLE"] != str(bundle)
    assert found.arguments["PIP_FIND_LINKS"] == "https://wheels.example/"


def test_every_stage_gets_the_settings() -> None:
    text = "# hello\nFROM a AS one\nRUN x\nfrom --platform=linux/amd64 \\\n  b\nRUN echo FROM c\n"
    declared = declare(text, BuildSettings(arguments={"PIP_CERT": "/host/ca", "A": "1"}, ca_bundle=Path("/x")))
    copy = "COPY .patchwright-build/ca.crt /usr/local/share/patchwright/build-ca.crt"
    added = f"{copy}\nARG A\nARG PIP_CERT\n"
    assert declared == (
        f"# hello\nFROM a AS one\n{added}RUN x\nfrom --platform=linux/amd64 \\\n  b\n{added}RUN echo FROM c\n"
    )
    assert "/host" not in declared


def test_base_images_of_all_stages() -> None:
    text = "FROM a AS one\nfrom --platform=linux/amd64 \\\n  b:1\nFROM a\nRUN echo FROM c\n"
    assert base_images(text) == ["a", "b:1"]


def test_wheels_are_served_while_a_build_runs_and_not_after(tmp_path: Path) -> None:
    (tmp_path / "x-1-py3-none-any.whl").write_bytes(b"wheel")
    with serving_wheels(BuildSettings(wheels=(tmp_path,))) as arguments:
        url = arguments["PIP_FIND_LINKS"]
        assert url.startswith("http://127.0.0.1:") and arguments["PIP_TRUSTED_HOST"] == "127.0.0.1"
        assert b"x-1-py3-none-any.whl" in urllib.request.urlopen(url, timeout=10).read()
        assert urllib.request.urlopen(f"{url}x-1-py3-none-any.whl", timeout=10).read() == b"wheel"
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=10)


def packed(folder: Path) -> tuple[str, list[str]]:
    file = io.BytesIO()
    digest = _pack(folder, file).digest
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        return digest, tar.getnames()


def test_the_context_has_no_times_owners_or_history_and_follows_dockerignore(tmp_path: Path) -> None:
    for name in ("src/a.py", ".git/HEAD", "build/big", "Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text("# comment\nbuild\n\n")
    digest, names = packed(tmp_path)
    assert {"src/a.py", "Dockerfile"} < set(names)
    assert not [name for name in names if name.startswith((".git/", "build/"))]
    os.utime(tmp_path / "src/a.py", (1, 1))
    assert packed(tmp_path)[0] == digest
    (tmp_path / "src/a.py").chmod(0o755)
    assert packed(tmp_path)[0] != digest


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("SSLError: CERTIFICATE_VERIFY_FAILED", "PIP_CERT"),
        ("Temporary failure in name resolution", "network"),
        ("ERROR: No matching distribution found for x", "version"),
        ("write: no space left on device", "docker system df"),
        ("pull access denied for x", "docker load"),
        ("something else", "by hand"),
    ],
)
def test_advice_fits_the_failure(line: str, word: str) -> None:
    assert word in advice(f"before\n{line}\nafter")


def test_bubblewrap_says_what_it_cannot_build(tmp_path: Path) -> None:
    with pytest.raises(ImageProblem, match="--sandbox docker"):
        asyncio.run(resolve_image("bubblewrap", config=ImageConfig(dockerfile="Dockerfile"), context=tmp_path))
    with pytest.raises(ImageProblem, match="root file system"):
        asyncio.run(resolve_image("bubblewrap", image=str(tmp_path)))
    (tmp_path / "usr/bin").mkdir(parents=True)
    assert asyncio.run(resolve_image("bubblewrap", image=str(tmp_path))) == str(tmp_path)
    assert asyncio.run(resolve_image("bubblewrap", image="host")) == "host"


def test_other_kinds() -> None:
    assert asyncio.run(resolve_image("none")) == ""
    with pytest.raises(ImageProblem, match="no sandbox of kind"):
        asyncio.run(resolve_image("lxc"))


@pytest.fixture
def client() -> Iterator[DockerClient]:
    need("docker")
    from sandbox.images.engine import connect

    client = connect()
    yield client
    client.close()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A repository whose content no other test has, so that nothing is found that another test built."""
    (tmp_path / "unique").write_text(str(tmp_path))
    return tmp_path


def resolve(context: Path, **config: str) -> str:
    return asyncio.run(resolve_image("docker", config=ImageConfig(**config), context=context))


def files_in(client: DockerClient, tag: str, path: str) -> dict[str, str]:
    """The files at a path of an image: name -> text. Starts nothing."""
    container = client.containers.create(tag, ["true"])
    try:
        raw = b"".join(container.get_archive(path)[0])
    finally:
        container.remove()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        found = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read().decode() for name, file in found.items() if file is not None}


@pytest.mark.docker
def test_a_dockerfile_is_built_once_and_again_when_its_inputs_change(client: DockerClient, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nCOPY unique /unique\n")
    made = []
    try:
        made.append(resolve(context, dockerfile="Dockerfile"))
        first = client.images.get(made[0])
        assert resolve(context, dockerfile="Dockerfile") == made[0]
        assert client.images.get(made[0]).id == first.id
        (context / "unique").write_text("changed")
        made.append(resolve(context, dockerfile="Dockerfile"))
        assert made[0] != made[1]
        assert files_in(client, made[1], "/unique") == {"unique": "changed"}
    finally:
        for tag in made:
            client.images.remove(tag)


@pytest.mark.docker
def test_a_failing_step_is_named_with_its_last_lines(client: DockerClient, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nRUN echo fine\nRUN echo about to fail && exit 7\n")
    with pytest.raises(ImageProblem) as caught:
        resolve(context, dockerfile="Dockerfile")
    text = str(caught.value)
    assert "`RUN echo about to fail && exit 7`" in text and "| about to fail" in text and "code: 7" in text
    assert "| fine" not in text and "Try: " in text


@pytest.mark.docker
def test_a_step_has_a_bound_on_memory(client: DockerClient, context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "most_of", lambda memory: 64 << 20)
    (context / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nRUN python3 -c 'x = bytearray(1 << 30); print(len(x))'\n")
    with pytest.raises(ImageProblem, match="137"):
        resolve(context, dockerfile="Dockerfile")


@pytest.mark.docker
def test_a_setup_command_keeps_what_it_installs_and_not_the_repository(client: DockerClient, context: Path) -> None:
    setup = "cp unique /opt/installed\ntouch made-here"
    tag = resolve(context, setup=setup)
    try:
        assert files_in(client, tag, "/opt/installed") == {"installed": str(context)}
        assert files_in(client, tag, "/workspace") == {}
    finally:
        client.images.remove(tag)


@pytest.mark.docker
def test_passwords_and_host_paths_are_not_in_the_history(
    client: DockerClient, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:hunter2@index.example/simple")
    monkeypatch.setenv("HTTP_PROXY", "http://me:hunter2@proxy.example")
    (context / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nRUN env > /seen\n")
    tag = resolve(context, dockerfile="Dockerfile")
    try:
        assert "hunter2" not in str(client.api.history(tag)) + str(client.api.inspect_image(tag))
        seen = files_in(client, tag, "/seen")["seen"]
        assert "HTTP_PROXY=http://me:hunter2@proxy.example" in seen and "PIP_INDEX_URL" not in seen
        env = str(client.images.get(tag).attrs["Config"]["Env"])
        assert "PATH=" in env and "PIP_" not in env and "PROXY" not in env
    finally:
        client.images.remove(tag)


@pytest.mark.docker
@pytest.mark.parametrize("name", ["../outside/Dockerfile", "missing", "."])
def test_a_dockerfile_outside_the_repository_is_refused(client: DockerClient, context: Path, name: str) -> None:
    repository = context / "repository"
    repository.mkdir()
    (context / "outside").mkdir()
    (context / "outside/Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(ImageProblem, match="no Dockerfile"):
        resolve(repository, dockerfile=name)


@pytest.mark.docker
def test_an_unknown_image_says_how_to_get_one(client: DockerClient) -> None:
    with pytest.raises(ImageProblem, match="docker load"):
        asyncio.run(resolve_image("docker", image="patchwright-tests.invalid/none:1"))


@pytest.mark.docker
def test_image_and_dockerfile_together_are_refused(client: DockerClient, context: Path) -> None:
    with pytest.raises(ImageProblem, match="both"):
        resolve(context, image="x", dockerfile="y")


def test_the_engine_script_explains_itself() -> None:
    script = Path(__file__).parents[3] / "scripts/docker-engine.sh"
    done = subprocess.run([shutil.which("bash") or "bash", script], capture_output=True, text=True)
    assert done.returncode == 2 and "wipe" in done.stderr
