"""Another OCI runtime than the engine's own (gVisor's `runsc`, Kata): whether this engine has it, what it needs.

Left out: what holds under such a runtime (docs/sandboxes.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.base import SandboxUnavailable
from sandbox.docker_engine import Engine

_HOSTS_KERNEL = {"runc", "crun", "youki", "io.containerd.runc.v2"}
_OWN_PROCESSES = 512  # threads of such a runtime itself; gVisor takes a process of the host for each inside, and more
_INSTALL = {
    "runsc": "gVisor's `runsc` (Debian: `apt-get install runsc`)",
    "kata": "Kata Containers (a release's archive, https://katacontainers.io)",
}


def check_runtime(engine: Engine, wanted: str | None) -> None:
    """Raises SandboxUnavailable when a container wouldn't get this runtime: it must never get a weaker one unsaid."""
    if wanted is None or wanted == engine.runtime:
        return
    if engine.name == "Podman":
        # Its Docker-compatible socket takes the setting and passes over it (seen with 4.3).
        raise SandboxUnavailable(
            f"Podman's socket can't choose the runtime {wanted!r} for one container; its own is {engine.runtime!r}. "
            f"Install {_program(wanted)} and start the service with it: `podman --runtime {wanted} system service`, "
            f'or `runtime = "{wanted}"` below `[engine]` in containers.conf.'
        )
    if wanted in engine.runtimes or wanted.startswith("io.containerd."):  # shims needn't be registered
        return
    known = ", ".join(engine.runtimes) or "none"
    raise SandboxUnavailable(
        f"The Docker engine has no runtime {wanted!r}; it knows: {known}. Install {_program(wanted)}, register it "
        f'(`"runtimes": {{"{wanted}": {{"path": "/usr/bin/{wanted}"}}}}` in /etc/docker/daemon.json) and start the '
        'engine again; docs/sandboxes.md, "Stronger runtimes", has what to know.'
    )


def has_own_kernel(runtime: str | None) -> bool:
    """Whether what runs inside sees another kernel than the host's: the engine's limits then hold around that."""
    return runtime is not None and runtime not in _HOSTS_KERNEL


def settings(docker: Mapping[str, Any], runtime: str | None) -> dict[str, Any]:
    """A container's settings for this runtime: room for what the runtime itself starts; the guest counts inside."""
    if not has_own_kernel(runtime):
        return dict(docker)
    return {**docker, "pids_limit": 2 * docker["pids_limit"] + _OWN_PROCESSES}


def _program(wanted: str) -> str:
    return next((text for name, text in _INSTALL.items() if wanted.startswith(name)), f"`{wanted}`")
