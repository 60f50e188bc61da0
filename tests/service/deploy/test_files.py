"""Compose, units, the proxy's file: read as their programs read them, and compared with what the service knows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.service.deploy.runner import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
_KEYS = {
    "image", "build", "command", "environment", "env_file", "secrets", "volumes", "tmpfs", "read_only", "init",
    "cap_drop", "cap_add", "security_opt", "restart", "logging", "networks", "ports", "depends_on", "mem_limit",
    "pids_limit", "cpus", "stop_grace_period", "healthcheck", "group_add", "profiles", "extends", "shm_size",
}  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_compose_names_only_what_there_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, one in services.items():
        assert set(one) <= _KEYS, name
        assert set(one.get("networks", [])) <= set(compose["networks"])
        assert set(one.get("secrets", [])) <= set(compose["secrets"])
        assert set(one.get("depends_on", {})) <= set(services)
        for volume in one.get("volumes", []):
            source = re.sub(r"\$\{[^}]*:-([^}]*)\}", r"\1", volume).split(":")[0]
            assert source in compose["volumes"] or source.startswith(("./", "/")), volume
            if source.startswith("./"):
                assert (DEPLOY / source).exists()
    extended = services["model"]["extends"]
    other = yaml.safe_load((DEPLOY / extended["file"]).read_text())
    assert extended["service"] in other["services"]
    assert set(other["volumes"]) <= set(compose["volumes"])
    router = yaml.safe_load((DEPLOY / "compose.router.yaml").read_text())["services"]
    eight = yaml.safe_load((ROOT / "docs" / "serving" / "compose.eight-80-gb-cards.yaml").read_text())["services"]
    assert set(router) == set(eight)


def test_everything_restarts_is_watched_and_bounded(compose: dict[str, Any]) -> None:
    for name, one in compose["services"].items():
        if name == "model":  # docs/serving has its own
            continue
        assert one["restart"] == "unless-stopped"
        assert "no-new-privileges:true" in one["security_opt"]
        assert "mem_limit" in one
        assert "healthcheck" in one or name == "web"  # the image's own
        assert one["depends_on"] if name in ("web", "worker", "caddy") else True


def test_only_the_proxy_is_reached_from_outside(compose: dict[str, Any]) -> None:
    public = {
        name for name, one in compose["services"].items()
        if any(not port.startswith("127.0.0.1:") for port in one.get("ports", []))
    }  # fmt: skip
    assert public == {"caddy"}
    assert compose["networks"]["inside"] == {"internal": True}
    assert compose["services"]["postgres"]["networks"] == ["inside"]


def test_secrets_are_files(compose: dict[str, Any]) -> None:
    example = (DEPLOY / "patchwright.env.example").read_text()
    told = {**compose["services"]["web"]["environment"], **compose["services"]["postgres"]["environment"]}
    for name in told | dict.fromkeys(re.findall(r"^(\w+)=", example, re.MULTILINE), ""):
        if re.search(r"SECRET|KEY|TOKEN|PASSWORD|DATABASE", name):
            assert name.endswith("_FILE"), name


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
def test_compose_reads_it(tmp_path: Path) -> None:
    """Debian's docker-compose is of an age at which a file had no name."""
    (tmp_path / "deploy" / "secrets").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "docs" / "serving", tmp_path / "docs" / "serving")
    for file in DEPLOY.glob("compose*.yaml"):
        shutil.copy(file, tmp_path / "deploy")
    for file in [*tmp_path.rglob("compose*.yaml")]:
        file.write_text(re.sub(r"(?m)^name:.*\n", "", file.read_text()))
    shutil.copy(DEPLOY / "patchwright.env.example", tmp_path / "deploy" / "patchwright.env")
    first = ["-f", "deploy/compose.yaml"]
    eight = ["-f", "docs/serving/compose.eight-80-gb-cards.yaml", "-f", "deploy/compose.router.yaml"]
    for files in (first, [*first, *eight]):
        command = ["docker-compose", *files, "config", "-q"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_hardened_and_their_secrets_are_credentials(unit: Path) -> None:
    text = unit.read_text()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes",
                 "CapabilityBoundingSet=", "RestrictNamespaces=yes", "Restart=always"):  # fmt: skip
        assert f"\n{line}\n" in text
    for name in re.findall(r"%d/([\w.-]+)", text):
        assert f"LoadCredential={name}:/etc/patchwright/{name}" in text
    verb = "worker" if "worker" in unit.name else "start"
    assert f"/opt/patchwright/bin/agent service {verb}\n" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_units(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-600:]


def test_lists_are_pinned_with_hashes_and_are_those_that_tests_run_with() -> None:
    pins = {name: _pins(path) for name, path in {
        "dev": ROOT / "requirements" / "dev.txt", "service": DEPLOY / "requirements.txt"}.items()}  # fmt: skip
    assert pins["service"].items() <= pins["dev"].items()
    for path in (DEPLOY / "requirements.txt", DEPLOY / "build-requirements.txt"):
        blocks = re.findall(r"(?m)^[a-z0-9._-]+==.*(?:\n .*)*", path.read_text())
        assert blocks
        assert all("--hash=sha256:" in block for block in blocks)


def _pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)==([^ \\]+)", path.read_text()))


def test_the_image_is_made_of_nothing_that_is_secret() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"(?m)^COPY (?!--from)(.*)$", text) for word in line.split()[:-1]}
    assert {f"!{word.rstrip('/')}" for word in copied if "requirements" not in word} <= set(ignored)
    assert re.search(r"(?m)^USER 10001:10001$", text)
    assert not re.search(r"(SECRET|TOKEN|PASSWORD)", text)
