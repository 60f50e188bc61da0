"""The container image: built on a base made here, run as it is shipped, from a label to a pull request, and stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("starlette", reason="needs the extra `service`")
pytest.importorskip("uvicorn", reason="needs the extra `service`")
pytest.importorskip("cryptography", reason="needs the extra `service`")

from agent.forges.fake.server import fake_forge
from sandbox.base import SandboxUnavailable
from sandbox.docker_engine import connect
from sandbox.images import base_image
from tests.runs.harness import BUGGY, ISSUE, fixing_turns, served
from tests.service.bot.conftest import SLUG
from tests.service.bot.test_process import SECRET, free_port
from tests.service.deploy.runner import ROOT, until

pytestmark = [pytest.mark.heavy, pytest.mark.docker, pytest.mark.timeout(1200)]
_PARTS = ("agent", "cli", "evals", "runtime", "sandbox", "service", "tools", "deploy")
USER = 10001


@pytest.fixture
def client() -> Iterator[Any]:
    try:
        found = connect()
    except SandboxUnavailable as error:
        pytest.skip(f"no Docker engine: {error}")
    yield found
    found.close()


@pytest.fixture
def image(client: Any, tmp_path: Path) -> Iterator[str]:
    """Built as docs/deploy.md says, with this machine's index and CA. Both stages are named, to be removed."""
    context = tmp_path / "context"
    for part in _PARTS:
        shutil.copytree(ROOT / part, context / part, ignore=shutil.ignore_patterns("__pycache__", "secrets", "*.env"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, context / name)
    if bundle := os.environ.get("SSL_CERT_FILE"):
        shutil.copy(bundle, context / "deploy" / "ca" / "here.crt")
    name = f"patchwright/test-{uuid.uuid4().hex[:12]}"
    command = ["docker", "build", "-q", "--network", "host", "-f", "deploy/Dockerfile",
               "--build-arg", f"BASE={base_image(client)}"]  # fmt: skip
    if index := os.environ.get("PIP_INDEX_URL"):
        command += ["--build-arg", f"PIP_INDEX_URL={index}"]
    try:
        for more in (["--target", "build", "-t", f"{name}-build"], ["-t", name]):
            done = subprocess.run(
                [*command, *more, "."], cwd=context, capture_output=True, text=True, timeout=900, check=False
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield name
    finally:
        for one in (name, f"{name}-build"):
            subprocess.run(["docker", "rmi", "-f", one], capture_output=True, check=False)


@asynccontextmanager
async def running(client: Any, image: str, secrets: dict[str, Path], told: dict[str, str]) -> AsyncIterator[Any]:
    """As compose runs it: another user, a root that can't be written, no capability; secrets are files."""
    volume = client.volumes.create(f"patchwright-test-{uuid.uuid4().hex[:12]}")
    mounts = {str(file): {"bind": f"/run/secrets/{name}", "mode": "ro"} for name, file in secrets.items()}
    container = client.containers.create(
        image, network_mode="host", read_only=True, tmpfs={"/tmp": "size=256m"}, cap_drop=["ALL"], init=True,
        security_opt=["no-new-privileges"], mem_limit="2g", pids_limit=512, environment=told,
        volumes={volume.name: {"bind": "/var/lib/patchwright", "mode": "rw"}, **mounts},
    )  # fmt: skip
    try:
        await asyncio.to_thread(container.start)
        yield container
    finally:
        await asyncio.to_thread(container.remove, force=True)
        await asyncio.to_thread(volume.remove)


async def test_the_image_works_as_another_user_on_a_root_that_it_cannot_write(
    client: Any, image: str, tmp_path: Path
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with served(fixing_turns()) as model:
        async with fake_forge(tmp_path / "forge") as forge, httpx2.AsyncClient() as web:
            await forge.add_repository(SLUG, BUGGY)
            forge.grant(SLUG, "mia", "write")
            app = await forge.add_app("patchwright", hook=f"{address}/webhooks/github", secret=SECRET)
            forge.install(app.id, SLUG)
            secrets = {"app.pem": tmp_path / "app.pem", "webhook-secret": tmp_path / "webhook-secret"}
            for name, text in (("app.pem", app.key), ("webhook-secret", SECRET)):
                secrets[name].write_text(text)
                secrets[name].chmod(0o444)
            told = {
                "PATCHWRIGHT_HOST": "127.0.0.1", "PATCHWRIGHT_PORT": str(port), "PATCHWRIGHT_MODEL": model.url,
                "PATCHWRIGHT_GITHUB_API": forge.api, "PATCHWRIGHT_GITHUB_APP_ID": str(app.id),
                "PATCHWRIGHT_GITHUB_APP_KEY_FILE": "/run/secrets/app.pem", "PATCHWRIGHT_SANDBOX": "none",
                "PATCHWRIGHT_WEBHOOK_SECRET_FILE": "/run/secrets/webhook-secret", "PATCHWRIGHT_MAX_STEPS": "20",
            }  # fmt: skip
            async with running(client, image, secrets, told) as container:
                await _until_ready(web, address, container)
                title, _, body = ISSUE.partition("\n\n")
                number = await forge.open_issue(SLUG, "uma", title, body)
                await forge.label(SLUG, number, "mia", "patchwright")
                await until(forge, lambda: "See #" in "".join(note.body for note in forge.repo(SLUG).notes))
                assert [one.pull.draft for one in forge.repo(SLUG).threads if one.pull] == [True]
                async with asyncio.timeout(120):
                    while container.attrs["State"]["Health"]["Status"] != "healthy":
                        await asyncio.sleep(0.5)
                        await asyncio.to_thread(container.reload)
                ids = await asyncio.to_thread(container.exec_run, ["id", "-u"])
                assert ids.output.decode().strip() == str(USER)
                written = await asyncio.to_thread(container.exec_run, ["touch", "/opt/patchwright/x"])
                assert written.exit_code != 0
                await asyncio.to_thread(container.stop, timeout=120)
                await asyncio.to_thread(container.reload)
                assert container.attrs["State"]["ExitCode"] == 0, container.logs().decode()
    history = client.images.get(image).history()
    assert SECRET not in str(history)


async def _until_ready(web: httpx2.AsyncClient, address: str, container: Any) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                if (await web.get(f"{address}/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.to_thread(container.reload)
            assert container.status == "running", container.logs().decode()
            await asyncio.sleep(0.2)
