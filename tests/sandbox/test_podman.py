"""Podman: where its service is looked for, and what it wants otherwise than Docker."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandbox import podman
from sandbox.base import SandboxUnavailable
from sandbox.choose import available, open_sandbox
from sandbox.docker_engine import Engine, connect, look
from sandbox.docker_settings import container_settings
from sandbox.policy import SandboxSpec
from tests.sandbox.kinds import SPEC, need


def test_the_address_that_is_said() -> None:
    assert podman.address({"CONTAINER_HOST": "unix:///x/y.sock", "XDG_RUNTIME_DIR": "/run"}) == "unix:///x/y.sock"
    assert podman.address({"CONTAINER_HOST": "tcp://127.0.0.1:1"}) == "tcp://127.0.0.1:1"
    with pytest.raises(ValueError, match="ssh -L"):
        podman.address({"CONTAINER_HOST": "ssh://host/run/podman/podman.sock"})


def test_the_usual_socket(tmp_path: Path) -> None:
    path = tmp_path / "podman/podman.sock"
    path.parent.mkdir()
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    path.touch()  # no socket
    if not Path("/run/podman/podman.sock").is_socket() and not Path(f"/run/user/{os.getuid()}/podman").exists():
        with pytest.raises(FileNotFoundError, match=f"no socket at {path} or "):
            podman.address(env)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert podman.address(env) == f"unix://{path}"


async def test_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_HOST", "unix:///nonexistent/podman.sock")
    with pytest.raises(SandboxUnavailable, match=r"podman system service.*CONTAINER_HOST"):
        await open_sandbox("podman", SPEC)
    fact = next(fact for fact in available() if fact.kind == "podman")
    assert not fact.usable
    assert "podman.socket" in fact.todo


@pytest.mark.parametrize(("rootless", "bounds"), [(False, True), (True, True), (True, False)])
def test_settings(rootless: bool, bounds: bool) -> None:
    docker = container_settings(SandboxSpec(), 2.0)
    own = podman.settings(docker, rootless=rootless, bounds=bounds)
    for name in ("network_mode", "read_only", "cap_drop", "security_opt", "privileged", "ipc_mode", "labels"):
        assert own[name] == docker[name], "the hardening is the same"
    assert own["security_opt"] == ["no-new-privileges"]
    for path, options in own["tmpfs"].items():
        words = options.split(",")
        assert any(word.startswith("size=") for word in words), path
        assert {"nosuid", "nodev", "notmpcopyup"} <= set(words), path
        assert ("U" in words and "rw" in words) or "ro" in words, path
        assert not [word for word in words if word.startswith(("uid=", "gid=", "nr_inodes="))], path
    assert own["tmpfs"].keys() - docker["tmpfs"].keys() == {"/run", "/var/tmp"}
    assert ("mem_limit" in own, "pids_limit" in own) == (bounds, bounds)
    assert (own["user"] == "1000:1000") or not rootless


@pytest.mark.podman
async def test_docker_host_may_be_podmans(monkeypatch: pytest.MonkeyPatch) -> None:
    need("podman")
    monkeypatch.setenv("DOCKER_HOST", podman.address())
    async with await open_sandbox("docker", SPEC) as box:  # type: ignore[attr-defined]
        assert box.kind == "docker"
        assert (await box.run("id -u")).output == b"1000\n"
        await box.write("f", b"x")
    client = connect("docker")
    engine = look(client)
    client.close()
    assert engine.name == "Podman"
    assert "Podman" in next(fact for fact in available() if fact.kind == "docker").said


@pytest.mark.podman
async def test_on_the_host_it_is_neither_root_nor_the_service() -> None:
    need("podman")
    client = connect("podman")
    engine: Engine = look(client)
    client.close()
    async with await open_sandbox("podman", SPEC) as box:  # type: ignore[attr-defined]
        await box.run("sleep 4403 &")
        found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _reads(path) == b"sleep\0004403\0"]
        assert found
        fields = (found[0].parent / "status").read_text()
        (uid,) = {int(word) for line in fields.splitlines() if line.startswith("Uid:") for word in line.split()[1:]}
        assert uid >= 65536 if engine.rootless else uid == 1000


def _reads(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
